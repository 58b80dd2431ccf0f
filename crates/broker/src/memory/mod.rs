//! Channel state in this process: the broker of a single node.
//!
//! Channels are spread over [`PARTITIONS`] partitions by a hash of app and name; each partition has a mutex. Every
//! change to a channel happens under its partition's lock, and the resulting messages are appended to the shards'
//! inboxes under the same lock. That makes the channel's order. Nothing blocks or awaits under a lock.

mod budget;
mod channel;
mod history;
mod member_set;
mod snapshot;
#[cfg(test)]
mod tests;
mod transitions;

use std::collections::BTreeMap;
use std::hash::BuildHasher;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use hashbrown::DefaultHashBuilder;
use parking_lot::{Mutex, MutexGuard};
use tidings_model::channel::{ChannelKey, Member};
use tidings_model::clock::{Millis, SharedClock, millis};
use tidings_model::id::AppId;
use tidings_model::policy::{self, AFTER_INTERNAL};

use crate::broker::{
    Broker, BrokerError, Cached, ChannelFilter, ChannelState, History, HistoryRange, Join, Leave, MAX_NAMES_SCANNED,
    Publish, PublishOutcome,
};
use crate::session_order::SessionOrder;
use crate::shard_message::{ShardMessage, Shards};
use crate::transition_sink::{self, DiscardTransitions, TransitionSink};
use budget::Budgets;
pub use budget::MemoryLimits;
use channel::Channel;
use transitions::TransitionRecorder;

const PARTITIONS: usize = 64;
/// Partitions per sweep. With a sweep every second, each partition is swept every four seconds.
const SWEPT_AT_ONCE: usize = 16;

type Channels = hashbrown::HashMap<ChannelKey, Channel>;

/// What the broker of a single node holds, for metrics and for tests that look for leaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Sizes {
    /// Channels that have subscriptions, a history or a cached event.
    pub channels: usize,
    /// Subscriptions.
    pub subscriptions: u64,
    /// Sessions whose member is kept.
    pub members: usize,
    /// Bytes of history and cached events.
    pub kept_bytes: usize,
}

/// The broker of a single node.
pub struct MemoryBroker {
    partitions: [Mutex<Channels>; PARTITIONS],
    hasher: DefaultHashBuilder,
    shards: Arc<dyn Shards>,
    sink: Arc<dyn TransitionSink>,
    /// The number of the last transition: one for all channels, higher than any of an earlier run.
    transitions: AtomicU64,
    clock: SharedClock,
    budgets: Budgets,
    next_swept: AtomicUsize,
    /// State has been handed over for the next start, so publishes are refused.
    closed: AtomicBool,
}

impl MemoryBroker {
    /// A broker without channels that sends to these shards.
    pub fn new(clock: SharedClock, shards: Arc<dyn Shards>, limits: MemoryLimits) -> Self {
        Self {
            partitions: std::array::from_fn(|_| Mutex::default()),
            hasher: DefaultHashBuilder::default(),
            shards,
            sink: Arc::new(DiscardTransitions),
            transitions: AtomicU64::new(0),
            clock,
            budgets: Budgets::new(limits),
            next_swept: AtomicUsize::new(0),
            closed: AtomicBool::new(false),
        }
    }

    /// Records transitions in this sink, with numbers above `last`. No earlier run may have used a number above `last`.
    #[must_use]
    pub fn with_transitions(self, sink: Arc<dyn TransitionSink>, last: u64) -> Self {
        Self { sink, transitions: AtomicU64::new(last), ..self }
    }

    fn recorder(&self, channel: &ChannelKey) -> TransitionRecorder<'_> {
        TransitionRecorder {
            wanted: transition_sink::wanted(&*self.sink, channel),
            sink: &*self.sink,
            last: &self.transitions,
        }
    }

    /// Hands over the state that outlives an orderly stop, channel by channel, as bytes for [`MemoryBroker::restore`].
    /// Publishes are refused from here on.
    ///
    /// # Errors
    /// The first error of `take`; the channels after it are not handed over.
    pub fn hand_over<E>(&self, mut take: impl FnMut(&[u8]) -> Result<(), E>) -> Result<(), E> {
        self.closed.store(true, Ordering::SeqCst);
        let now = self.now();
        for partition in &self.partitions {
            // A publish looks at `closed` under this lock: either its event is here already, or it is refused.
            let channels = std::mem::take(&mut *partition.lock());
            for (key, mut channel) in channels {
                channel.expire(now);
                if let Some(bytes) = snapshot::write(&key, &channel, now) {
                    take(&bytes)?;
                }
            }
        }
        Ok(())
    }

    /// Restores a channel that an earlier broker handed over; `elapsed` is the time since then. Its history continues
    /// where it ended. `false` if the bytes cannot be read. Call it before the first publish.
    pub fn restore(&self, bytes: &[u8], elapsed: Duration) -> bool {
        let now = self.now();
        let Some((key, mut channel)) = snapshot::read(bytes, millis(elapsed), now, &self.budgets) else { return false };
        channel.expire(now);
        if !channel.is_blank() {
            self.partition(&key).insert(key, channel);
        }
        true
    }

    /// Measures what the broker holds. Visits every channel.
    pub fn sizes(&self) -> Sizes {
        let mut sizes = Sizes::default();
        for partition in &self.partitions {
            let channels = partition.lock();
            sizes.channels += channels.len();
            for channel in channels.values() {
                sizes.subscriptions += channel.occupancy().subscriptions;
                sizes.members += channel.member_sessions();
            }
        }
        sizes.kept_bytes = self.budgets.used();
        sizes
    }

    fn partition(&self, channel: &ChannelKey) -> MutexGuard<'_, Channels> {
        let hash = self.hasher.hash_one(channel);
        self.partitions[(hash >> 32) as usize % PARTITIONS].lock()
    }

    fn now(&self) -> Millis {
        self.clock.steady_ms()
    }

    /// Reads a channel after dropping its expired parts; `None` if there is no such channel.
    fn inspect<T>(&self, key: &ChannelKey, inspect: impl FnOnce(&Channel, Millis) -> T) -> Option<T> {
        let now = self.now();
        let mut channels = self.partition(key);
        let channel = channels.get_mut(key)?;
        channel.expire(now);
        if channel.is_blank() {
            channels.remove(key);
            return None;
        }
        Some(inspect(channel, now))
    }
}

#[async_trait]
impl Broker for MemoryBroker {
    fn name(&self) -> &'static str {
        "memory"
    }

    fn overloaded(&self) -> bool {
        self.shards.overloaded()
    }

    fn is_cut_off(&self) -> bool {
        false
    }

    async fn publish(&self, publish: Publish) -> Result<PublishOutcome, BrokerError> {
        if self.shards.overloaded() {
            return Err(BrokerError::Overloaded);
        }
        let keeps = !publish.by_client && (publish.options.history_size > 0 || publish.options.cache_ttl.is_some());
        let budget = keeps.then(|| self.budgets.of(&publish.channel.app));
        let now = self.now();
        let mut channels = self.partition(&publish.channel);
        if self.closed.load(Ordering::SeqCst) {
            return Err(BrokerError::Unavailable);
        }
        // Without subscriptions and without anything to keep, no channel is created.
        let key = publish.channel.clone();
        let channel = match channels.get_mut(&key) {
            Some(channel) => channel,
            None if keeps => channels.entry(key.clone()).or_default(),
            None => return Ok(PublishOutcome::default()),
        };
        channel.expire(now);
        let appended = channel.publish(publish, budget.as_ref(), &*self.shards, now);
        let occupancy = channel.occupancy();
        if channel.is_blank() {
            channels.remove(&key);
        }
        drop(channels);
        if let Some(shard) = appended {
            self.shards.write_inline(shard);
        }
        Ok(PublishOutcome { occupancy, local_only: false })
    }

    async fn join(&self, join: Join) -> Result<(), BrokerError> {
        let budget = (join.options.history_size > 0).then(|| self.budgets.of(&join.channel.app));
        let key = join.channel.clone();
        let now = self.now();
        let recorder = self.recorder(&key);
        let mut channels = self.partition(&key);
        let channel = channels.entry(key.clone()).or_default();
        channel.expire(now);
        channel.join(join, budget.as_ref(), &*self.shards, now, recorder);
        if channel.is_blank() {
            // The join was refused, and the channel was created for it.
            channels.remove(&key);
        }
        Ok(())
    }

    async fn leave(&self, leave: Leave) -> Result<(), BrokerError> {
        let now = self.now();
        let recorder = self.recorder(&leave.channel);
        let mut channels = self.partition(&leave.channel);
        match channels.get_mut(&leave.channel) {
            Some(channel) => {
                channel.leave(&leave, &*self.shards, now, recorder);
                channel.expire(now);
                if channel.is_blank() {
                    channels.remove(&leave.channel);
                }
            }
            None => channel::send_left(&leave, &*self.shards),
        }
        Ok(())
    }

    async fn channel(&self, key: &ChannelKey) -> Result<Option<ChannelState>, BrokerError> {
        Ok(self.inspect(key, |channel, _| channel.state(key)))
    }

    async fn channels(&self, app: &AppId, filter: ChannelFilter) -> Result<Vec<ChannelState>, BrokerError> {
        let after = filter.after.as_deref().unwrap_or_default().max(AFTER_INTERNAL);
        let is_after = |name: &str| name > after;
        let is_wanted =
            |key: &ChannelKey| key.app == *app && key.name.starts_with(&filter.prefix) && is_after(&key.name);
        // Holds at most `limit` channels: the first ones of all that were visited so far.
        let mut first = BTreeMap::new();
        for partition in &self.partitions {
            let channels = partition.lock();
            for (key, channel) in channels.iter().filter(|(key, channel)| channel.is_occupied() && is_wanted(key)) {
                let is_full = first.len() >= filter.limit;
                if is_full && first.last_key_value().is_none_or(|(last, _)| *last < key.name) {
                    continue;
                }
                first.insert(Arc::clone(&key.name), channel.state(key));
                if is_full {
                    first.pop_last();
                }
            }
        }
        Ok(first.into_values().collect())
    }

    fn names_here(&self, app: &AppId) -> Vec<Arc<str>> {
        let mut names = Vec::new();
        for partition in &self.partitions {
            let channels = partition.lock();
            let scanned = channels.iter().take(MAX_NAMES_SCANNED / PARTITIONS);
            let here = scanned
                .filter(|(key, channel)| key.app == *app && channel.is_occupied() && !policy::is_internal(&key.name));
            names.extend(here.map(|(key, _)| Arc::clone(&key.name)));
        }
        names
    }

    async fn members(&self, key: &ChannelKey) -> Result<Vec<Arc<Member>>, BrokerError> {
        Ok(self.inspect(key, |channel, _| channel.members()).unwrap_or_default())
    }

    async fn history(&self, key: &ChannelKey, range: HistoryRange) -> Result<History, BrokerError> {
        let nothing = History { position: None, complete: range.since.is_none(), publications: Vec::new() };
        Ok(self.inspect(key, |channel, _| channel.history(&range)).flatten().unwrap_or(nothing))
    }

    async fn cached(&self, key: &ChannelKey) -> Result<Option<Cached>, BrokerError> {
        Ok(self.inspect(key, |channel, now| channel.cached(now)).flatten())
    }

    async fn order(&self, order: SessionOrder) -> Result<(), BrokerError> {
        self.order_here(order);
        Ok(())
    }

    fn order_here(&self, order: SessionOrder) {
        let order = Arc::new(order);
        for shard in 0..self.shards.count() {
            self.shards.send(shard, ShardMessage::Order(Arc::clone(&order)));
        }
    }

    async fn sweep(&self) {
        let now = self.now();
        let first = self.next_swept.fetch_add(SWEPT_AT_ONCE, Ordering::Relaxed);
        for n in first..first + SWEPT_AT_ONCE {
            let mut channels = self.partitions[n % PARTITIONS].lock();
            channels.retain(|key, channel| {
                channel.expire(now);
                if channel.count_pending() {
                    channel.send_count(key, &*self.shards, now, self.recorder(key));
                }
                !channel.is_blank()
            });
            if channels.capacity() > 4 * channels.len() {
                let room = 2 * channels.len();
                channels.shrink_to(room);
            }
        }
    }
}

impl std::fmt::Debug for MemoryBroker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("MemoryBroker").field("sizes", &self.sizes()).finish_non_exhaustive()
    }
}
