//! Channel state in this process: the broker of a single node.
//!
//! Channels lie in [`PARTITIONS`] partitions by a hash of app and name, each behind a mutex. Whatever happens to a channel
//! happens under its partition's lock, and what comes of it is appended to shards' inboxes under it: that is the channel's
//! order. Nothing waits under a lock.

mod channel;
mod history;
mod presence;

use std::collections::HashMap;
use std::hash::BuildHasher;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;
use hashbrown::DefaultHashBuilder;
use parking_lot::{Mutex, MutexGuard, RwLock};
use tidings_model::channel::{ChannelKey, Member};
use tidings_model::clock::{Millis, SharedClock};
use tidings_model::id::AppId;

use crate::broker::{
    Broker, BrokerError, Cached, ChannelFilter, ChannelState, History, HistoryRange, Join, Leave, Occupancy, Publish,
};
use crate::told::{Control, Shards, Told};
use channel::Channel;

const PARTITIONS: usize = 64;
/// Partitions that one sweep looks at: with a sweep a second, each is seen every four seconds.
const SWEPT_AT_ONCE: usize = 16;

type Channels = hashbrown::HashMap<ChannelKey, Channel>;

/// How many bytes of history and cache an app's channels keep, and how many they may.
#[derive(Debug)]
struct Budget {
    used: AtomicUsize,
    limit: usize,
}

/// What the broker of a single node holds, for metrics and for tests that look for leaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Sizes {
    /// Channels that somebody is in, or of which something is kept.
    pub channels: usize,
    /// Subscriptions.
    pub subscriptions: u64,
    /// Sessions whose presence is remembered.
    pub members: usize,
    /// Bytes of history and cached events.
    pub kept_bytes: usize,
}

/// The broker of a single node.
pub struct MemoryBroker {
    partitions: [Mutex<Channels>; PARTITIONS],
    hasher: DefaultHashBuilder,
    shards: Arc<dyn Shards>,
    clock: SharedClock,
    /// By app; an app that isn't among `limits` gets the default.
    budgets: RwLock<HashMap<AppId, Arc<Budget>>>,
    limits: HashMap<AppId, usize>,
    default_limit: usize,
    next_swept: AtomicUsize,
}

impl MemoryBroker {
    /// A broker that tells these shards. `limits` says how many bytes of history and cached events each app's channels may
    /// keep in memory; `default_limit` is for apps that are not among them.
    pub fn new(
        clock: SharedClock,
        shards: Arc<dyn Shards>,
        limits: HashMap<AppId, usize>,
        default_limit: usize,
    ) -> Self {
        Self {
            partitions: std::array::from_fn(|_| Mutex::default()),
            hasher: DefaultHashBuilder::default(),
            shards,
            clock,
            budgets: RwLock::default(),
            limits,
            default_limit,
            next_swept: AtomicUsize::new(0),
        }
    }

    /// How much it holds. Walks everything.
    pub fn sizes(&self) -> Sizes {
        let mut sizes = Sizes::default();
        for partition in &self.partitions {
            let channels = partition.lock();
            sizes.channels += channels.len();
            for channel in channels.values() {
                sizes.subscriptions += channel.occupancy().subscriptions;
                sizes.members += channel.sessions_present();
            }
        }
        sizes.kept_bytes = self.budgets.read().values().map(|budget| budget.used.load(Ordering::Relaxed)).sum();
        sizes
    }

    fn partition(&self, channel: &ChannelKey) -> MutexGuard<'_, Channels> {
        let hash = self.hasher.hash_one(channel);
        self.partitions[(hash >> 32) as usize % PARTITIONS].lock()
    }

    fn budget(&self, app: &AppId) -> Arc<Budget> {
        if let Some(budget) = self.budgets.read().get(app) {
            return Arc::clone(budget);
        }
        let limit = self.limits.get(app).copied().unwrap_or(self.default_limit);
        let mut budgets = self.budgets.write();
        Arc::clone(budgets.entry(app.clone()).or_insert_with(|| Arc::new(Budget { used: AtomicUsize::new(0), limit })))
    }

    fn now(&self) -> Millis {
        self.clock.steady_ms()
    }

    /// Looks at a channel that exists.
    fn look<T>(&self, key: &ChannelKey, look: impl FnOnce(&mut Channel, Millis) -> T) -> Option<T> {
        let now = self.now();
        let mut channels = self.partition(key);
        channels.get_mut(key).map(|channel| look(channel, now))
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

    async fn publish(&self, publish: Publish) -> Result<Occupancy, BrokerError> {
        let keeps = !publish.by_client && (publish.options.history_size > 0 || publish.options.cache_ttl.is_some());
        let budget = keeps.then(|| self.budget(&publish.channel.app));
        let now = self.now();
        let mut channels = self.partition(&publish.channel);
        let channel = match channels.get_mut(&publish.channel) {
            Some(channel) => channel,
            None if keeps => channels.entry(publish.channel.clone()).or_default(),
            None => return Ok(Occupancy::default()),
        };
        channel.publish(publish, budget, &*self.shards, now);
        Ok(channel.occupancy())
    }

    async fn join(&self, join: Join) -> Result<(), BrokerError> {
        let now = self.now();
        let budget = (join.options.history_size > 0).then(|| self.budget(&join.channel.app));
        let mut channels = self.partition(&join.channel);
        let key = join.channel.clone();
        channels.entry(key.clone()).or_default().join(join, budget, &*self.shards, now);
        if channels.get(&key).is_some_and(Channel::is_blank) {
            // Refused, in a channel that was made for it.
            channels.remove(&key);
        }
        Ok(())
    }

    async fn leave(&self, leave: Leave) -> Result<(), BrokerError> {
        let now = self.now();
        let mut channels = self.partition(&leave.channel);
        let key = leave.channel.clone();
        match channels.get_mut(&key) {
            Some(channel) => {
                channel.leave(&leave, &*self.shards, now);
                if channel.is_blank() {
                    channels.remove(&key);
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
        let wanted = |key: &ChannelKey| {
            key.app == *app
                && key.name.starts_with(&filter.prefix)
                && filter.after.as_deref().is_none_or(|after| key.name.as_ref() > after)
        };
        let mut found = Vec::new();
        for partition in &self.partitions {
            let channels = partition.lock();
            let occupied = channels.iter().filter(|(_, channel)| channel.occupancy().subscriptions > 0);
            found.extend(occupied.filter(|(key, _)| wanted(key)).map(|(key, channel)| channel.state(key)));
        }
        found.sort_unstable_by(|a, b| a.name.cmp(&b.name));
        found.truncate(filter.limit);
        Ok(found)
    }

    async fn members(&self, key: &ChannelKey) -> Result<Vec<Arc<Member>>, BrokerError> {
        Ok(self.look(key, |channel, _| channel.members()).unwrap_or_default())
    }

    async fn history(&self, key: &ChannelKey, range: HistoryRange) -> Result<History, BrokerError> {
        let nothing = History { position: None, complete: range.since.is_none(), publications: Vec::new() };
        Ok(self.look(key, |channel, now| channel.history(&range, now)).flatten().unwrap_or(nothing))
    }

    async fn cached(&self, key: &ChannelKey) -> Result<Option<Cached>, BrokerError> {
        Ok(self.look(key, |channel, now| channel.cached(now)).flatten())
    }

    async fn control(&self, control: Control) -> Result<(), BrokerError> {
        let control = Arc::new(control);
        for shard in 0..self.shards.count() {
            self.shards.tell(shard, Told::Control(Arc::clone(&control)));
        }
        Ok(())
    }

    async fn sweep(&self) {
        let now = self.now();
        let first = self.next_swept.fetch_add(SWEPT_AT_ONCE, Ordering::Relaxed);
        for n in first..first + SWEPT_AT_ONCE {
            self.partitions[n % PARTITIONS].lock().retain(|key, channel| {
                channel.expire(key, &*self.shards, now);
                !channel.is_blank()
            });
        }
    }
}

impl std::fmt::Debug for MemoryBroker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("MemoryBroker").field("sizes", &self.sizes()).finish_non_exhaustive()
    }
}
