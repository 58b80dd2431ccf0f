//! The trait [`Broker`], its requests and its results.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tidings_model::channel::{ChannelKey, ChannelOptions, Member, Position, SessionId, UserId};
use tidings_model::event::Event;
use tidings_model::id::AppId;
use tidings_wire::EncodedMessage;

use crate::session_order::SessionOrder;
use crate::shard_message::{DeliveryMode, SessionRef};

/// Why a broker refused a request. Nothing of it was done.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BrokerError {
    /// The shards' inboxes are too long or too old (backpressure); a retry may succeed.
    #[error("live sessions cannot keep up with the messages they are sent; try again later")]
    Overloaded,
    /// The broker cannot be reached; a retry may succeed.
    #[error("the broker cannot be reached")]
    Unavailable,
}

/// An event to publish in one channel.
#[derive(Debug, Clone)]
pub struct Publish {
    /// The channel.
    pub channel: ChannelKey,
    /// The channel's options, which decide whether history and cache keep the event.
    pub options: Arc<ChannelOptions>,
    /// The event.
    pub event: Arc<Event>,
    /// The session that does not receive the event.
    pub except: Option<SessionId>,
    /// The user whose session publishes, if one does.
    pub user: Option<UserId>,
    /// Whether a client publishes. Neither history nor cache keeps a client's event.
    pub by_client: bool,
}

/// A session's request to join a channel.
#[derive(Debug, Clone)]
pub struct Join {
    /// The channel.
    pub channel: ChannelKey,
    /// The channel's options. They hold for the whole channel until another session joins.
    pub options: Arc<ChannelOptions>,
    /// The session's id.
    pub session: SessionId,
    /// The shard and slot of the session on this node.
    pub at: SessionRef,
    /// The id that the session gave its request; the result carries it.
    pub request_id: u32,
    /// The session's member, for channels with presence or join/leave messages. A session without one is only counted.
    pub member: Option<Arc<Member>>,
    /// Which earlier publications the session asks for.
    pub since: Option<Since>,
    /// How the session receives messages.
    pub mode: DeliveryMode,
}

/// Which earlier publications a session asks for when it joins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Since {
    /// All publications after this position, if the history still holds all of them.
    Position(Position),
    /// The last publications, at most this many.
    Last(u32),
}

/// A session's leave of a channel.
#[derive(Debug, Clone)]
pub struct Leave {
    /// The channel.
    pub channel: ChannelKey,
    /// The session's id.
    pub session: SessionId,
    /// The shard and slot of the session on this node.
    pub at: SessionRef,
    /// The id that the session gave its request; 0 if it did not ask, because it is gone.
    pub request_id: u32,
}

/// How many are in a channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Occupancy {
    /// Subscriptions.
    pub subscriptions: u64,
    /// Users who are present; 0 where presence isn't kept.
    pub users: u64,
}

/// The result of a publish.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PublishOutcome {
    /// How many subscriptions and users the channel had at that time.
    pub occupancy: Occupancy,
    /// Other nodes could not be reached, so only this node's sessions received the event, and only they were counted.
    pub local_only: bool,
}

/// The state of a channel that has subscriptions, a history or a cached event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChannelState {
    /// Its canonical name.
    pub name: Arc<str>,
    /// How many subscriptions and users it has.
    pub occupancy: Occupancy,
    /// The position of the newest publication; `None` where no history is kept.
    pub position: Option<Position>,
}

/// Which channels to list. [Internal channels](tidings_model::policy::is_internal) are never listed.
#[derive(Debug, Clone, Default)]
pub struct ChannelFilter {
    /// Only channels whose canonical names begin with this.
    pub prefix: String,
    /// Only channels after this name, in byte order.
    pub after: Option<String>,
    /// At most this many.
    pub limit: usize,
}

/// Which part of a history to read.
#[derive(Debug, Clone, Default)]
pub struct HistoryRange {
    /// Only publications after this position, or before it if `reverse`. `None`: from the oldest, or from the newest if
    /// `reverse`.
    pub since: Option<Position>,
    /// Whether the answer goes from the newest to the oldest.
    pub reverse: bool,
    /// At most this many; 0: only the position.
    pub limit: usize,
}

/// A part of a history.
#[derive(Debug, Clone)]
pub struct History {
    /// The position of the newest publication; `None` where no history is kept.
    pub position: Option<Position>,
    /// Whether `since` belongs to this history, and the history still holds all publications after it.
    pub complete: bool,
    /// The publications that the history still holds, in the order asked for; empty when `since` does not belong to
    /// this history.
    pub publications: Vec<Arc<EncodedMessage>>,
}

/// A cached publication.
#[derive(Debug, Clone)]
pub struct Cached {
    /// The channel's last publication.
    pub publication: Arc<EncodedMessage>,
    /// How long it will still be kept.
    pub ttl: Duration,
}

/// About how many channels [`Broker::names_here`] looks at.
pub const MAX_NAMES_SCANNED: usize = 4_096;

/// Keeps the state of channels, and sends messages to shards. Methods may wait for other machines; none blocks a shard.
#[async_trait]
pub trait Broker: Send + Sync + 'static {
    /// The kind of broker, for people to read: `memory`, `redis`.
    fn name(&self) -> &'static str;

    /// Whether publishes are refused now because sessions cannot keep up.
    fn overloaded(&self) -> bool;

    /// Whether other nodes cannot be reached now. Then a publish reaches only this node's sessions, and everything that
    /// needs the other nodes is refused: joins, and publishes in channels with history, cache or presence.
    fn is_cut_off(&self) -> bool;

    /// Publishes an event in a channel. The result counts the subscriptions at the moment of the publish. Refused while
    /// [`Broker::overloaded`].
    ///
    /// # Errors
    /// [`BrokerError`].
    async fn publish(&self, publish: Publish) -> Result<PublishOutcome, BrokerError>;

    /// Lets a session join. Its shard receives the result as [`crate::ShardMessage::Joined`], in the channel's
    /// order. A session that is in the channel already (the same [`SessionRef`]) gets a new welcome; nothing else
    /// changes, not even its member.
    ///
    /// # Errors
    /// [`BrokerError`]; then the shard receives nothing.
    async fn join(&self, join: Join) -> Result<(), BrokerError>;

    /// Lets a session leave. Its shard receives [`crate::ShardMessage::Left`], whether the session was in the channel
    /// or not. Nothing else happens if it was not.
    ///
    /// # Errors
    /// [`BrokerError`]; then the shard receives nothing.
    async fn leave(&self, leave: Leave) -> Result<(), BrokerError>;

    /// The state of one channel; `None` when it has no subscription and nothing of it is kept.
    ///
    /// # Errors
    /// [`BrokerError`].
    async fn channel(&self, channel: &ChannelKey) -> Result<Option<ChannelState>, BrokerError>;

    /// The occupied channels of an app, in the order of their names.
    ///
    /// # Errors
    /// [`BrokerError`].
    async fn channels(&self, app: &AppId, filter: ChannelFilter) -> Result<Vec<ChannelState>, BrokerError>;

    /// Names of the app's channels that have sessions on this node, in no order. Asks no other machine. If the node has
    /// many channels (of all apps), only about [`MAX_NAMES_SCANNED`] of them are looked at.
    fn names_here(&self, app: &AppId) -> Vec<Arc<str>>;

    /// The members of a channel, each user once, in the order of their ids.
    ///
    /// # Errors
    /// [`BrokerError`].
    async fn members(&self, channel: &ChannelKey) -> Result<Vec<Arc<Member>>, BrokerError>;

    /// A part of a channel's history.
    ///
    /// # Errors
    /// [`BrokerError`].
    async fn history(&self, channel: &ChannelKey, range: HistoryRange) -> Result<History, BrokerError>;

    /// The cached publication of a channel, if there is one.
    ///
    /// # Errors
    /// [`BrokerError`].
    async fn cached(&self, channel: &ChannelKey) -> Result<Option<Cached>, BrokerError>;

    /// Sends an order to the shards of every node.
    ///
    /// # Errors
    /// [`BrokerError`].
    async fn order(&self, order: SessionOrder) -> Result<(), BrokerError>;

    /// Sends an order to the shards of this node only.
    fn order_here(&self, order: SessionOrder);

    /// Drops expired state, a part of it with each call, and sends subscription counts that are pending. Called every
    /// second.
    async fn sweep(&self);
}
