//! The state that all parts of the broker share: the channels that this node has sessions in, and the Redis servers.

use std::collections::HashMap;
use std::hash::BuildHasher as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use hashbrown::DefaultHashBuilder;
use parking_lot::{Mutex, MutexGuard, RwLock};
use redis::{Cmd, Value};
use tidings_model::channel::ChannelKey;
use tidings_model::clock::SharedClock;
use tidings_supervisor::Supervisor;
use tokio::sync::{Notify, Semaphore};
use tracing::{Instrument as _, Span};

use super::local_channel::{LocalChannel, ShardNotifier};
use super::reply::Reply;
use super::scripts::{CallContext, ScriptCall};
use super::servers::{Master, RedisConnection, Servers, is_not_master, is_redirect};
use super::settings::RedisSettings;
use super::skipped::SkippedLog;
use super::{keys, transitions};
use crate::broker::{BrokerError, MAX_NAMES_SCANNED};
use crate::session_order::SessionOrder;
use crate::shard_message::{ShardMessage, Shards};
use crate::transition_sink::{self, TransitionSink};

const PARTITIONS: usize = 64;
const MAX_CHANNEL_TASKS: usize = 256;

pub(super) type LocalChannels = HashMap<ChannelKey, LocalChannel>;

pub(super) struct Core {
    pub(super) settings: RedisSettings,
    pub(super) shards: Arc<dyn Shards>,
    pub(super) sink: Arc<dyn TransitionSink>,
    pub(super) clock: SharedClock,
    partitions: [Mutex<LocalChannels>; PARTITIONS],
    hasher: DefaultHashBuilder,
    servers: RwLock<Arc<Servers>>,
    /// The number of the node's last connection.
    pub(super) connection_counter: AtomicU64,
    /// The name under which this node registers with every server.
    name: RwLock<Arc<str>>,
    /// Notified when the cluster's slots should be asked for again.
    pub(super) topology_changed: Arc<Notify>,
    /// Bounds the calls in flight.
    pub(super) calls: Semaphore,
    /// Bounds the channels whose ops are sent at one time: after a reconnect all channels have some, and each is to get
    /// its answer before the timeout.
    pub(super) channel_tasks: Semaphore,
    skipped: SkippedLog,
    /// Starts and counts the broker's tasks.
    pub(super) supervisor: Supervisor,
}

impl Core {
    /// `name` is the node's first name; see [`Core::rename`].
    pub(super) fn new(
        settings: RedisSettings,
        clock: SharedClock,
        shards: Arc<dyn Shards>,
        sink: Arc<dyn TransitionSink>,
        name: Arc<str>,
        supervisor: Supervisor,
    ) -> Self {
        let calls = Semaphore::new(settings.calls);
        Self {
            settings,
            shards,
            sink,
            clock,
            partitions: std::array::from_fn(|_| Mutex::default()),
            hasher: DefaultHashBuilder::default(),
            servers: RwLock::default(),
            connection_counter: AtomicU64::new(0),
            name: RwLock::new(name),
            topology_changed: Arc::default(),
            calls,
            channel_tasks: Semaphore::new(MAX_CHANNEL_TASKS),
            skipped: SkippedLog::default(),
            supervisor,
        }
    }

    pub(super) fn partition(&self, channel: &ChannelKey) -> MutexGuard<'_, LocalChannels> {
        let hash = self.hasher.hash_one(channel);
        self.partitions[(hash >> 32) as usize % PARTITIONS].lock()
    }

    pub(super) fn notifier<'a>(&'a self, key: &'a ChannelKey) -> ShardNotifier<'a> {
        ShardNotifier { key, shards: &*self.shards }
    }

    pub(super) fn servers(&self) -> Arc<Servers> {
        Arc::clone(&self.servers.read())
    }

    pub(super) fn name(&self) -> Arc<str> {
        Arc::clone(&self.name.read())
    }

    /// Renames this node, if `lapsed` is still its name, and reconnects to every server.
    pub(super) fn rename(&self, lapsed: &Arc<str>, name: Arc<str>) {
        {
            let mut present = self.name.write();
            if *present != *lapsed {
                return;
            }
            *present = name;
        }
        for conn in self.servers().all().iter().filter_map(|master| master.connection()) {
            conn.close("this node has got a new name");
        }
    }

    /// The connection to the channel's server.
    ///
    /// # Errors
    /// [`BrokerError::Unavailable`].
    pub(super) fn connection(&self, channel: &ChannelKey) -> Result<Arc<RedisConnection>, BrokerError> {
        self.servers().of(channel).and_then(|master| master.connection()).ok_or(BrokerError::Unavailable)
    }

    /// The connections to all servers.
    ///
    /// # Errors
    /// [`BrokerError::Unavailable`] when one is missing.
    pub(super) fn connections(&self) -> Result<Vec<Arc<RedisConnection>>, BrokerError> {
        let servers = self.servers();
        let all: Option<Vec<_>> = servers.all().iter().map(|master| master.connection()).collect();
        all.filter(|all| !all.is_empty()).ok_or(BrokerError::Unavailable)
    }

    /// Removes a master's connection and cancels the ops of its channels.
    pub(super) fn disconnected(&self, master: &Arc<Master>) {
        let Some(conn) = master.set_connection(None) else { return };
        conn.is_closed.store(true, Relaxed);
        let servers = self.servers();
        self.disconnect(|key| servers.of(key).is_some_and(|of| Arc::ptr_eq(of, master)));
    }

    /// Replaces the servers. Cancels the ops of channels that have moved to another master.
    pub(super) fn set_servers(&self, servers: Servers) {
        let now = Arc::new(servers);
        let before = std::mem::replace(&mut *self.servers.write(), Arc::clone(&now));
        self.disconnect(|key| match (before.of(key), now.of(key)) {
            (Some(before), Some(now)) => !Arc::ptr_eq(before, now),
            (None, None) => false,
            _ => true,
        });
    }

    fn disconnect(&self, is_concerned: impl Fn(&ChannelKey) -> bool) {
        for partition in &self.partitions {
            for (key, local) in partition.lock().iter_mut().filter(|(key, _)| is_concerned(key)) {
                local.disconnect(self.notifier(key));
            }
        }
    }

    /// Sends a command over this connection, and waits for its answer, at most for the timeout of calls.
    ///
    /// # Errors
    /// [`BrokerError::Unavailable`]; Redis may have executed the command or not.
    pub(super) async fn send(&self, conn: &RedisConnection, command: &Cmd) -> Result<Value, BrokerError> {
        let mut connection = conn.multiplexed.clone();
        let answer = tokio::time::timeout(self.settings.timeout, command.query_async::<Value>(&mut connection)).await;
        match answer {
            Ok(Ok(_)) if conn.is_out_of_sync.load(Relaxed) => Err(BrokerError::Unavailable),
            Ok(Ok(value)) => {
                tracing::debug!("Redis has answered");
                Ok(value)
            }
            Ok(Err(error)) => {
                self.failed(conn, &error);
                Err(BrokerError::Unavailable)
            }
            Err(_) => {
                conn.close("Redis did not answer in time");
                Err(BrokerError::Unavailable)
            }
        }
    }

    /// Handles a failed command. Closes the connection if the server has lost its data or scripts, has become a
    /// replica, or has an older generation than other nodes know; the new connection begins with a new handshake.
    pub(super) fn failed(&self, conn: &RedisConnection, error: &redis::RedisError) {
        let code = error.code().unwrap_or_default();
        let is_server = !code.is_empty() && !error.is_io_error() && !error.is_connection_dropped();
        if is_redirect(error) {
            self.topology_changed.notify_one();
        } else if is_server && !is_not_master(error) && !matches!(code, "NOSCRIPT" | "TIDINGSSTALE" | "NOAUTH") {
            tracing::error!(%error, "Redis refused a call");
        } else {
            if code == "TIDINGSSTALE" {
                let newest = error.detail().and_then(|detail| detail.rsplit(' ').next()?.parse().ok());
                conn.server.newest.fetch_max(newest.unwrap_or_default(), Relaxed);
            }
            conn.close(&error.to_string());
        }
    }

    /// Calls a script of a channel over this connection.
    ///
    /// # Errors
    /// [`BrokerError::Unavailable`].
    pub(super) async fn call(
        &self,
        conn: &RedisConnection,
        channel: &ChannelKey,
        call: &ScriptCall,
    ) -> Result<Reply, BrokerError> {
        let command = self.command(conn, &conn.node, channel, call)?;
        let span = call_span(call.kind().name(), channel, conn);
        let value = self.send(conn, &command).instrument(span).await?;
        self.reply(value, channel).ok_or(BrokerError::Unavailable)
    }

    /// The time of the Redis server, which all nodes share, in milliseconds.
    pub(super) fn now(&self, conn: &RedisConnection) -> i64 {
        self.clock.steady_ms().saturating_add(conn.ahead.load(Relaxed))
    }

    /// Reads the answer of a channel's script, and records the transitions in it.
    pub(super) fn reply(&self, value: Value, channel: &ChannelKey) -> Option<Reply> {
        let mut reply = Reply::of(value)?;
        for transition in transitions::take(&mut reply, channel) {
            self.sink.record(transition);
        }
        Some(reply)
    }

    /// The command that calls a channel's script for the sessions of `node`.
    ///
    /// # Errors
    /// [`BrokerError::Unavailable`] when the system has no randomness.
    pub(super) fn command(
        &self,
        conn: &RedisConnection,
        node: &str,
        channel: &ChannelKey,
        call: &ScriptCall,
    ) -> Result<Cmd, BrokerError> {
        let context = CallContext {
            pubsub_channel: &keys::pubsub_channel(channel),
            node,
            now: self.now(conn),
            random: &random()?,
            transitions: &transitions::letters(transition_sink::wanted(&*self.sink, channel)),
        };
        Ok(call.command(conn, &context))
    }

    /// Counts data from Redis that this version cannot read and therefore skips.
    pub(super) fn skipped(&self, what: &'static str) {
        self.skipped.count(what, self.clock.steady_ms());
    }

    /// Sends an order to every shard of this node.
    pub(super) fn order(&self, order: SessionOrder) {
        let order = Arc::new(order);
        for shard in 0..self.shards.count() {
            self.shards.send(shard, ShardMessage::Order(Arc::clone(&order)));
        }
    }

    /// Names of wanted channels that this node has sessions in. Looks at about [`MAX_NAMES_SCANNED`] channels.
    pub(super) fn some_names(&self, is_wanted: impl Fn(&ChannelKey, &LocalChannel) -> bool) -> Vec<Arc<str>> {
        let mut names = Vec::new();
        for partition in &self.partitions {
            let channels = partition.lock();
            let scanned = channels.iter().take(MAX_NAMES_SCANNED / PARTITIONS);
            names.extend(scanned.filter(|(key, local)| is_wanted(key, local)).map(|(key, _)| Arc::clone(&key.name)));
        }
        names
    }

    /// Calls `of` for every channel that this node has sessions in, and collects the results.
    pub(super) fn of_all<T>(&self, mut of: impl FnMut(&ChannelKey, &mut LocalChannel) -> Option<T>) -> Vec<T> {
        let mut all = Vec::new();
        for partition in &self.partitions {
            all.extend(partition.lock().iter_mut().filter_map(|(key, local)| of(key, local)));
        }
        all
    }
}

/// What the lines of the log about a call of a channel are written in.
pub(super) fn call_span(operation: &'static str, channel: &ChannelKey, conn: &RedisConnection) -> Span {
    tracing::debug_span!("broker_call", operation, app = %channel.app, channel = &*channel.name, node = &*conn.node)
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
