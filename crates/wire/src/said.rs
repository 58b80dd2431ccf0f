//! What subscribers of a channel are told.

use std::sync::Arc;

use tidings_model::channel::{ChannelKey, Member, Position, SessionId, UserId};
use tidings_model::event::Event;

/// What is said in a channel, to everybody who is in it, in one order.
#[derive(Debug, Clone)]
pub enum Said {
    /// Something happened.
    Publication(Publication),
    /// A session with a user id has come.
    Joined(Presence),
    /// It has gone.
    Left(Presence),
    /// The channel has so many subscriptions now.
    Subscriptions {
        /// Of which channel.
        channel: ChannelKey,
        /// How many.
        count: u64,
    },
}

/// An event in one channel.
#[derive(Debug, Clone)]
pub struct Publication {
    /// What happened; shared by all of its channels.
    pub event: Arc<Event>,
    /// In which channel it is said.
    pub channel: ChannelKey,
    /// Its place in the channel's history; `None` where none is kept.
    pub position: Option<Position>,
    /// The user whose session said it, for client events.
    pub user: Option<UserId>,
}

/// A coming or going.
#[derive(Debug, Clone)]
pub struct Presence {
    /// In which channel.
    pub channel: ChannelKey,
    /// Which session.
    pub session: SessionId,
    /// Whose it is, and what they show.
    pub member: Arc<Member>,
    /// Whether it is the user's first session in the channel, or was the last one: only then do some protocols speak of it.
    pub changes_users: bool,
}

impl Said {
    /// The channel it is said in.
    pub fn channel(&self) -> &ChannelKey {
        match self {
            Self::Publication(publication) => &publication.channel,
            Self::Joined(presence) | Self::Left(presence) => &presence.channel,
            Self::Subscriptions { channel, .. } => channel,
        }
    }

    /// About how much memory it takes, for bounds in bytes.
    pub fn weight(&self) -> usize {
        match self {
            Self::Publication(publication) => 384 + publication.event.weight(),
            Self::Joined(presence) | Self::Left(presence) => {
                384 + presence.member.user.len() + presence.member.info.as_ref().map_or(0, bytes::Bytes::len)
            }
            Self::Subscriptions { .. } => 384,
        }
    }
}
