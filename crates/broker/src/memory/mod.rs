//! Channel state in this process: the broker of a single node.
//!
//! Channels lie in [`PARTITIONS`] partitions by a hash of app and name, each behind a mutex. Whatever happens to a
//! channel happens under its partition's lock, and what comes of it is appended to shards' inboxes under it: that is
//! the channel's order. Nothing waits under a lock.

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
    Broker, BrokerError, Cached, ChannelFilter, ChannelState, History, HistoryRange, Join, LOOKED_AT, Leave, Publish,
    PublishOutcome,
};
use crate::session_order::SessionOrder;
use crate::shard_message::{ShardMessage, Shards};
use crate::transition_sink::{self, DiscardTransitions, TransitionSink};
use budget::Budgets;
pub use budget::MemoryLimits;
use channel::Channel;
use transitions::TransitionRecorder;

const PARTITIONS: usize = 64;
/// Partitions that one sweep looks at: with a sweep a second, each is seen every four seconds.
const SWEPT_AT_ONCE: usize = 16;

type Channels = hashbrown::HashMap<ChannelKey, Channel>;

/// What the broker of a single node holds, for metrics and for tests that look for leaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Sizes {
    /// Channels that somebody is in, or of which something is kept.
    pub channels: usize,
    /// Subscriptions.
    pub subscriptions: u64,
    /// Sessions whose member is remembered.
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
    /// What is kept has been handed over: nothing can be said any more.
    closed: AtomicBool,
}

impl MemoryBroker {
    /// A broker without any channels, that tells these shards.
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

    /// Tells this watch of transitions, and numbers them from above `last`, which no earlier run has gone beyond.
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

    /// Hands over what is to outlive an orderly stop, channel by channel, as bytes for [`MemoryBroker::restore`].
    /// Nothing can be said from here on.
    ///
    /// # Errors
    /// The first one of `take`; what comes after it is not handed over.
    pub fn hand_over<E>(&self, mut take: impl FnMut(&[u8]) -> Result<(), E>) -> Result<(), E> {
        self.closed.store(true, Ordering::SeqCst);
        let now = self.now();
        for partition in &self.partitions {
            // Whoever publishes has either put it here already, or finds that the broker is closed.
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

    /// Takes back a channel that another broker has handed over so long ago: its history goes on where it ended.
    /// `false` if the bytes are none. To be called before anything is said.
    pub fn restore(&self, bytes: &[u8], elapsed: Duration) -> bool {
        let now = self.now();
        let Some((key, mut channel)) = snapshot::read(bytes, millis(elapsed), now, &self.budgets) else { return false };
        channel.expire(now);
        if !channel.is_blank() {
            self.partition(&key).insert(key, channel);
        }
        true
    }

    /// How much it holds. Walks everything.
    pub fn sizes(&self) -> Sizes {
        let mut sizes = Sizes::default();
        for partition in &self.partitions {
            let channels = partition.lock();
            sizes.channels += channels.len();
            for channel in channels.values() {
                sizes.subscriptions += channel.occupancy().subscriptions;
                sizes.members += channel.remembered();
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

    /// Looks at a channel that exists, as it is now.
    fn look<T>(&self, key: &ChannelKey, look: impl FnOnce(&Channel, Millis) -> T) -> Option<T> {
        let now = self.now();
        let mut channels = self.partition(key);
        let channel = channels.get_mut(key)?;
        channel.expire(now);
        if channel.is_blank() {
            channels.remove(key);
            return None;
        }
        Some(look(channel, now))
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
        // Where nothing is kept and nobody is, no channel comes to be.
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
            // Refused, in a channel that was made for it.
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
            None => channel::tell_left(&leave, &*self.shards),
        }
        Ok(())
    }

    async fn channel(&self, key: &ChannelKey) -> Result<Option<ChannelState>, BrokerError> {
        Ok(self.look(key, |channel, _| channel.state(key)))
    }

    async fn channels(&self, app: &AppId, filter: ChannelFilter) -> Result<Vec<ChannelState>, BrokerError> {
        let after = filter.after.as_deref().unwrap_or_default().max(AFTER_INTERNAL);
        let is_after = |name: &str| name > after;
        let is_wanted =
            |key: &ChannelKey| key.app == *app && key.name.starts_with(&filter.prefix) && is_after(&key.name);
        // Never more than the first ones of those seen so far, however many there are.
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
            let looked_at = channels.iter().take(LOOKED_AT / PARTITIONS);
            let here = looked_at
                .filter(|(key, channel)| key.app == *app && channel.is_occupied() && !policy::is_internal(&key.name));
            names.extend(here.map(|(key, _)| Arc::clone(&key.name)));
        }
        names
    }

    async fn members(&self, key: &ChannelKey) -> Result<Vec<Arc<Member>>, BrokerError> {
        Ok(self.look(key, |channel, _| channel.members()).unwrap_or_default())
    }

    async fn history(&self, key: &ChannelKey, range: HistoryRange) -> Result<History, BrokerError> {
        let nothing = History { position: None, complete: range.since.is_none(), publications: Vec::new() };
        Ok(self.look(key, |channel, _| channel.history(&range)).flatten().unwrap_or(nothing))
    }

    async fn cached(&self, key: &ChannelKey) -> Result<Option<Cached>, BrokerError> {
        Ok(self.look(key, |channel, now| channel.cached(now)).flatten())
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
                if channel.owes_count() {
                    channel.tell_count(key, &*self.shards, now, self.recorder(key));
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
