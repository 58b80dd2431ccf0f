//! A session on its way to its shard, as it travels through the shard's inbox.

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

/// What the shard handles before the first event of the socket.
pub(crate) enum Opening {
    /// A WebSocket: the bytes behind the handshake that HTTP had already read.
    WebSocket(Bytes),
    /// A streamed response: its head, or nothing if an HTTP server sends the head. Bytes from the client are ignored.
    Stream(Bytes),
}

impl std::fmt::Debug for NewSession {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("NewSession").field(&self.id).finish()
    }
}
