//! What sessions ask for, and who answers.

use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;

use tidings_broker::{DeliveryMode, JoinRefused, SessionRef, Since};
use tidings_model::app::App;
use tidings_model::channel::{Member, SessionId, UserId};
use tidings_model::event::Data;

/// Which session asks.
#[derive(Debug, Clone)]
pub struct RequestContext {
    /// Whose it is.
    pub app: Arc<App>,
    /// Which one.
    pub session: SessionId,
    /// Where it is.
    pub at: SessionRef,
    /// The user that it has proved to be.
    pub user: Option<Arc<str>>,
    /// Who the client is, as far as that is known.
    pub client: Option<IpAddr>,
}

/// What a session cannot do alone.
#[derive(Debug, Clone)]
pub enum SessionRequest {
    /// To join a channel. A success comes back as [`crate::SessionProtocol::joined`].
    Join(JoinRequest),
    /// To leave a channel, by its name. Comes back as [`crate::SessionProtocol::left`].
    Leave(Arc<str>),
    /// To say something to the others in a channel.
    Publish(ClientEvent),
}

/// A wish to join.
#[derive(Debug, Clone)]
pub struct JoinRequest {
    /// The channel, as the client wrote it.
    pub channel: Arc<str>,
    /// What the door has verified.
    pub proof: Proof,
    /// Who joins, where that is told.
    pub member: Option<Arc<Member>>,
    /// What of the past is wanted.
    pub since: Option<Since>,
    /// How the session wants to hear.
    pub mode: DeliveryMode,
}

/// What a door has verified of a wish to join.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Proof {
    /// Nothing.
    None,
    /// That the app lets this session into this channel.
    Channel,
    /// That the session is one of the app's own servers, which may join everything.
    Server,
}

/// Something that a client says to the others in a channel.
#[derive(Debug, Clone)]
pub struct ClientEvent {
    /// The channel, as the client wrote it. The session is in it.
    pub channel: Arc<str>,
    /// The event's name.
    pub name: String,
    /// What it carries.
    pub data: Data,
    /// The user, where the others are to know.
    pub user: Option<UserId>,
}

/// How a request ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SessionResponse {
    /// Of [`SessionRequest::Join`]: refused, or on its way through the inbox.
    Join(Result<(), JoinRefused>),
    /// Of [`SessionRequest::Leave`]: on its way through the inbox, or not possible now.
    Leave(Result<(), JoinRefused>),
    /// Of [`SessionRequest::Publish`].
    Publish(Result<(), PublishRefused>),
}

/// Why a client's event was not published.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PublishRefused {
    /// The event cannot be published; the text says why.
    #[error("{0}")]
    Wrong(String),
    /// Sessions cannot keep up; the same may work in a moment.
    #[error("too much is being said at the moment")]
    Overloaded,
    /// The broker cannot be reached; the same may work in a moment.
    #[error("nothing can be said at the moment")]
    Unavailable,
}

/// An answer that may take a while.
pub type ResponseFuture = Pin<Box<dyn Future<Output = SessionResponse> + Send>>;

/// Who answers requests: the bus. The future is first polled by the shard itself; one that is not ready then goes on elsewhere.
pub trait RequestHandler: Send + Sync + 'static {
    /// Takes up what a session asks; `request_id` is what the session calls it.
    fn handle(&self, context: RequestContext, request_id: u32, request: SessionRequest) -> ResponseFuture;
}
