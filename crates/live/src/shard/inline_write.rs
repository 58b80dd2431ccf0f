//! Writing to few sessions of a sleeping shard on the publisher's own thread.
//!
//! A publisher that finds the shard asleep takes its place for a moment: the frame leaves with the publisher's `send`,
//! and no thread has to wake another. Only fan-outs that change nothing but sockets are written here; everything else,
//! and every error, is left to the shard.

use std::panic::{AssertUnwindSafe, catch_unwind};

use parking_lot::Mutex;
use tidings_broker::{DeliveryMode, ShardMessage};

use super::Shard;
use crate::inbox::{InboxMessage, InlineWriter, QueuedMessage};

/// Messages, at most.
const FEW: usize = 4;
/// Sends, at most.
const SENDS: usize = 16;

impl InlineWriter for Mutex<Shard> {
    fn write_inline(&self) -> bool {
        // The lock is taken: the shard is waking up, or another publisher writes.
        self.try_lock().is_some_and(|mut shard| {
            // A panic is the shard's to die of, in its own thread, and not the publisher's.
            let written = catch_unwind(AssertUnwindSafe(|| shard.write_inline()));
            shard.is_broken |= written.is_err();
            written.unwrap_or(false)
        })
    }
}

impl Shard {
    fn write_inline(&mut self) -> bool {
        let is_free = self.walk.is_none() && self.batch.is_empty() && self.stopping.is_none();
        if !is_free || !self.inboxes.of(self.number).is_some_and(|inbox| inbox.take_said(&mut self.batch, FEW)) {
            return false;
        }
        let mut left = SENDS;
        while let Some(QueuedMessage { item, weight, .. }) = self.batch.pop_front() {
            if let InboxMessage::Broker(ShardMessage::Message { message: prepared, except }) = item {
                self.begin_walk(prepared, except, weight);
            }
            let Some(walk) = self.walk.take() else { continue };
            let subscribers = self.channels.subscribers(walk.channel);
            let is_simple = subscribers.iter().all(|subscriber| matches!(subscriber.mode, DeliveryMode::Shared(_)));
            if !is_simple || subscribers.len() > left {
                self.walk = Some(walk);
                return false;
            }
            left -= self.continue_walk(walk, left);
        }
        self.doomed.is_empty() && self.inboxes.of(self.number).is_some_and(|inbox| inbox.fall_asleep())
    }
}
