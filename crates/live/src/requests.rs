//! What sessions request, and who handles it.

use std::any::Any;
use std::fmt;
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
#[derive(Debug)]
pub enum SessionRequest {
    /// To join a channel. Ends with [`crate::SessionProtocol::joined`].
    Join(JoinRequest),
    /// To leave a channel, by its name. Ends with [`crate::SessionProtocol::left`].
    Leave(Arc<str>),
    /// To say something to the others in a channel. Ends with [`crate::SessionProtocol::published`].
    Publish(ClientEvent),
    /// What only the door knows. Ends with [`crate::SessionProtocol::answered`].
    Door(DoorRequest),
}

/// A request of a door's own, which no bus handles: a remote procedure call, say, or the renewal of a session's rights.
/// Its future runs in tokio, for no longer than [`crate::Settings::door_timeout`].
pub struct DoorRequest(pub(crate) Pin<Box<dyn Future<Output = DoorAnswer> + Send>>);

/// What the future of a [`DoorRequest`] has resolved to. The door that made the request knows the type.
pub type DoorAnswer = Box<dyn Any + Send>;

impl DoorRequest {
    /// A request that is answered with what this resolves to.
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
    /// It was not there in time.
    #[error("the request took too long")]
    TimedOut,
    /// The future panicked, or the runtime ends.
    #[error("the request could not be finished")]
    BrokenOff,
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

/// Why a session could not be taken out of a channel: the broker cannot be reached or is overloaded, and a retry may
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
    /// Sessions cannot keep up; the same may work in a moment.
    #[error("too much is being said at the moment")]
    Overloaded,
    /// The broker cannot be reached; the same may work in a moment.
    #[error("nothing can be said at the moment")]
    Unavailable,
}

/// A response that may take a while.
pub type ResponseFuture<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// Who handles requests: the bus. A shard polls each future once itself; one that is not ready then goes on in tokio.
///
/// `request_id` is the session's number of the request: the broker repeats it in what it sends to the shard.
pub trait RequestHandler: Send + Sync + 'static {
    /// Lets a session join. `Ok`: the broker sends the end of it to the session's shard, in the channel's order.
    fn join(
        &self,
        context: RequestContext,
        request_id: u32,
        join: JoinRequest,
    ) -> ResponseFuture<Result<(), JoinRefused>>;

    /// Lets a session leave a channel. `Ok`: the broker sends the end of it to the session's shard, in the channel's
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

/// What has become of a request, as far as the handler knows.
#[derive(Debug)]
pub(crate) enum SessionResponse {
    Join(Result<(), JoinRefused>),
    Leave(Result<(), LeaveFailed>),
    Publish(Result<(), PublishRefused>),
    Door(Result<DoorAnswer, NoDoorAnswer>),
}
