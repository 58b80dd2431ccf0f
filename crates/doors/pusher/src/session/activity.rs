//! Whether the client is still there: asked when nothing was heard of it for a while.

use tidings_live::Context;
use tidings_model::clock::Millis;

use crate::wire;

/// What clients are told: after so many seconds of silence they ask for a sign of life, and so do we.
pub(super) const ACTIVITY_TIMEOUT_SECS: u64 = 120;
/// For so long we wait for an answer.
const PONG_TIMEOUT: Millis = 30_000;
/// The close code when none comes.
pub(super) const PONG_MISSING: u16 = 4201;

const ACTIVITY_TIMEOUT: Millis = ACTIVITY_TIMEOUT_SECS as Millis * 1_000;

/// Since when we wait for a sign of life, if we do. The timer is set anew only when it fires, not whenever something is heard.
#[derive(Debug, Default)]
pub(super) struct Activity {
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
    pub(super) fn begin(&mut self, cx: &mut Context<'_>) {
        cx.wake_at(cx.now() + ACTIVITY_TIMEOUT);
    }

    pub(super) fn woken(&mut self, cx: &mut Context<'_>) -> Found {
        let (now, heard) = (cx.now(), cx.heard());
        match self.asked {
            // Bytes of any kind are a sign of life, frames of WebSocket's own among them.
            Some(asked) if heard < asked && now >= asked + PONG_TIMEOUT => return Found::Gone,
            Some(asked) if heard < asked => cx.wake_at(asked + PONG_TIMEOUT),
            _ if now < heard + ACTIVITY_TIMEOUT => {
                self.asked = None;
                cx.wake_at(heard + ACTIVITY_TIMEOUT);
            }
            _ => {
                self.asked = Some(now);
                cx.write(wire::PING.clone());
                cx.wake_at(now + PONG_TIMEOUT);
            }
        }
        Found::There
    }
}
