//! Whether the client is still there: asked when nothing was heard of it for a while.

use bytes::Bytes;
use tidings_live::Context;
use tidings_model::clock::Millis;

use crate::door::Patience;

/// The close code when none comes.
pub(super) const PONG_MISSING: u16 = 4201;

/// Since when we wait for a sign of life, if we do. The timer is set anew only when it fires, not whenever something is heard.
#[derive(Debug)]
pub(super) struct Activity {
    patience: Patience,
    asked: Option<Millis>,
}

impl Activity {
    pub(super) fn new(patience: Patience) -> Self {
        Self { patience, asked: None }
    }

    /// What clients are told: after so many seconds of silence they ask for a sign of life, and so do we.
    pub(super) fn told(&self) -> u32 {
        self.patience.activity
    }

    /// When to look for the first time.
    pub(super) fn begin(&self, cx: &Context<'_>) -> Millis {
        cx.now() + seconds(self.patience.activity)
    }

    /// Looks, and asks if need be. When to look again; `None` if the client was asked and has not answered in time.
    pub(super) fn woken(&mut self, cx: &mut Context<'_>, ping: &Bytes) -> Option<Millis> {
        let (now, heard) = (cx.now(), cx.heard());
        let (activity, pong) = (seconds(self.patience.activity), seconds(self.patience.pong));
        match self.asked {
            // Bytes of any kind are a sign of life, frames of WebSocket's own among them.
            Some(asked) if heard < asked => (now < asked + pong).then_some(asked + pong),
            _ if now < heard + activity => {
                self.asked = None;
                Some(heard + activity)
            }
            _ => {
                self.asked = Some(now);
                cx.write(ping.clone());
                Some(now + pong)
            }
        }
    }
}

fn seconds(seconds: u32) -> Millis {
    Millis::from(seconds) * 1_000
}
