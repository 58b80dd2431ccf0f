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

/// How a client is found when the timer fires.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Found {
    /// It was heard of, or has time to answer.
    There,
    /// It was asked, and has not answered.
    Gone,
}

impl Found {
    pub(super) fn is_gone(self) -> bool {
        self == Self::Gone
    }
}

impl Activity {
    pub(super) fn new(patience: Patience) -> Self {
        Self { patience, asked: None }
    }

    /// What clients are told: after so many seconds of silence they ask for a sign of life, and so do we.
    pub(super) fn told(&self) -> u32 {
        self.patience.activity
    }

    pub(super) fn begin(&mut self, cx: &mut Context<'_>) {
        cx.wake_at(cx.now() + seconds(self.patience.activity));
    }

    pub(super) fn woken(&mut self, cx: &mut Context<'_>, ping: &Bytes) -> Found {
        let (now, heard) = (cx.now(), cx.heard());
        let (activity, pong) = (seconds(self.patience.activity), seconds(self.patience.pong));
        match self.asked {
            // Bytes of any kind are a sign of life, frames of WebSocket's own among them.
            Some(asked) if heard < asked && now >= asked + pong => return Found::Gone,
            Some(asked) if heard < asked => cx.wake_at(asked + pong),
            _ if now < heard + activity => {
                self.asked = None;
                cx.wake_at(heard + activity);
            }
            _ => {
                self.asked = Some(now);
                cx.write(ping.clone());
                cx.wake_at(now + pong);
            }
        }
        Found::There
    }
}

fn seconds(seconds: u32) -> Millis {
    Millis::from(seconds) * 1_000
}
