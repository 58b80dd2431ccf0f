//! The trait, and what goes in and out of it.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tidings_model::channel::{ChannelKey, ChannelOptions, Member, Position, SessionId, UserId};
use tidings_model::event::Event;
use tidings_model::id::AppId;
use tidings_wire::EncodedMessage;

use crate::session_order::SessionOrder;
use crate::shard_message::{DeliveryMode, SessionRef};

/// Why a broker did not do something. Nothing of it was done.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BrokerError {
    /// Shards have more to do than they should; the same may work in a moment.
    #[error("live sessions have more to read than they can keep up with")]
    Overloaded,
    /// It cannot be reached; the same may work in a moment.
    #[error("the broker cannot be reached")]
    Unavailable,
}

/// Something to say in one channel.
#[derive(Debug, Clone)]
pub struct Publish {
    /// Where.
    pub channel: ChannelKey,
    /// How the channel behaves.
    pub options: Arc<ChannelOptions>,
    /// What happened.
    pub event: Arc<Event>,
    /// Who isn't told.
    pub except: Option<SessionId>,
    /// The user whose session says it.
    pub user: Option<UserId>,
    /// A client says it, so it is told and forgotten: neither history nor cache keep it.
    pub by_client: bool,
}

/// A session that wants to join.
#[derive(Debug, Clone)]
pub struct Join {
    /// Where.
    pub channel: ChannelKey,
    /// How the channel behaves.
    pub options: Arc<ChannelOptions>,
    /// Which session.
    pub session: SessionId,
    /// Where it is.
    pub at: SessionRef,
    /// What it calls its request.
    pub request_id: u32,
    /// Who it is, where presence is kept or comings are told. A session without one is counted only.
    pub member: Option<Arc<Member>>,
    /// What of the past it wants.
    pub since: Option<Since>,
    /// How it wants to hear.
    pub mode: DeliveryMode,
}

/// What of the past a session wants when it joins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Since {
    /// Everything after this position, if it is all still there.
    Position(Position),
    /// The last publications, at most so many.
    Last(u32),
}

/// A session that leaves.
#[derive(Debug, Clone)]
pub struct Leave {
    /// Where.
    pub channel: ChannelKey,
    /// Which session.
    pub session: SessionId,
    /// Where it is.
    pub at: SessionRef,
    /// What it calls its request.
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

/// What became of something that was said.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PublishOutcome {
    /// Who was in the channel.
    pub occupancy: Occupancy,
    /// Other nodes could not be reached, so only sessions of this one have heard it, and only they were counted.
    pub local_only: bool,
}

/// A channel that somebody is in, or that history or cache keep something of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChannelState {
    /// Its canonical name.
    pub name: Arc<str>,
    /// Who is there.
    pub occupancy: Occupancy,
    /// The position of the newest publication; `None` where no history is kept.
    pub position: Option<Position>,
}

/// Which channels to list; [internal ones](tidings_model::policy::is_internal) never are.
#[derive(Debug, Clone, Default)]
pub struct ChannelFilter {
    /// Those whose canonical names begin so.
    pub prefix: String,
    /// Those after this one, in the order of their bytes.
    pub after: Option<String>,
    /// At most so many.
    pub limit: usize,
}

/// Which part of a history to read.
#[derive(Debug, Clone, Default)]
pub struct HistoryRange {
    /// What comes after this position (before it, from the newest on); `None`: from that end.
    pub since: Option<Position>,
    /// From the newest to the oldest.
    pub reverse: bool,
    /// At most so many; 0: the position only.
    pub limit: usize,
}

/// A part of a history.
#[derive(Debug, Clone)]
pub struct History {
    /// The position of the newest publication; `None` where no history is kept.
    pub position: Option<Position>,
    /// Whether `since` is of this history, and everything after it is still there.
    pub complete: bool,
    /// In the order asked for: what is still there of it, and nothing when `since` isn't of this history.
    pub publications: Vec<Arc<EncodedMessage>>,
}

/// A cached publication.
#[derive(Debug, Clone)]
pub struct Cached {
    /// What was said last.
    pub publication: Arc<EncodedMessage>,
    /// For how long it will be kept.
    pub ttl: Duration,
}

/// How many channels [`Broker::names_here`] looks at.
pub const LOOKED_AT: usize = 4_096;

/// Keeps channels, and tells shards. Methods may wait for other machines; none holds up a shard.
#[async_trait]
pub trait Broker: Send + Sync + 'static {
    /// Which one it is, for people: `memory`, `redis`.
    fn name(&self) -> &'static str;

    /// Whether publishes would be refused now because sessions cannot keep up.
    fn overloaded(&self) -> bool;

    /// Whether other nodes cannot be reached now: then what is said reaches this node's sessions only, and nothing can
    /// be said or joined that needs the others to know.
    fn is_cut_off(&self) -> bool;

    /// Says something in a channel. Who is there when it is told is counted in the answer. Refused while
    /// [`Broker::overloaded`].
    ///
    /// # Errors
    /// [`BrokerError`].
    async fn publish(&self, publish: Publish) -> Result<PublishOutcome, BrokerError>;

    /// Lets a session join. How it ended is told to its shard as [`crate::ShardMessage::Joined`], in the channel's
    /// order. One that is in the channel already (the same [`SessionRef`]) gets a fresh welcome and nothing else
    /// changes, not even its member.
    ///
    /// # Errors
    /// [`BrokerError`]; then nothing is told.
    async fn join(&self, join: Join) -> Result<(), BrokerError>;

    /// Lets a session leave. Its shard is told [`crate::ShardMessage::Left`], whether it was in the channel or not;
    /// nothing else happens if it wasn't.
    ///
    /// # Errors
    /// [`BrokerError`]; then nothing is told.
    async fn leave(&self, leave: Leave) -> Result<(), BrokerError>;

    /// One channel; `None` when nobody is in it and nothing is kept of it.
    ///
    /// # Errors
    /// [`BrokerError`].
    async fn channel(&self, channel: &ChannelKey) -> Result<Option<ChannelState>, BrokerError>;

    /// The channels of an app that somebody is in, in the order of their names.
    ///
    /// # Errors
    /// [`BrokerError`].
    async fn channels(&self, app: &AppId, filter: ChannelFilter) -> Result<Vec<ChannelState>, BrokerError>;

    /// Names of an app's channels that sessions of this node are in, in no order and without asking anybody. Where
    /// there are many channels, of whichever app, only some are looked at: about [`LOOKED_AT`].
    fn names_here(&self, app: &AppId) -> Vec<Arc<str>>;

    /// Who is in a channel, each user once, in the order of their ids.
    ///
    /// # Errors
    /// [`BrokerError`].
    async fn members(&self, channel: &ChannelKey) -> Result<Vec<Arc<Member>>, BrokerError>;

    /// What was said in a channel.
    ///
    /// # Errors
    /// [`BrokerError`].
    async fn history(&self, channel: &ChannelKey, range: HistoryRange) -> Result<History, BrokerError>;

    /// The cached publication of a channel.
    ///
    /// # Errors
    /// [`BrokerError`].
    async fn cached(&self, channel: &ChannelKey) -> Result<Option<Cached>, BrokerError>;

    /// Gives an order to every node's shards.
    ///
    /// # Errors
    /// [`BrokerError`].
    async fn order(&self, order: SessionOrder) -> Result<(), BrokerError>;

    /// Gives an order to this node's shards alone.
    fn order_here(&self, order: SessionOrder);

    /// Drops what has expired, a part of it at a time, and tells numbers of subscriptions that are owed. Called every
    /// second.
    async fn sweep(&self);
}
