//! The messages that the subscribers of a channel receive.

use std::sync::Arc;

use tidings_model::channel::{ChannelKey, Member, Position, SessionId, UserId};
use tidings_model::event::Event;

/// A message of a channel. Every subscriber receives the messages of a channel in the same order.
#[derive(Debug, Clone)]
pub enum ChannelMessage {
    /// An event was published.
    Publication(Publication),
    /// A session with a user id has joined.
    Joined(MemberChange),
    /// A session with a user id has left.
    Left(MemberChange),
    /// The number of subscriptions has changed.
    Subscriptions {
        /// The channel.
        channel: ChannelKey,
        /// The new number.
        count: u64,
    },
}

/// An event in one channel.
#[derive(Debug, Clone)]
pub struct Publication {
    /// Shared by all channels of the event.
    pub event: Arc<Event>,
    /// The channel it is published in.
    pub channel: ChannelKey,
    /// Its position in the channel's history; `None` where none is kept.
    pub position: Option<Position>,
    /// The user of the session that published it; for client events.
    pub user: Option<UserId>,
}

/// A join or leave of a member.
#[derive(Debug, Clone)]
pub struct MemberChange {
    /// The channel that the member joined or left.
    pub channel: ChannelKey,
    /// The member's session.
    pub session: SessionId,
    /// The user, and the info that this session brought.
    pub member: Arc<Member>,
    /// Whether it is the user's first session in the channel, or was the last: some protocols send nothing otherwise.
    pub changes_users: bool,
}

impl ChannelMessage {
    /// The channel it belongs to.
    pub fn channel(&self) -> &ChannelKey {
        match self {
            Self::Publication(publication) => &publication.channel,
            Self::Joined(change) | Self::Left(change) => &change.channel,
            Self::Subscriptions { channel, .. } => channel,
        }
    }

    /// Roughly how much memory it takes, in bytes.
    pub fn weight(&self) -> usize {
        match self {
            Self::Publication(publication) => 384 + publication.event.weight(),
            Self::Joined(change) | Self::Left(change) => {
                384 + change.member.user.len() + change.member.info.as_ref().map_or(0, bytes::Bytes::len)
            }
            Self::Subscriptions { .. } => 384,
        }
    }
}
