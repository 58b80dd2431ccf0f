//! What a broker sends to the shards of its node.

use std::sync::Arc;

use tidings_model::channel::{ChannelKey, Member, Position, SessionId};
use tidings_wire::{EncodedMessage, Encoding};

use crate::session_order::SessionOrder;

/// A session on this node, by shard and slot. Another session may get the slot later, with another `life`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct SessionRef {
    /// The shard that owns its socket.
    pub shard: u16,
    /// Its slot in the shard.
    pub slot: u32,
    /// Tells apart the sessions that use the slot one after the other (a generation).
    pub life: u32,
}

/// How a session receives the messages of a channel that it joins.
#[derive(Debug, Clone, Copy)]
pub enum DeliveryMode {
    /// The shard writes the shared encoding to its socket, without calling the session's protocol: the fast path.
    Shared(&'static Encoding),
    /// The session's protocol receives each message, because it adds something of its own.
    Session,
}

/// A message for one shard. A shard processes its messages in the order in which they were sent.
#[derive(Debug, Clone)]
pub enum ShardMessage {
    /// A channel message, for every session of the shard that is in the channel.
    Message {
        /// The message; it names its channel.
        message: Arc<EncodedMessage>,
        /// The one session that does not receive it.
        except: Option<SessionId>,
    },
    /// A session of the shard has joined at this point: earlier messages are in the welcome, later ones are not.
    Joined(Box<Joined>),
    /// A session of the shard has left at this point.
    Left(Left),
    /// Messages of a channel are lost to every session of the shard that is in it.
    Lost(Arc<Lost>),
    /// An order to sessions, which may be on any shard.
    Order(Arc<SessionOrder>),
}

/// The result of a join.
#[derive(Debug, Clone)]
pub struct Joined {
    /// The session that asked.
    pub at: SessionRef,
    /// The id that it gave its request.
    pub request_id: u32,
    /// The channel.
    pub channel: ChannelKey,
    /// How the session receives messages.
    pub mode: DeliveryMode,
    /// The channel as the session finds it, or why it was refused.
    pub outcome: Result<Welcome, JoinRefused>,
}

/// The state of a channel when a session joins it.
#[derive(Debug, Clone, Default)]
pub struct Welcome {
    /// The position of the newest publication; `None` where no history is kept.
    pub position: Option<Position>,
    /// Whether all missed publications are here.
    pub recovery: Recovery,
    /// The missed publications, or the last ones if the session asked for those; the oldest first.
    pub publications: Vec<Arc<EncodedMessage>>,
    /// The members, each user once, including this session's; empty without presence.
    pub members: Vec<Arc<Member>>,
    /// The number of subscriptions, including this one.
    pub subscriptions: u64,
    /// The cached publication, if there is one.
    pub cached: Option<Arc<EncodedMessage>>,
}

/// Whether a session got everything that it missed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Recovery {
    /// It did not ask, or asked for the last publications only.
    #[default]
    NotAsked,
    /// Everything after its position is in the welcome.
    Complete,
    /// Publications are lost: the history does not reach back to the position, or it has another epoch. With another
    /// epoch the welcome has everything that the history holds, because the session has received none of it.
    Lost,
}

/// Why a session may not join.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum JoinRefused {
    /// Its name or namespace requires a proof, and the session gave none.
    #[error("the channel requires a proof, and the session gave none")]
    NoProof,
    /// The channel is for other users.
    #[error("the channel is for other users")]
    OtherUser,
    /// The channel has its maximum of members.
    #[error("the channel is full: its limit of members is {limit}")]
    TooManyMembers {
        /// The maximum.
        limit: usize,
    },
    /// The broker cannot be reached or is overloaded; a retry may succeed.
    #[error("channels cannot be joined at the moment; try again later")]
    Unavailable,
}

/// The end of a subscription.
#[derive(Debug, Clone)]
pub struct Left {
    /// The session.
    pub at: SessionRef,
    /// The id that it gave its request; 0 if it did not ask, because it is gone.
    pub request_id: u32,
    /// The channel.
    pub channel: ChannelKey,
}

/// What sessions of a channel have missed while their node was cut off from the others, or could not read a newer
/// version's message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lost {
    /// Their channel.
    pub channel: ChannelKey,
    /// The position of the newest publication; `None` where no history is kept. The next publication follows it.
    pub position: Option<Position>,
    /// Publications with positions are missing.
    pub publications: bool,
    /// Members may have joined or left.
    pub members: bool,
}

/// The shards of this node, as a broker sees them. It calls them under a channel's lock, so they only append to queues.
pub trait Shards: Send + Sync + 'static {
    /// The number of shards.
    fn count(&self) -> u16;

    /// Appends to the inbox of a shard, and wakes the shard if it sleeps.
    fn send(&self, shard: u16, message: ShardMessage);

    /// As [`Shards::send`], but does not wake the shard: a call of [`Shards::write_inline`] follows, without the
    /// channel's lock.
    fn append(&self, shard: u16, message: ShardMessage) {
        self.send(shard, message);
    }

    /// Has the appended messages processed: by the shard or, if it sleeps and the work is small, by the caller, which
    /// saves a wake-up.
    fn write_inline(&self, _shard: u16) {}

    /// Whether an inbox is too large or too old: then new publishes are refused for a while (backpressure).
    fn overloaded(&self) -> bool;
}
