//! Inboxes: how every other thread sends messages to a shard.
//!
//! An inbox is a queue behind a mutex, and an eventfd that is written only when the shard sleeps. Senders only append;
//! the shard takes the whole queue at once and processes it in order. A message for few sessions of a sleeping shard is
//! written by the sender's thread ([`Shards::write_inline`]): two threads that wake each other cost more than those
//! writes. Messages that the shard has taken and not processed still count for [`Shards::overloaded`]: otherwise a
//! shard far behind would look idle.

use std::collections::VecDeque;
use std::io;
use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;

use mio::{Poll, Token, Waker};
use parking_lot::Mutex;
use tidings_broker::{SessionRef, ShardMessage, Shards};
use tidings_model::clock::{Millis, SharedClock, millis};

use crate::new_session::NewSession;
use crate::protocol::CloseReason;
use crate::requests::SessionResponse;
use crate::settings::Settings;

/// The token of the waker; slots of sessions are smaller.
pub(crate) const WAKER: Token = Token(usize::MAX);
/// The time of the oldest message where there is none.
const NEVER: Millis = Millis::MAX;
/// The weight in bytes of a message besides its content.
const ITEM_OVERHEAD: usize = 128;
/// A queue that has grown beyond this many messages is freed when it is empty.
const KEPT_CAPACITY: usize = 8_192;

/// A message to a shard.
#[derive(Debug)]
pub(crate) enum InboxMessage {
    /// From the broker.
    Broker(ShardMessage),
    /// A session begins.
    NewSession(Box<NewSession>),
    /// The response to a request that was not answered at once.
    Response { at: SessionRef, request_id: u32, response: SessionResponse },
    /// The body of the session's response was dropped.
    StreamDropped(SessionRef),
    /// End the sessions whose bytes leave as a response of an HTTP server.
    EndStreams,
    /// End all sessions within this time, then the shard.
    Stop(Duration, CloseReason),
}

impl InboxMessage {
    fn weight(&self) -> usize {
        match self {
            Self::Broker(ShardMessage::Message { message, .. }) => ITEM_OVERHEAD + message.content().weight(),
            _ => ITEM_OVERHEAD,
        }
    }
}

/// A message with what is needed to detect overload.
#[derive(Debug)]
pub(crate) struct QueuedMessage {
    pub(crate) item: InboxMessage,
    pub(crate) weight: usize,
    /// When it was put into the inbox, in steady time.
    pub(crate) queued_at: Millis,
}

#[derive(Debug, Default)]
struct Queue {
    entries: VecDeque<QueuedMessage>,
    /// The shard waits for events, and must be woken.
    asleep: bool,
    /// The shard has ended and takes nothing any more.
    closed: bool,
}

/// The inbox of one shard.
#[derive(Debug)]
pub(crate) struct Inbox {
    queue: Mutex<Queue>,
    waker: Waker,
    /// Bytes of the queued messages and of those that the shard has taken and not yet processed.
    weight: AtomicUsize,
    /// When the oldest queued message was put here.
    oldest_here: AtomicI64,
    /// When the oldest message that the shard has taken and not yet processed was put here.
    oldest_taken: AtomicI64,
}

impl Inbox {
    fn put(&self, item: InboxMessage, now: Millis) {
        let wake = {
            let mut queue = self.queue.lock();
            self.append(&mut queue, item, now);
            std::mem::take(&mut queue.asleep)
        };
        if wake {
            self.wake();
        }
    }

    fn put_quietly(&self, item: InboxMessage, now: Millis) {
        self.append(&mut self.queue.lock(), item, now);
    }

    fn append(&self, queue: &mut Queue, item: InboxMessage, now: Millis) {
        if queue.closed {
            return;
        }
        let weight = item.weight();
        self.weight.fetch_add(weight, Relaxed);
        if queue.entries.is_empty() {
            self.oldest_here.store(now, Relaxed);
        }
        queue.entries.push_back(QueuedMessage { item, weight, queued_at: now });
    }

    fn wake(&self) {
        if let Err(error) = self.waker.wake() {
            tracing::error!(%error, "waking a shard failed");
        }
    }

    /// Whether the shard sleeps although a message is queued.
    fn is_waiting(&self) -> bool {
        let queue = self.queue.lock();
        queue.asleep && !queue.entries.is_empty()
    }

    /// Swaps the queue for `taken`, which is empty.
    pub(crate) fn take(&self, taken: &mut VecDeque<QueuedMessage>) {
        if taken.capacity() > KEPT_CAPACITY {
            *taken = VecDeque::new();
        }
        self.swap(&mut self.queue.lock(), taken);
    }

    /// As [`Inbox::take`], but only if the queue holds channel messages alone, and at most `few` of them.
    pub(crate) fn take_channel_messages(&self, taken: &mut VecDeque<QueuedMessage>, few: usize) -> bool {
        let mut queue = self.queue.lock();
        let is_channel_message =
            |entry: &QueuedMessage| matches!(entry.item, InboxMessage::Broker(ShardMessage::Message { .. }));
        if queue.entries.len() > few || !queue.entries.iter().all(is_channel_message) {
            return false;
        }
        self.swap(&mut queue, taken);
        true
    }

    fn swap(&self, queue: &mut Queue, taken: &mut VecDeque<QueuedMessage>) {
        queue.asleep = false;
        if queue.entries.is_empty() {
            return;
        }
        std::mem::swap(&mut queue.entries, taken);
        self.oldest_taken.store(self.oldest_here.swap(NEVER, Relaxed), Relaxed);
    }

    /// Notes that the shard is about to wait for events. False: it must not, because a message is queued.
    pub(crate) fn fall_asleep(&self) -> bool {
        let mut queue = self.queue.lock();
        queue.asleep = queue.entries.is_empty();
        queue.asleep
    }

    /// Notes that messages of this weight are processed. `next` is when the next message that the shard has taken was
    /// put here.
    pub(crate) fn done(&self, weight: usize, next: Option<Millis>) {
        self.weight.fetch_sub(weight, Relaxed);
        self.oldest_taken.store(next.unwrap_or(NEVER), Relaxed);
    }

    /// Notes that the shard has ended. Drops the queued messages, and all later ones.
    pub(crate) fn close(&self) {
        let left = {
            let mut queue = self.queue.lock();
            queue.closed = true;
            std::mem::take(&mut queue.entries)
        };
        // Dropped without the lock: dropping a new session's connection may put a message here.
        drop(left);
        self.weight.store(0, Relaxed);
        self.oldest_here.store(NEVER, Relaxed);
        self.oldest_taken.store(NEVER, Relaxed);
    }

    fn overloaded(&self, bounds: &Bounds, now: impl FnOnce() -> Millis) -> bool {
        if self.weight.load(Relaxed) > bounds.bytes {
            return true;
        }
        let oldest = self.oldest_here.load(Relaxed).min(self.oldest_taken.load(Relaxed));
        oldest != NEVER && now().saturating_sub(oldest) > bounds.age
    }
}

/// A shard on whose behalf another thread writes while it sleeps.
pub(crate) trait InlineWriter: Send + Sync {
    /// Processes the inbox of a sleeping shard on the caller's thread. False: something is left to do, and the caller
    /// wakes the shard.
    fn write_inline(&self) -> bool;
}

#[derive(Debug)]
struct Bounds {
    bytes: usize,
    age: Millis,
}

/// The inboxes of a node's shards; clones share them. They exist before the shards, because the broker that fills them
/// must exist before the first session.
#[derive(Clone)]
pub struct Inboxes(Arc<Inner>);

struct Inner {
    inboxes: Box<[Inbox]>,
    /// The shards' pollers, until the shards start.
    polls: Mutex<Vec<Poll>>,
    /// The shards, once they have started.
    shards: OnceLock<Vec<Weak<dyn InlineWriter>>>,
    bounds: Bounds,
    clock: SharedClock,
}

impl std::fmt::Debug for Inboxes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Inboxes").field(&self.0.inboxes).finish()
    }
}

impl Inboxes {
    /// Inboxes for `count` shards; 0: one for each core.
    ///
    /// # Errors
    /// When the system gives no more file descriptors; each shard takes two.
    pub fn new(count: u16, settings: &Settings, clock: SharedClock) -> io::Result<Self> {
        let cores =
            || std::thread::available_parallelism().map_or(1, |cores| u16::try_from(cores.get()).unwrap_or(u16::MAX));
        let count = if count == 0 { cores() } else { count };
        let mut inboxes = Vec::new();
        let mut polls = Vec::new();
        for _ in 0..count {
            let poll = Poll::new()?;
            inboxes.push(Inbox {
                queue: Mutex::default(),
                waker: Waker::new(poll.registry(), WAKER)?,
                weight: AtomicUsize::new(0),
                oldest_here: AtomicI64::new(NEVER),
                oldest_taken: AtomicI64::new(NEVER),
            });
            polls.push(poll);
        }
        let bounds = Bounds { bytes: settings.inbox_bytes, age: millis(settings.inbox_age) };
        let shards = OnceLock::new();
        Ok(Self(Arc::new(Inner { inboxes: inboxes.into(), polls: Mutex::new(polls), shards, bounds, clock })))
    }

    /// Takes the shards' pollers, in the shards' order; empty when they were taken before.
    pub(crate) fn take_polls(&self) -> Vec<Poll> {
        std::mem::take(&mut *self.0.polls.lock())
    }

    pub(crate) fn clock(&self) -> &SharedClock {
        &self.0.clock
    }

    /// Sets the shards, in their order.
    pub(crate) fn set_shards(&self, shards: Vec<Weak<dyn InlineWriter>>) {
        // The shards start only once, because their pollers can be taken only once.
        _ = self.0.shards.set(shards);
    }

    pub(crate) fn of(&self, shard: u16) -> Option<&Inbox> {
        self.0.inboxes.get(usize::from(shard))
    }

    pub(crate) fn put(&self, shard: u16, item: InboxMessage) {
        if let Some(inbox) = self.of(shard) {
            inbox.put(item, self.0.clock.steady_ms());
        }
    }
}

impl Shards for Inboxes {
    fn count(&self) -> u16 {
        u16::try_from(self.0.inboxes.len()).unwrap_or(u16::MAX)
    }

    fn send(&self, shard: u16, message: ShardMessage) {
        self.put(shard, InboxMessage::Broker(message));
    }

    fn append(&self, shard: u16, message: ShardMessage) {
        if let Some(inbox) = self.of(shard) {
            inbox.put_quietly(InboxMessage::Broker(message), self.0.clock.steady_ms());
        }
    }

    fn write_inline(&self, shard: u16) {
        let Some(inbox) = self.of(shard).filter(|inbox| inbox.is_waiting()) else { return };
        let shards = self.0.shards.get();
        let writer = shards.and_then(|shards| shards.get(usize::from(shard))).and_then(Weak::upgrade);
        if !writer.is_some_and(|writer| writer.write_inline()) {
            inbox.wake();
        }
    }

    fn overloaded(&self) -> bool {
        self.0.inboxes.iter().any(|inbox| inbox.overloaded(&self.0.bounds, || self.0.clock.steady_ms()))
    }
}

#[cfg(test)]
mod tests {
    use tidings_broker::Left;
    use tidings_model::channel::ChannelKey;
    use tidings_model::clock::ManualClock;
    use tidings_wire::{ChannelMessage, EncodedMessage};

    use super::*;

    fn left() -> ShardMessage {
        let at = SessionRef { shard: 0, slot: 0, life: 0 };
        ShardMessage::Left(Left { at, request_id: 0, channel: ChannelKey::new("1".into(), "c") })
    }

    #[test]
    fn what_a_shard_has_taken_and_not_done_still_counts_as_waiting() {
        let clock = ManualClock::at(0);
        let settings = Settings { inbox_bytes: 1_000, ..Settings::default() };
        let inboxes = Inboxes::new(2, &settings, clock.clone()).unwrap();
        let said = ChannelMessage::Subscriptions { channel: ChannelKey::new("1".into(), "c"), count: 1 };
        let prepared = Arc::new(EncodedMessage::new(said));
        let mut taken = VecDeque::new();
        for _ in 0..2 {
            inboxes.send(1, ShardMessage::Message { message: Arc::clone(&prepared), except: None });
        }
        assert!(inboxes.overloaded(), "two are more than 1000 bytes");
        let inbox = inboxes.of(1).unwrap();
        inbox.take(&mut taken);
        assert!(inboxes.overloaded(), "they have been taken, not done");
        let first = taken.pop_front().unwrap();
        inbox.done(first.weight, taken.front().map(|entry| entry.queued_at));
        assert!(!inboxes.overloaded());
    }

    #[test]
    fn what_waits_too_long_is_overload_here_and_in_the_shards_hands() {
        let clock = ManualClock::at(0);
        let inboxes = Inboxes::new(1, &Settings::default(), clock.clone()).unwrap();
        let inbox = inboxes.of(0).unwrap();
        let mut taken = VecDeque::new();
        clock.advance(Duration::from_secs(5));
        assert!(!inboxes.overloaded(), "nothing waits");
        inboxes.send(0, left());
        clock.advance(Duration::from_secs(1));
        assert!(!inboxes.overloaded());
        clock.advance(Duration::from_millis(1));
        assert!(inboxes.overloaded());
        inbox.take(&mut taken);
        inboxes.send(0, left());
        assert!(inboxes.overloaded());
        inbox.done(taken.pop_front().unwrap().weight, None);
        assert!(!inboxes.overloaded(), "the next one has just come");
    }

    #[test]
    fn a_shard_falls_asleep_only_when_nothing_is_there_and_a_closed_inbox_takes_nothing() {
        let inboxes = Inboxes::new(1, &Settings::default(), ManualClock::at(0)).unwrap();
        let inbox = inboxes.of(0).unwrap();
        assert!(inbox.fall_asleep());
        inboxes.send(0, left());
        assert!(!inbox.fall_asleep());
        inbox.close();
        inboxes.send(0, left());
        assert!(inbox.fall_asleep() && inbox.weight.load(Relaxed) == 0);
        inboxes.send(9, left());
    }
}
