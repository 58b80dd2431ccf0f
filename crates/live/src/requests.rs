//! Requests of sessions, and the handler that answers them.

use std::any::Any;
use std::fmt;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;

use tidings_broker::{DeliveryMode, JoinRefused, SessionRef, Since};
use tidings_model::app::App;
use tidings_model::channel::{Member, SessionId, UserId};
use tidings_model::event::Data;

/// The session that makes a request.
#[derive(Debug, Clone)]
pub struct RequestContext {
    /// The app that the session belongs to.
    pub app: Arc<App>,
    /// The session's public id.
    pub session: SessionId,
    /// The session's shard and slot, where the broker sends the outcome of joins and leaves.
    pub at: SessionRef,
    /// The authenticated user.
    pub user: Option<Arc<str>>,
    /// The client's address, if it is known.
    pub client: Option<IpAddr>,
}

/// Something that a session cannot do alone.
#[derive(Debug)]
pub enum SessionRequest {
    /// Join a channel. Ends with [`crate::SessionProtocol::joined`].
    Join(JoinRequest),
    /// Leave the channel with this name. Ends with [`crate::SessionProtocol::left`].
    Leave(Arc<str>),
    /// Publish a client event to a channel's other sessions. Ends with [`crate::SessionProtocol::published`].
    Publish(ClientEvent),
    /// A request that only the door understands. Ends with [`crate::SessionProtocol::answered`].
    Door(DoorRequest),
}

/// A request that the door itself handles instead of the bus: a remote procedure call, say, or the renewal of a
/// session's rights. Its future runs in tokio, for at most [`crate::Settings::door_timeout`].
pub struct DoorRequest(pub(crate) Pin<Box<dyn Future<Output = DoorAnswer> + Send>>);

/// The result of a [`DoorRequest`]'s future. The door that made the request knows its type.
pub type DoorAnswer = Box<dyn Any + Send>;

impl DoorRequest {
    /// A request whose response is the output of this future.
    pub fn new<T: Any + Send>(answer: impl Future<Output = T> + Send + 'static) -> Self {
        Self(Box::pin(async move { Box::new(answer.await) as DoorAnswer }))
    }
}

impl fmt::Debug for DoorRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("DoorRequest")
    }
}

/// Why a [`DoorRequest`] has no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NoDoorAnswer {
    /// The future took longer than [`crate::Settings::door_timeout`].
    #[error("the request took too long")]
    TimedOut,
    /// The future panicked, or the runtime was shut down.
    #[error("the request could not be finished")]
    BrokenOff,
}

/// A request to join a channel.
#[derive(Debug, Clone)]
pub struct JoinRequest {
    /// The channel, as the client wrote it.
    pub channel: Arc<str>,
    /// What the door has verified of the session's right to join.
    pub proof: Proof,
    /// The member to list in the channel's presence. A session without one is only counted.
    pub member: Option<Arc<Member>>,
    /// Which of the channel's past events the session wants.
    pub since: Option<Since>,
    /// How the session receives the channel's messages.
    pub mode: DeliveryMode,
}

/// What a door has verified of a session's right to join.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Proof {
    /// Nothing.
    None,
    /// That the app lets this session into this channel.
    Channel,
    /// That the session is one of the app's own servers, which may join everything.
    Server,
}

/// An event that a client publishes to the other sessions in a channel.
#[derive(Debug, Clone)]
pub struct ClientEvent {
    /// The channel, as the client wrote it. The session is in it.
    pub channel: Arc<str>,
    /// The event's name.
    pub name: String,
    /// The event's payload.
    pub data: Data,
    /// The sender's user id, where the receivers are to see it.
    pub user: Option<UserId>,
}

/// A session could not be taken out of a channel, because the broker cannot be reached or is overloaded. A retry may
/// succeed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("channels cannot be left at the moment")]
pub struct LeaveFailed;

/// Why a client's event was not published.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PublishRefused {
    /// The event cannot be published; the text says why.
    #[error("{0}")]
    Wrong(String),
    /// The shards cannot keep up; a retry may succeed.
    #[error("the server is overloaded; publish again in a moment")]
    Overloaded,
    /// The broker cannot be reached; a retry may succeed.
    #[error("the server cannot publish at the moment; try again")]
    Unavailable,
}

/// A response that may take a while.
pub type ResponseFuture<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// Handles requests: the bus. A shard polls each future once; a future that is not ready then continues in tokio.
///
/// `request_id` numbers the requests of a session. The broker repeats it in the outcome that it sends to the shard.
pub trait RequestHandler: Send + Sync + 'static {
    /// Lets a session join. `Ok`: the broker sends the outcome to the session's shard, in the channel's order.
    fn join(
        &self,
        context: RequestContext,
        request_id: u32,
        join: JoinRequest,
    ) -> ResponseFuture<Result<(), JoinRefused>>;

    /// Lets a session leave a channel. `Ok`: the broker sends the outcome to the session's shard, in the channel's
    /// order.
    fn leave(
        &self,
        context: RequestContext,
        request_id: u32,
        channel: Arc<str>,
    ) -> ResponseFuture<Result<(), LeaveFailed>>;

    /// Publishes a session's event.
    fn publish(&self, context: RequestContext, event: ClientEvent) -> ResponseFuture<Result<(), PublishRefused>>;
}

/// The handler's response to a request.
#[derive(Debug)]
pub(crate) enum SessionResponse {
    Join(Result<(), JoinRefused>),
    Leave(Result<(), LeaveFailed>),
    Publish(Result<(), PublishRefused>),
    Door(Result<DoorAnswer, NoDoorAnswer>),
}
