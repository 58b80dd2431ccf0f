//! A connection that is refused: the reason has to arrive inside the WebSocket, because that is where clients look for it.

use std::sync::Arc;

use tidings_broker::{JoinRefused, Welcome};
use tidings_live::{Answer, Closing, Context, Message, SessionProtocol};
use tidings_model::channel::ChannelKey;
use tidings_wire::Prepared;

use crate::wire;

/// Says why, and ends.
#[derive(Debug)]
pub(crate) struct Refused {
    code: u16,
    reason: String,
}

impl Refused {
    pub(crate) fn new(code: u16, reason: impl Into<String>) -> Self {
        Self { code, reason: reason.into() }
    }
}

impl SessionProtocol for Refused {
    fn opened(&mut self, cx: &mut Context<'_>) {
        cx.write(wire::error(Some(self.code), &self.reason));
        cx.close(self.code, self.reason.as_str());
    }

    fn received(&mut self, _: &mut Context<'_>, _: Message<'_>) {}

    fn joined(&mut self, _: &mut Context<'_>, _: u32, _: &ChannelKey, _: Result<Welcome, JoinRefused>) {}

    fn left(&mut self, _: &mut Context<'_>, _: u32, _: &ChannelKey) {}

    fn answered(&mut self, _: &mut Context<'_>, _: u32, _: Answer) {}

    fn said(&mut self, _: &mut Context<'_>, _: &Arc<Prepared>) {}

    fn woken(&mut self, cx: &mut Context<'_>) {
        cx.end();
    }

    fn closing(&mut self, cx: &mut Context<'_>, _: Closing) {
        cx.close(self.code, self.reason.as_str());
    }
}
