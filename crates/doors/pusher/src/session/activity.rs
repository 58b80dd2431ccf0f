//! Whether the client is still there, and whether proxies in between can see that it is: asked when one of the two has
//! been silent for a while.
//!
//! A proxy cuts a connection on which nothing has come for a while, a minute with most; some look at what the server
//! sends alone. So a client is asked as soon as either side has been silent: the question and its answer are bytes in
//! both directions. The default of `activity_timeout` leaves a quarter of a minute of that minute.

use bytes::Bytes;
use tidings_live::Context;
use tidings_model::clock::Millis;

use crate::door::KeepAlive;

/// Since when we wait for a sign of life, if we do. The timer is set anew only when it fires, not whenever something is
/// heard.
#[derive(Debug)]
pub(super) struct Activity {
    keep_alive: KeepAlive,
    asked: Option<Millis>,
}

impl Activity {
    pub(super) fn new(keep_alive: KeepAlive) -> Self {
        Self { keep_alive, asked: None }
    }

    /// What clients are told: after so many seconds in which they hear nothing they ask for a sign of life.
    pub(super) fn told(&self) -> u32 {
        self.keep_alive.activity
    }

    /// After so long we ask: an eighth later than clients do, so that those who ask by themselves are not asked as
    /// well.
    fn interval(&self) -> Millis {
        let told = seconds(self.keep_alive.activity);
        told + told / 8
    }

    /// When to look for the first time.
    pub(super) fn begin(&self, cx: &Context<'_>) -> Millis {
        cx.now() + self.interval()
    }

    /// Looks, and asks if need be. When to look again; `None` if the client was asked and has not answered in time.
    pub(super) fn woken(&mut self, cx: &mut Context<'_>, ping: &Bytes) -> Option<Millis> {
        let (now, last_read_at) = (cx.now(), cx.last_read_at());
        let pong = seconds(self.keep_alive.pong);
        // Bytes of any kind are a sign of life, frames of WebSocket's own among them.
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
