//! What a broker tells the shards of a node.

use std::sync::Arc;

use tidings_model::channel::{ChannelKey, Member, Position, SessionId};
use tidings_model::id::AppId;
use tidings_wire::{Format, Prepared};

/// Where a session is on this node. Another session may get the slot later, in another life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct SessionRef {
    /// The shard that owns its socket.
    pub shard: u16,
    /// Its place in the shard.
    pub slot: u32,
    /// Which tenant of that place.
    pub life: u32,
}

/// How a session gets the messages of a channel that it joins.
#[derive(Debug, Clone, Copy)]
pub enum DeliveryMode {
    /// The shard writes it these bytes, which it shares with others; the session isn't asked. The fast way.
    Shared(&'static Format),
    /// The session's protocol is handed what is said, because it adds something of its own.
    Session,
}

/// A result that concerns sessions of one shard. A shard takes them in the order in which they were told.
#[derive(Debug, Clone)]
pub enum Told {
    /// Something is said to everybody of the shard who is in the channel.
    Said {
        /// What, and in which channel.
        prepared: Arc<Prepared>,
        /// The one session that isn't told.
        except: Option<SessionId>,
    },
    /// A session of the shard has joined, from here on: what was told before is in the welcome, what comes after isn't.
    Joined(Box<Joined>),
    /// A session of the shard has left, from here on.
    Left(Left),
    /// Something that was said or happened in a channel is lost to everybody of the shard who is in it.
    Lost(Arc<Lost>),
    /// An order about sessions, whose shard has to find out whether it has them.
    Control(Arc<Control>),
}

/// The end of a join.
#[derive(Debug, Clone)]
pub struct Joined {
    /// Which session asked.
    pub at: SessionRef,
    /// What it called its request.
    pub request_id: u32,
    /// The channel.
    pub channel: ChannelKey,
    /// How the session wants to hear.
    pub mode: DeliveryMode,
    /// What it finds, or why it may not.
    pub outcome: Result<Welcome, JoinRefused>,
}

/// What a session finds when it joins: the channel at that moment.
#[derive(Debug, Clone, Default)]
pub struct Welcome {
    /// The position of the newest publication; `None` where no history is kept.
    pub position: Option<Position>,
    /// Whether what was missed could be found.
    pub recovery: Recovery,
    /// What was missed, or the last ones if it was asked for them; the oldest first.
    pub publications: Vec<Arc<Prepared>>,
    /// Who is there, each user once, the session's own among them; empty where presence isn't kept.
    pub members: Vec<Arc<Member>>,
    /// How many subscriptions the channel has, this one among them.
    pub subscriptions: u64,
    /// The cached publication, where one is kept and there is one.
    pub cached: Option<Arc<Prepared>>,
}

/// Whether what a session missed could be found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Recovery {
    /// It didn't ask, or asked for the last ones only.
    #[default]
    NotAsked,
    /// Everything since its position is in the welcome.
    Complete,
    /// Something is gone: history doesn't reach back, or has begun anew. Where it has begun anew, what it holds is in the
    /// welcome, because the session has heard nothing of it.
    Lost,
}

/// Why a session may not join.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum JoinRefused {
    /// Its name or namespace asks for a proof, and there is none.
    #[error("the channel asks for a proof, and none was given")]
    NoProof,
    /// The channel is for certain users, and this isn't one.
    #[error("the channel is for other users")]
    OtherUser,
    /// As many users are there as may be.
    #[error("as many members are present as may be: {limit}")]
    TooManyMembers {
        /// How many may be.
        limit: usize,
    },
    /// The broker cannot be reached, or has too much to do: the same request may work in a moment.
    #[error("channels cannot be joined at the moment")]
    Unavailable,
}

/// The end of a subscription.
#[derive(Debug, Clone)]
pub struct Left {
    /// Which session.
    pub at: SessionRef,
    /// What it called its request; 0 when it didn't ask, because it is gone.
    pub request_id: u32,
    /// The channel.
    pub channel: ChannelKey,
}

/// What sessions in a channel do not know, because their node was cut off from the others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lost {
    /// Which channel.
    pub channel: ChannelKey,
    /// The position of the newest publication; `None` where no history is kept. What is said next follows it.
    pub position: Option<Position>,
    /// Publications are missing that have positions.
    pub publications: bool,
    /// Members may have come or gone.
    pub members: bool,
}

/// An order about sessions, wherever they are.
#[derive(Debug, Clone)]
pub enum Control {
    /// Ends sessions.
    Disconnect {
        /// Whose.
        app: AppId,
        /// Which.
        who: Who,
    },
    /// Ends all sessions of an app that is not served any more.
    Shut {
        /// Which app.
        app: AppId,
    },
    /// Sends all sessions of an app away to come back: it is another now.
    Renew {
        /// Which app.
        app: AppId,
    },
}

/// Which sessions of an app.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Who {
    /// This one.
    Session(SessionId),
    /// All of this user's.
    User(Arc<str>),
}

/// The shards of this node, as a broker sees them: where results are put. Called under a channel's lock, so it only appends.
pub trait Shards: Send + Sync + 'static {
    /// How many there are.
    fn count(&self) -> u16;

    /// Appends to the inbox of a shard, and wakes it if need be.
    fn tell(&self, shard: u16, told: Told);

    /// As [`Shards::tell`], but leaves a shard that sleeps asleep: [`Shards::write_inline`] is to follow, without the channel's lock.
    fn append(&self, shard: u16, told: Told) {
        self.tell(shard, told);
    }

    /// Has what was appended worked off: by the shard or, where it sleeps and little is to be done, by the caller, which
    /// spares both threads a wake-up.
    fn write_inline(&self, _shard: u16) {}

    /// Whether an inbox holds more, or older, than it should: then nothing new is to be published for a while.
    fn overloaded(&self) -> bool;
}
