//! Transitions: a channel becomes occupied or vacated, a member is added or removed, and so on.
//!
//! The broker decides them, in the channel's order. The bus makes an event of each transition that a listener
//! subscribes
//! to. The event's id depends only on the transition ([`Transition::event_id`]), so an event that two nodes publish is
//! logged once.

use sha2::{Digest, Sha256};

use crate::channel::ChannelKey;
use crate::id::RESERVED_ID_PREFIX;

/// The kinds of channel events.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// The first session has joined.
    Occupied,
    /// The last session has left.
    Vacated,
    /// A user's first session has joined.
    MemberAdded,
    /// A user's last session has left.
    MemberRemoved,
    /// The number of subscriptions has changed.
    SubscriptionCount,
    /// A client has published an event to the other sessions.
    ClientEvent,
    /// A session has joined a channel that caches its last event, and found none.
    CacheMiss,
}

impl Kind {
    /// Every kind.
    pub const ALL: [Self; 7] = [
        Self::Occupied,
        Self::Vacated,
        Self::MemberAdded,
        Self::MemberRemoved,
        Self::SubscriptionCount,
        Self::ClientEvent,
        Self::CacheMiss,
    ];

    /// The name of its events, which is a built-in hook.
    pub fn event_name(self) -> &'static str {
        match self {
            Self::Occupied => "tidings.channel.occupied",
            Self::Vacated => "tidings.channel.vacated",
            Self::MemberAdded => "tidings.channel.member_added",
            Self::MemberRemoved => "tidings.channel.member_removed",
            Self::SubscriptionCount => "tidings.channel.subscription_count",
            Self::ClientEvent => "tidings.channel.client_event",
            Self::CacheMiss => "tidings.channel.cache_miss",
        }
    }

    /// The kind whose events have this name.
    pub fn of_event(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.event_name() == name)
    }

    /// A sentence for lists of hooks.
    pub fn description(self) -> &'static str {
        match self {
            Self::Occupied => "A channel's first session has joined.",
            Self::Vacated => "A channel's last session has left, and none has come back for three seconds.",
            Self::MemberAdded => "A user's first session has joined a channel with presence.",
            Self::MemberRemoved => {
                "A user's last session has left a channel with presence, and none has come back for three seconds."
            }
            Self::SubscriptionCount => "The number of a channel's subscriptions has changed.",
            Self::ClientEvent => "A client has sent an event to the others in a channel.",
            Self::CacheMiss => "A client has joined a cache channel that holds no event.",
        }
    }
}

/// A set of kinds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Kinds(u8);

impl Kinds {
    /// The empty set.
    pub const NONE: Self = Self(0);

    /// Adds a kind.
    #[must_use]
    pub fn with(self, kind: Kind) -> Self {
        Self(self.0 | 1 << kind as u8)
    }

    /// Whether the set contains a kind.
    pub fn has(self, kind: Kind) -> bool {
        self.0 & (1 << kind as u8) != 0
    }

    /// Whether the set is empty.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }
}

impl FromIterator<Kind> for Kinds {
    fn from_iter<I: IntoIterator<Item = Kind>>(kinds: I) -> Self {
        kinds.into_iter().fold(Self::NONE, Self::with)
    }
}

/// The change of a transition, as a broker decides it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// [`Kind::Occupied`].
    Occupied,
    /// [`Kind::Vacated`].
    Vacated,
    /// [`Kind::MemberAdded`], with the user's id.
    MemberAdded(String),
    /// [`Kind::MemberRemoved`], with the user's id.
    MemberRemoved(String),
    /// [`Kind::SubscriptionCount`], with the number.
    SubscriptionCount(u64),
    /// [`Kind::CacheMiss`].
    CacheMiss,
}

impl Change {
    /// The kind of the change.
    pub fn kind(&self) -> Kind {
        match self {
            Self::Occupied => Kind::Occupied,
            Self::Vacated => Kind::Vacated,
            Self::MemberAdded(_) => Kind::MemberAdded,
            Self::MemberRemoved(_) => Kind::MemberRemoved,
            Self::SubscriptionCount(_) => Kind::SubscriptionCount,
            Self::CacheMiss => Kind::CacheMiss,
        }
    }

    /// The user whose membership changes, if it is a member's change.
    pub fn user(&self) -> Option<&str> {
        match self {
            Self::MemberAdded(user) | Self::MemberRemoved(user) => Some(user),
            _ => None,
        }
    }
}

/// A transition of a channel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Transition {
    /// The channel.
    pub channel: ChannelKey,
    /// Grows with each transition of the channel, of any kind, even if the channel was deleted in between.
    pub number: u64,
    /// The change.
    pub change: Change,
}

impl Transition {
    /// The id of its event: a hash, the same on every node.
    pub fn event_id(&self) -> String {
        let mut hash = Sha256::new();
        let name = self.change.kind().event_name();
        for field in [self.channel.app.as_str(), &self.channel.name, name, self.change.user().unwrap_or_default()] {
            hash.update((field.len() as u64).to_be_bytes());
            hash.update(field.as_bytes());
        }
        hash.update(self.number.to_be_bytes());
        let digest: [u8; 32] = hash.finalize().into();
        let hex = digest[..16].iter().fold(String::with_capacity(32), |hex, byte| hex + &format!("{byte:02x}"));
        format!("{RESERVED_ID_PREFIX}channel_{hex}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn transition(app: &str, channel: &str, number: u64, change: Change) -> Transition {
        Transition { channel: ChannelKey::new(app.into(), channel), number, change }
    }

    #[test]
    fn an_event_id_is_one_transitions_own() {
        let all = [
            transition("1", "c", 1, Change::Occupied),
            transition("1", "c", 2, Change::Occupied),
            transition("1", "c", 1, Change::Vacated),
            transition("1c", "", 1, Change::Occupied),
            transition("2", "c", 1, Change::Occupied),
            transition("1", "c", 1, Change::MemberAdded("a".into())),
            transition("1", "c", 1, Change::MemberAdded("b".into())),
            transition("1", "c", 1, Change::MemberRemoved("a".into())),
        ];
        let mut ids: Vec<_> = all.iter().map(Transition::event_id).collect();
        assert_eq!(ids[0], transition("1", "c", 1, Change::Occupied).event_id());
        assert!(ids.iter().all(|id| id.len() < 64 && !id.contains('.')), "{ids:?}");
        ids.sort();
        ids.dedup();
        assert_eq!(ids.len(), all.len());
    }

    #[test]
    fn kinds_are_told_apart_by_the_names_of_their_events() {
        for kind in Kind::ALL {
            assert_eq!(Kind::of_event(kind.event_name()), Some(kind));
            let others = Kind::ALL.into_iter().filter(|other| *other != kind).collect::<Kinds>();
            assert!(!others.has(kind) && others.with(kind).has(kind) && !others.is_empty());
        }
        assert_eq!(Kind::of_event("tidings.channel"), None);
        assert!(Kinds::NONE.is_empty());
    }
}
