//! What others do for a shard that sleeps.
//!
//! Whoever publishes to one or a few sessions and finds their shard asleep takes its place for a moment: the frame leaves with
//! the publisher's own `send`, and no thread has to wake another. Only what cannot change anything but sockets is done here;
//! everything else, and whatever goes wrong, is left to the shard.

use parking_lot::Mutex;
use tidings_broker::{Told, Way};

use super::Shard;
use crate::inbox::{Attendant, Entry, Item};

/// Things that were said, at most.
const FEW: usize = 4;
/// Sends, at most.
const SENDS: usize = 16;

impl Attendant for Mutex<Shard> {
    fn attend(&self) -> bool {
        // The shard is just waking up, or somebody else is at it.
        self.try_lock().is_some_and(|mut shard| shard.attend())
    }
}

impl Shard {
    fn attend(&mut self) -> bool {
        let is_free = self.walk.is_none() && self.batch.is_empty() && self.stopping.is_none();
        if !is_free || !self.inboxes.of(self.number).is_some_and(|inbox| inbox.take_said(&mut self.batch, FEW)) {
            return false;
        }
        let mut left = SENDS;
        while let Some(Entry { item, weight, .. }) = self.batch.pop_front() {
            if let Item::Told(Told::Said { prepared, except }) = item {
                self.begin_walk(prepared, except, weight);
            }
            let Some(walk) = self.walk.take() else { continue };
            let subscribers = self.channels.subscribers(walk.channel());
            let is_simple = subscribers.iter().all(|subscriber| matches!(subscriber.way, Way::Shared(_)));
            if !is_simple || subscribers.len() > left {
                self.walk = Some(walk);
                return false;
            }
            left -= self.walk_on(walk, left);
        }
        self.doomed.is_empty() && self.inboxes.of(self.number).is_some_and(|inbox| inbox.fall_asleep())
    }
}
