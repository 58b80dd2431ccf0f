//! Who is subscribed to a channel, by shard.
//!
//! A subscription is the slot and life of its session (eight bytes) in a set of its shard. So a repeated join and a
//! leave of a session that is not there change nothing. A mere count would save 10 to 21 bytes per subscription, but
//! one leave too many would then end the subscription of another session. Most channels have one subscriber, which is
//! kept without any allocation.

use hashbrown::HashSet;

use crate::shard_message::SessionRef;

/// A session's slot and life on its shard.
type SlotLife = (u32, u32);

/// The subscriptions of one shard.
#[derive(Debug)]
pub(crate) struct OnShard {
    shard: u16,
    slots: HashSet<SlotLife>,
}

/// The subscriptions of a channel.
#[derive(Debug, Default)]
pub(crate) enum Subscribers {
    /// No session.
    #[default]
    None,
    /// One session.
    One(SessionRef),
    /// Any number of sessions. Each shard in the list has at least one.
    Many(Vec<OnShard>),
}

impl Subscribers {
    pub(crate) fn is_empty(&self) -> bool {
        matches!(self, Self::None)
    }

    /// How many subscriptions there are.
    pub(crate) fn len(&self) -> u64 {
        match self {
            Self::None => 0,
            Self::One(_) => 1,
            Self::Many(shards) => shards.iter().map(|shard| shard.slots.len() as u64).sum(),
        }
    }

    pub(crate) fn has(&self, at: SessionRef) -> bool {
        match self {
            Self::None => false,
            Self::One(one) => *one == at,
            Self::Many(shards) => {
                shards.iter().any(|shard| shard.shard == at.shard && shard.slots.contains(&(at.slot, at.life)))
            }
        }
    }

    /// The shards that have subscriptions, each once.
    pub(crate) fn shards(&self) -> impl Iterator<Item = u16> {
        let (one, many) = match self {
            Self::None => (None, [].as_slice()),
            Self::One(one) => (Some(one.shard), [].as_slice()),
            Self::Many(shards) => (None, shards.as_slice()),
        };
        one.into_iter().chain(many.iter().map(|shard| shard.shard))
    }

    /// The shard that has all subscriptions, if one shard does.
    pub(super) fn only_shard(&self) -> Option<u16> {
        match self {
            Self::None => None,
            Self::One(one) => Some(one.shard),
            Self::Many(shards) => {
                if let [only] = shards.as_slice() {
                    Some(only.shard)
                } else {
                    None
                }
            }
        }
    }

    /// Adds a subscription; false if it is there already.
    pub(crate) fn add(&mut self, at: SessionRef) -> bool {
        match self {
            Self::None => {
                *self = Self::One(at);
                true
            }
            Self::One(one) if *one == at => false,
            Self::One(one) => {
                let mut shards = Vec::with_capacity(1);
                insert(&mut shards, *one);
                insert(&mut shards, at);
                *self = Self::Many(shards);
                true
            }
            Self::Many(shards) => insert(shards, at),
        }
    }

    /// Removes a subscription; false if it is not there.
    pub(crate) fn remove(&mut self, at: SessionRef) -> bool {
        match self {
            Self::None => false,
            Self::One(one) if *one != at => false,
            Self::One(_) => {
                *self = Self::None;
                true
            }
            Self::Many(shards) => {
                let was_there = remove(shards, at);
                if shards.is_empty() {
                    *self = Self::None;
                }
                was_there
            }
        }
    }

    /// Bytes on the heap.
    #[cfg(test)]
    pub(crate) fn heap(&self) -> usize {
        let Self::Many(shards) = self else { return 0 };
        let sets: usize = shards.iter().map(|shard| shard.slots.allocation_size()).sum();
        shards.capacity() * size_of::<OnShard>() + sets
    }
}

fn insert(shards: &mut Vec<OnShard>, at: SessionRef) -> bool {
    let slot = (at.slot, at.life);
    match shards.iter_mut().find(|shard| shard.shard == at.shard) {
        Some(shard) => shard.slots.insert(slot),
        None => {
            shards.push(OnShard { shard: at.shard, slots: HashSet::from_iter([slot]) });
            true
        }
    }
}

fn remove(shards: &mut Vec<OnShard>, at: SessionRef) -> bool {
    let Some(index) = shards.iter().position(|shard| shard.shard == at.shard) else { return false };
    let slots = &mut shards[index].slots;
    let was_there = slots.remove(&(at.slot, at.life));
    if slots.is_empty() {
        shards.swap_remove(index);
    } else if slots.capacity() > 4 * slots.len() {
        slots.shrink_to(2 * slots.len());
    }
    was_there
}
