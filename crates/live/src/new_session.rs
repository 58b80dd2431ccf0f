//! A session on its way to its shard: what comes through the shard's inbox.

use std::sync::Arc;

use bytes::Bytes;
use tidings_model::app::App;
use tidings_model::channel::SessionId;

use crate::protocol::SessionProtocol;
use crate::session_limiter::SessionPermit;
use crate::transport::Transport;

/// A session on its way to its shard.
pub(crate) struct NewSession {
    pub(crate) id: SessionId,
    pub(crate) app: Arc<App>,
    pub(crate) permit: SessionPermit,
    pub(crate) transport: Transport,
    pub(crate) opening: Opening,
    pub(crate) protocol: Box<dyn SessionProtocol>,
}

/// What comes first.
pub(crate) enum Opening {
    /// Of a WebSocket: what HTTP had read of it already.
    WebSocket(Bytes),
    /// Of a response: its head, if that is not sent by others. What the client sends means nothing.
    Stream(Bytes),
}

impl std::fmt::Debug for NewSession {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("NewSession").field(&self.id).finish()
    }
}
