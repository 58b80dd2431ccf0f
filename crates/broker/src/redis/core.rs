//! What all parts of the broker share: the channels that this node has sessions in, and the connection.

use std::collections::HashMap;
use std::hash::BuildHasher as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering::Relaxed};

use hashbrown::DefaultHashBuilder;
use parking_lot::{Mutex, MutexGuard, RwLock};
use redis::aio::MultiplexedConnection;
use redis::{Cmd, Value};
use tidings_model::channel::ChannelKey;
use tidings_model::clock::{Millis, SharedClock};
use tokio::sync::{Notify, Semaphore};

use super::entry::{Entry, Op, Teller};
use super::message::Message;
use super::scripts::Call;
use super::settings::RedisSettings;
use super::{keys, lane};
use crate::broker::BrokerError;
use crate::told::{Control, Shards, Told};

const PARTITIONS: usize = 64;
const LANES: usize = 256;

pub(super) type Entries = HashMap<ChannelKey, Entry>;

/// A connection that can be used.
#[derive(Debug)]
pub(super) struct Up {
    /// Counts this node's connections.
    pub(super) number: u64,
    pub(super) connection: MultiplexedConnection,
    /// Which generation of the data it is connected to.
    pub(super) generation: u64,
    /// What this node calls itself.
    pub(super) node: Arc<str>,
    /// Whether it has another name than before, under which its sessions may still stand.
    pub(super) is_renamed: bool,
    /// Whether Redis has kept what this node told it before, so that a member who is missing there was taken out by others.
    pub(super) is_same_data: bool,
}

pub(super) struct Core {
    pub(super) settings: RedisSettings,
    pub(super) shards: Arc<dyn Shards>,
    pub(super) clock: SharedClock,
    partitions: [Mutex<Entries>; PARTITIONS],
    hasher: DefaultHashBuilder,
    up: RwLock<Option<Arc<Up>>>,
    /// Rung when a connection is not to be used any more, and which one that was.
    pub(super) broken: Notify,
    pub(super) given_up: AtomicU64,
    /// Bounds the calls under way.
    pub(super) calls: Semaphore,
    /// Bounds the channels that are looked after at one time: after a reconnect that is all of them, and each is to have its
    /// answer in time.
    pub(super) lanes: Semaphore,
    /// How far the time of Redis is ahead of ours.
    pub(super) ahead: AtomicI64,
}

impl Core {
    pub(super) fn new(settings: RedisSettings, clock: SharedClock, shards: Arc<dyn Shards>) -> Self {
        let calls = Semaphore::new(settings.calls);
        Self {
            settings,
            shards,
            clock,
            partitions: std::array::from_fn(|_| Mutex::default()),
            hasher: DefaultHashBuilder::default(),
            up: RwLock::default(),
            broken: Notify::new(),
            given_up: AtomicU64::new(0),
            calls,
            lanes: Semaphore::new(LANES),
            ahead: AtomicI64::new(0),
        }
    }

    pub(super) fn partition(&self, channel: &ChannelKey) -> MutexGuard<'_, Entries> {
        let hash = self.hasher.hash_one(channel);
        self.partitions[(hash >> 32) as usize % PARTITIONS].lock()
    }

    pub(super) fn teller<'a>(&'a self, key: &'a ChannelKey) -> Teller<'a> {
        Teller { key, shards: &*self.shards }
    }

    /// The time as all nodes see it.
    pub(super) fn now(&self) -> Millis {
        self.clock.steady_ms().saturating_add(self.ahead.load(Relaxed))
    }

    /// The connection, if there is one.
    ///
    /// # Errors
    /// [`BrokerError::Unavailable`].
    pub(super) fn up(&self) -> Result<Arc<Up>, BrokerError> {
        self.up.read().clone().ok_or(BrokerError::Unavailable)
    }

    /// From here on this connection is used; every channel tells Redis who is here.
    pub(super) fn connected(self: &Arc<Self>, up: Up) {
        *self.up.write() = Some(Arc::new(up));
        for partition in &self.partitions {
            let keys: Vec<_> = {
                let mut entries = partition.lock();
                entries
                    .iter_mut()
                    .filter(|(_, entry)| entry.wants_driving())
                    .map(|(key, entry)| {
                        entry.driven = true;
                        key.clone()
                    })
                    .collect()
            };
            keys.into_iter().for_each(|key| lane::drive(self, key));
        }
    }

    /// The connection is gone: what was under way over it is called off.
    pub(super) fn disconnected(&self) {
        if self.up.write().take().is_none() {
            return;
        }
        for partition in &self.partitions {
            for (key, entry) in partition.lock().iter_mut() {
                entry.cut_off(self.teller(key));
            }
        }
    }

    /// Has the connection given up, if it is still this one.
    pub(super) fn give_up(&self, number: u64, why: &str) {
        let is_this = self.up.read().as_ref().is_some_and(|up| up.number == number);
        if is_this && self.given_up.load(Relaxed) != number {
            tracing::warn!(why, "the connection to Redis is given up");
            self.given_up.store(number, Relaxed);
            self.broken.notify_one();
        }
    }

    /// Sends a command over this connection; its answer is waited for as long as a call may take.
    ///
    /// # Errors
    /// [`BrokerError::Unavailable`]; what has become of it is not known.
    pub(super) async fn send(&self, up: &Up, command: &Cmd) -> Result<Value, BrokerError> {
        let mut connection = up.connection.clone();
        let answer = tokio::time::timeout(self.settings.patience, command.query_async::<Value>(&mut connection)).await;
        match answer {
            Ok(Ok(value)) => Ok(value),
            Ok(Err(error)) => {
                self.failed(up, &error);
                Err(BrokerError::Unavailable)
            }
            Err(_) => {
                self.give_up(up.number, "it does not answer");
                Err(BrokerError::Unavailable)
            }
        }
    }

    /// A command has failed. A server that does not know what it should (its data or scripts are gone, it has become a
    /// replica, others know a newer generation) is met anew.
    pub(super) fn failed(&self, up: &Up, error: &redis::RedisError) {
        let code = error.code().unwrap_or_default();
        let is_server = !code.is_empty() && !error.is_io_error() && !error.is_connection_dropped();
        if is_server && !matches!(code, "NOSCRIPT" | "TIDINGSSTALE" | "READONLY" | "LOADING" | "MASTERDOWN" | "NOAUTH")
        {
            tracing::error!(%error, "Redis refuses a call");
        } else {
            self.give_up(up.number, &error.to_string());
        }
    }

    /// Calls a script of a channel over the present connection.
    ///
    /// # Errors
    /// [`BrokerError::Unavailable`].
    pub(super) async fn call(
        &self,
        up: &Up,
        channel: &ChannelKey,
        call: &Call,
    ) -> Result<super::reply::Reply, BrokerError> {
        let command = self.command(up, &keys::voice(channel), call)?;
        let value = self.send(up, &command).await?;
        super::reply::Reply::of(value).ok_or(BrokerError::Unavailable)
    }

    /// A script of a channel as a command.
    ///
    /// # Errors
    /// [`BrokerError::Unavailable`] when the system has no randomness.
    pub(super) fn command(&self, up: &Up, voice: &str, call: &Call) -> Result<Cmd, BrokerError> {
        Ok(call.command(voice, &up.node, up.generation, self.now(), &random()?))
    }

    /// Has an op carried out in its turn.
    pub(super) fn submit(self: &Arc<Self>, key: &ChannelKey, op: Op) {
        let starts = {
            let mut entries = self.partition(key);
            let entry = entries.entry(key.clone()).or_default();
            entry.queue.push_back(op);
            let starts = entry.wants_driving();
            entry.driven |= starts;
            starts
        };
        if starts {
            lane::drive(self, key.clone());
        }
    }

    /// What Redis has pushed over the connection of this number.
    pub(super) fn pushed(self: &Arc<Self>, number: u64, voice: &[u8], payload: &[u8]) {
        let Ok(voice) = std::str::from_utf8(voice) else { return };
        if voice == keys::CONTROL {
            match super::codec::read_control(payload) {
                Some(control) => self.control(control),
                None => tracing::warn!("an order of another version is not understood"),
            }
            return;
        }
        let Some(key) = keys::channel(voice) else { return };
        let Some(message) = Message::read(payload, &key) else {
            return self.give_up(number, "a message makes no sense");
        };
        let (is_whole, starts) = {
            let mut entries = self.partition(&key);
            let Some(entry) = entries.get_mut(&key) else { return };
            let is_whole = entry.hear(message, self.teller(&key));
            let starts = entry.wants_driving();
            entry.driven |= starts;
            (is_whole, starts)
        };
        if !is_whole {
            self.give_up(number, "a message is missing");
        }
        if starts {
            lane::drive(self, key);
        }
    }

    fn control(&self, control: Control) {
        let control = Arc::new(control);
        for shard in 0..self.shards.count() {
            self.shards.tell(shard, Told::Control(Arc::clone(&control)));
        }
    }

    /// Something of every channel that this node has sessions in.
    pub(super) fn of_all<T>(&self, mut of: impl FnMut(&ChannelKey, &mut Entry) -> Option<T>) -> Vec<T> {
        let mut all = Vec::new();
        for partition in &self.partitions {
            all.extend(partition.lock().iter_mut().filter_map(|(key, entry)| of(key, entry)));
        }
        all
    }
}

/// 64 random bits, as hexadecimal digits.
///
/// # Errors
/// [`BrokerError::Unavailable`] when the system has none.
pub(super) fn random() -> Result<String, BrokerError> {
    let mut bits = [0; 8];
    getrandom::fill(&mut bits).map_err(|_| BrokerError::Unavailable)?;
    Ok(format!("{:016x}", u64::from_be_bytes(bits)))
}
