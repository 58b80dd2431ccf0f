//! What all parts of the broker share: the channels that this node has sessions in, and the servers that have them.

use std::collections::HashMap;
use std::hash::BuildHasher as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use hashbrown::DefaultHashBuilder;
use parking_lot::{Mutex, MutexGuard, RwLock};
use redis::{Cmd, Value};
use tidings_model::channel::ChannelKey;
use tidings_model::clock::SharedClock;
use tokio::sync::{Notify, Semaphore};

use super::entry::{Entry, Op, Teller};
use super::message::Message;
use super::scripts::Call;
use super::servers::{Master, Servers, Up, is_astray};
use super::settings::RedisSettings;
use super::{keys, lane, notes};
use crate::broker::{BrokerError, LOOKED_AT};
use crate::told::{Control, Shards, Told};
use crate::watch::{self, Watch};

const PARTITIONS: usize = 64;
const LANES: usize = 256;

pub(super) type Entries = HashMap<ChannelKey, Entry>;

pub(super) struct Core {
    pub(super) settings: RedisSettings,
    pub(super) shards: Arc<dyn Shards>,
    pub(super) watch: Arc<dyn Watch>,
    pub(super) clock: SharedClock,
    partitions: [Mutex<Entries>; PARTITIONS],
    hasher: DefaultHashBuilder,
    servers: RwLock<Arc<Servers>>,
    /// Counts this node's connections.
    pub(super) connections: AtomicU64,
    /// What this node calls itself, to every server.
    name: RwLock<Arc<str>>,
    /// Rung when it should be asked anew which master has what.
    pub(super) astray: Arc<Notify>,
    /// Bounds the calls under way.
    pub(super) calls: Semaphore,
    /// Bounds the channels that are looked after at one time: after a reconnect that is all of them, and each is to have its
    /// answer in time.
    pub(super) lanes: Semaphore,
}

impl Core {
    /// `name` is what this node calls itself for now.
    pub(super) fn new(
        settings: RedisSettings,
        clock: SharedClock,
        shards: Arc<dyn Shards>,
        watch: Arc<dyn Watch>,
        name: Arc<str>,
    ) -> Self {
        let calls = Semaphore::new(settings.calls);
        Self {
            settings,
            shards,
            watch,
            clock,
            partitions: std::array::from_fn(|_| Mutex::default()),
            hasher: DefaultHashBuilder::default(),
            servers: RwLock::default(),
            connections: AtomicU64::new(0),
            name: RwLock::new(name),
            astray: Arc::default(),
            calls,
            lanes: Semaphore::new(LANES),
        }
    }

    pub(super) fn partition(&self, channel: &ChannelKey) -> MutexGuard<'_, Entries> {
        let hash = self.hasher.hash_one(channel);
        self.partitions[(hash >> 32) as usize % PARTITIONS].lock()
    }

    pub(super) fn teller<'a>(&'a self, key: &'a ChannelKey) -> Teller<'a> {
        Teller { key, shards: &*self.shards }
    }

    pub(super) fn servers(&self) -> Arc<Servers> {
        Arc::clone(&self.servers.read())
    }

    pub(super) fn name(&self) -> Arc<str> {
        Arc::clone(&self.name.read())
    }

    /// Takes another name than this one, if that is the present one. Every server is met anew.
    pub(super) fn rename(&self, lapsed: &Arc<str>, name: Arc<str>) {
        {
            let mut present = self.name.write();
            if *present != *lapsed {
                return;
            }
            *present = name;
        }
        for up in self.servers().all().iter().filter_map(|master| master.up()) {
            up.give_up("this node has another name now");
        }
    }

    /// The connection to the server that has a channel, if there is one.
    ///
    /// # Errors
    /// [`BrokerError::Unavailable`].
    pub(super) fn up(&self, channel: &ChannelKey) -> Result<Arc<Up>, BrokerError> {
        self.servers().of(channel).and_then(|master| master.up()).ok_or(BrokerError::Unavailable)
    }

    /// The connections to all servers.
    ///
    /// # Errors
    /// [`BrokerError::Unavailable`] when one is missing.
    pub(super) fn ups(&self) -> Result<Vec<Arc<Up>>, BrokerError> {
        let servers = self.servers();
        let all: Option<Vec<_>> = servers.all().iter().map(|master| master.up()).collect();
        all.filter(|all| !all.is_empty()).ok_or(BrokerError::Unavailable)
    }

    /// From here on this connection is used; every channel tells Redis who is here.
    pub(super) fn connected(self: &Arc<Self>, master: &Master, up: Up) {
        master.set_up(Some(up));
        self.drive_all();
    }

    /// Has every channel looked after that wants it and whose server is there.
    fn drive_all(self: &Arc<Self>) {
        let servers = self.servers();
        for partition in &self.partitions {
            let keys: Vec<_> = {
                let mut entries = partition.lock();
                entries
                    .iter_mut()
                    .filter(|(key, entry)| {
                        entry.wants_driving() && servers.of(key).is_some_and(|master| master.up().is_some())
                    })
                    .map(|(key, entry)| {
                        entry.driven = true;
                        key.clone()
                    })
                    .collect()
            };
            keys.into_iter().for_each(|key| lane::drive(self, key));
        }
    }

    /// The connection to a server is gone: what was under way over it is called off.
    pub(super) fn disconnected(&self, master: &Arc<Master>) {
        let Some(up) = master.set_up(None) else { return };
        up.given_up.store(true, Relaxed);
        let servers = self.servers();
        self.cut_off(|key| servers.of(key).is_some_and(|of| Arc::ptr_eq(of, master)));
    }

    /// From here on other servers have the channels. What was under way with those that have moved is called off, and they
    /// tell their new server who is here.
    pub(super) fn rearrange(self: &Arc<Self>, servers: Servers) {
        let now = Arc::new(servers);
        let before = std::mem::replace(&mut *self.servers.write(), Arc::clone(&now));
        self.cut_off(|key| match (before.of(key), now.of(key)) {
            (Some(before), Some(now)) => !Arc::ptr_eq(before, now),
            (None, None) => false,
            _ => true,
        });
        self.drive_all();
    }

    fn cut_off(&self, is_concerned: impl Fn(&ChannelKey) -> bool) {
        for partition in &self.partitions {
            for (key, entry) in partition.lock().iter_mut().filter(|(key, _)| is_concerned(key)) {
                entry.cut_off(self.teller(key));
            }
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
            Ok(Ok(_)) if up.is_confused.load(Relaxed) => Err(BrokerError::Unavailable),
            Ok(Ok(value)) => Ok(value),
            Ok(Err(error)) => {
                self.failed(up, &error);
                Err(BrokerError::Unavailable)
            }
            Err(_) => {
                up.give_up("it does not answer");
                Err(BrokerError::Unavailable)
            }
        }
    }

    /// A command has failed. A server that does not know what it should (its data or scripts are gone, it has become a
    /// replica, others know a newer generation) is met anew.
    pub(super) fn failed(&self, up: &Up, error: &redis::RedisError) {
        let code = error.code().unwrap_or_default();
        let is_server = !code.is_empty() && !error.is_io_error() && !error.is_connection_dropped();
        if is_astray(error) {
            self.astray.notify_one();
        } else if is_server
            && !matches!(code, "NOSCRIPT" | "TIDINGSSTALE" | "READONLY" | "LOADING" | "MASTERDOWN" | "NOAUTH")
        {
            tracing::error!(%error, "Redis refuses a call");
        } else {
            if code == "TIDINGSSTALE" {
                let newest = error.detail().and_then(|detail| detail.rsplit(' ').next()?.parse().ok());
                up.site.newest.fetch_max(newest.unwrap_or_default(), Relaxed);
            }
            up.give_up(&error.to_string());
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
        let command = self.command(up, &up.node, channel, call)?;
        let mut value = self.send(up, &command).await?;
        self.heed(&mut value, channel);
        super::reply::Reply::of(value).ok_or(BrokerError::Unavailable)
    }

    /// The time as all nodes see it.
    pub(super) fn now(&self, up: &Up) -> i64 {
        self.clock.steady_ms().saturating_add(up.ahead.load(Relaxed))
    }

    /// Tells of the transitions that a script's answer ends with, and takes them off it.
    pub(super) fn heed(&self, answer: &mut Value, channel: &ChannelKey) {
        for transition in notes::take(answer, channel) {
            self.watch.happened(transition);
        }
    }

    /// A script of a channel as a command, about the sessions of `node`.
    ///
    /// # Errors
    /// [`BrokerError::Unavailable`] when the system has no randomness.
    pub(super) fn command(&self, up: &Up, node: &str, channel: &ChannelKey, call: &Call) -> Result<Cmd, BrokerError> {
        let fresh = random()? + &notes::letters(watch::wanted(&*self.watch, channel));
        Ok(call.command(&keys::voice(channel), node, up, self.now(up), &fresh))
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

    /// What Redis has pushed over this connection.
    pub(super) fn pushed(self: &Arc<Self>, up: &Up, voice: &[u8], payload: &[u8]) {
        let Ok(voice) = std::str::from_utf8(voice) else { return };
        let Some(key) = keys::channel(voice) else {
            match super::codec::read_control(payload) {
                Some(control) => self.control(control),
                None => tracing::warn!("an order of another version is not understood"),
            }
            return;
        };
        if self.up(&key).is_ok_and(|present| present.number != up.number) {
            return;
        }
        let Some(message) = Message::read(payload, &key) else {
            return up.give_up("a message makes no sense");
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
            up.give_up("a message is missing");
        }
        if starts {
            lane::drive(self, key);
        }
    }

    pub(super) fn control(&self, control: Control) {
        let control = Arc::new(control);
        for shard in 0..self.shards.count() {
            self.shards.tell(shard, Told::Control(Arc::clone(&control)));
        }
    }

    /// Names of channels that this node has sessions in, of about [`LOOKED_AT`] that are looked at.
    pub(super) fn some_names(&self, is_wanted: impl Fn(&ChannelKey, &Entry) -> bool) -> Vec<Arc<str>> {
        let mut names = Vec::new();
        for partition in &self.partitions {
            let entries = partition.lock();
            let looked_at = entries.iter().take(LOOKED_AT / PARTITIONS);
            names.extend(looked_at.filter(|(key, entry)| is_wanted(key, entry)).map(|(key, _)| Arc::clone(&key.name)));
        }
        names
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
