//! Keep-alive: pings a client when either side has been silent for a while, to detect dead connections and to keep
//! proxies from closing live ones.
//!
//! A proxy closes a connection that has been idle for a while, a minute with most; some count only bytes of the server.
//! So the server pings when either side has been silent: ping and pong are bytes in both directions. The default of
//! `activity_timeout` leaves a margin of 15 seconds of that minute.

use bytes::Bytes;
use tidings_live::Context;
use tidings_model::clock::Millis;

use crate::door::KeepAlive;

/// When the server sent a ping that is not answered, if it did. The timer is set again only when it fires, not on every
/// byte that is read.
#[derive(Debug)]
pub(super) struct Activity {
    keep_alive: KeepAlive,
    asked: Option<Millis>,
}

impl Activity {
    pub(super) fn new(keep_alive: KeepAlive) -> Self {
        Self { keep_alive, asked: None }
    }

    /// `activity_timeout` as sent to clients: after this many seconds without a frame, a client pings.
    pub(super) fn told(&self) -> u32 {
        self.keep_alive.activity
    }

    /// The silence after which the server pings: an eighth longer than the clients', so that clients that ping by
    /// themselves are not pinged as well.
    fn interval(&self) -> Millis {
        let told = seconds(self.keep_alive.activity);
        told + told / 8
    }

    /// The time of the first check.
    pub(super) fn begin(&self, cx: &Context<'_>) -> Millis {
        cx.now() + self.interval()
    }

    /// Checks for silence, and pings if needed. Returns the time of the next check; `None` if a pong is overdue.
    pub(super) fn woken(&mut self, cx: &mut Context<'_>, ping: &Bytes) -> Option<Millis> {
        let (now, last_read_at) = (cx.now(), cx.last_read_at());
        let pong = seconds(self.keep_alive.pong);
        // Any bytes count as a pong, including WebSocket control frames.
        if let Some(asked) = self.asked.filter(|asked| last_read_at < *asked) {
            return (now < asked + pong).then_some(asked + pong);
        }
        self.asked = None;
        let due = last_read_at.min(cx.last_write_at()) + self.interval();
        if now < due {
            return Some(due);
        }
        self.asked = Some(now);
        cx.write(ping.clone());
        Some(now + pong.min(self.interval()))
    }
}

fn seconds(seconds: u32) -> Millis {
    Millis::from(seconds) * 1_000
}
