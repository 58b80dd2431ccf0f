//! The subscriber lists of the channels in which a shard has sessions.

use std::hash::{BuildHasher as _, RandomState};

use hashbrown::HashTable;
use slab::Slab;
use tidings_broker::DeliveryMode;
use tidings_model::channel::ChannelKey;

/// A session in a channel's list; its counterpart is `Subscription` in the session.
#[derive(Debug, Clone, Copy)]
pub(super) struct Subscriber {
    pub(super) slot: u32,
    /// The index of the counterpart in the session's list.
    pub(super) index_in_session: u32,
    pub(super) mode: DeliveryMode,
}

#[derive(Debug)]
struct Local {
    key: ChannelKey,
    subscribers: Vec<Subscriber>,
}

/// The channels in which a shard has sessions.
#[derive(Debug, Default)]
pub(super) struct Channels {
    by_key: HashTable<u32>,
    local: Slab<Local>,
    hasher: RandomState,
}

impl Channels {
    pub(super) fn find(&self, key: &ChannelKey) -> Option<u32> {
        let is_it = |&channel: &u32| self.local[channel as usize].key == *key;
        self.by_key.find(self.hasher.hash_one(key), is_it).copied()
    }

    pub(super) fn key(&self, channel: u32) -> &ChannelKey {
        &self.local[channel as usize].key
    }

    pub(super) fn subscribers(&self, channel: u32) -> &[Subscriber] {
        self.local.get(channel as usize).map_or(&[], |local| &local.subscribers)
    }

    pub(super) fn subscriber(&mut self, channel: u32, index: u32) -> &mut Subscriber {
        &mut self.local[channel as usize].subscribers[index as usize]
    }

    /// Adds a subscriber, and creates the channel if it is new. Returns the channel and the subscriber's index in it.
    pub(super) fn add(&mut self, key: &ChannelKey, subscriber: Subscriber) -> (u32, u32) {
        let channel = self.find(key).unwrap_or_else(|| {
            let channel = self.local.insert(Local { key: key.clone(), subscribers: Vec::with_capacity(1) }) as u32;
            let hash = |&channel: &u32| self.hasher.hash_one(&self.local[channel as usize].key);
            self.by_key.insert_unique(self.hasher.hash_one(key), channel, hash);
            channel
        });
        let subscribers = &mut self.local[channel as usize].subscribers;
        subscribers.push(subscriber);
        (channel, subscribers.len() as u32 - 1)
    }

    /// Removes the subscriber at an index and returns the one that took its index. A channel without subscribers is
    /// removed.
    pub(super) fn remove(&mut self, channel: u32, index: u32) -> Option<Subscriber> {
        let subscribers = &mut self.local[channel as usize].subscribers;
        subscribers.swap_remove(index as usize);
        let moved = subscribers.get(index as usize).copied();
        if subscribers.is_empty() {
            let local = self.local.remove(channel as usize);
            let hash = self.hasher.hash_one(&local.key);
            if let Ok(entry) = self.by_key.find_entry(hash, |&other| other == channel) {
                entry.remove();
            }
            if self.local.is_empty() {
                *self = Self { hasher: self.hasher.clone(), ..Self::default() };
            }
        } else if subscribers.capacity() > 4 * subscribers.len() {
            subscribers.shrink_to(2 * subscribers.len());
        }
        moved
    }

    pub(super) fn len(&self) -> usize {
        self.local.len()
    }
}
