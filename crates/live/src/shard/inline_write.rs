//! Writing to few sessions of a sleeping shard on the publisher's own thread.
//!
//! A publisher that finds the shard asleep does the shard's work for a moment: the frame leaves with the publisher's
//! `send`, and no thread has to wake another. Only walks that do nothing but write to sockets are done here. Everything
//! else, and every error, is left to the shard.

use std::panic::{AssertUnwindSafe, catch_unwind};

use parking_lot::Mutex;
use tidings_broker::{DeliveryMode, ShardMessage};

use super::Shard;
use crate::inbox::{InboxMessage, InlineWriter, QueuedMessage};

/// Most messages that are written inline.
const MAX_MESSAGES: usize = 4;
/// Most `send` calls of one inline write.
const MAX_SENDS: usize = 16;

impl InlineWriter for Mutex<Shard> {
    fn write_inline(&self) -> bool {
        // If the lock is held, the shard is waking up, or another publisher writes.
        self.try_lock().is_some_and(|mut shard| {
            // A panic here must end the shard, in the shard's own thread, and not the publisher.
            let written = catch_unwind(AssertUnwindSafe(|| shard.write_inline()));
            shard.is_broken |= written.is_err();
            written.unwrap_or(false)
        })
    }
}

impl Shard {
    fn write_inline(&mut self) -> bool {
        let is_free = self.walk.is_none() && self.batch.is_empty() && self.stopping.is_none();
        if !is_free
            || !self
                .inboxes
                .of(self.number)
                .is_some_and(|inbox| inbox.take_channel_messages(&mut self.batch, MAX_MESSAGES))
        {
            return false;
        }
        let mut left = MAX_SENDS;
        while let Some(QueuedMessage { item, weight, .. }) = self.batch.pop_front() {
            if let InboxMessage::Broker(ShardMessage::Message { message, except }) = item {
                self.begin_walk(message, except, weight);
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
        self.failed_writes.is_empty() && self.inboxes.of(self.number).is_some_and(|inbox| inbox.fall_asleep())
    }
}
