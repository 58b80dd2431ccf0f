//! Channel state in Redis: the broker of several nodes.
//!
//! Every write to a channel is one script on the channel's keys, which also publishes the resulting messages. So Redis
//! decides the order, and every node, including the one that called the script, receives the messages from Redis.
//! `docs/adr/0007` gives the reasons.
//!
//! From the bottom up; no file uses one that is listed after it:
//!
//! 1. [`keys`], [`settings`], [`promise`]: names of keys, configuration, an answer that a caller waits for.
//!    [`skipped`]: counts data that this version cannot read. [`servers`]: which server has which channel, and the
//!    connection to one server.
//! 2. [`pubsub_message`], [`reply`], [`transitions`]: read messages and answers of Redis. [`arguments`], [`scripts`]
//!    (with `scripts/*.lua`): write calls.
//! 3. [`local_channel`]: a channel as this node sees it. [`core`]: all channels, and other state that the parts share.
//! 4. [`ops`]: sends joins, leaves and resyncs, in order. [`listing`]: lists channels. [`nodes`]: removes the sessions
//!    of dead nodes.
//! 5. [`pushed`]: handles pushes of Redis. [`link`]: keeps the connection to one server; [`cluster`]: keeps those of a
//!    cluster.

mod arguments;
mod cluster;
mod core;
mod keys;
mod link;
mod listing;
mod local_channel;
mod nodes;
mod ops;
mod promise;
mod pubsub_message;
mod pushed;
mod reply;
mod scripts;
mod servers;
mod settings;
mod skipped;
#[cfg(test)]
mod tests;
mod transitions;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use redis::Value;
use tidings_model::channel::{ChannelKey, Member};
use tidings_model::clock::{SharedClock, millis};
use tidings_model::id::AppId;
use tidings_model::policy;
use tidings_supervisor::Supervisor;
use tidings_wire::{ChannelMessage, EncodedMessage, Publication};
use tokio::sync::SemaphorePermit;
use tracing::Instrument as _;

use crate::broker::{
    Broker, BrokerError, Cached, ChannelFilter, ChannelState, History, HistoryRange, Join, Leave, Occupancy, Publish,
    PublishOutcome,
};
use crate::codec::{self, PublishedEvent};
use crate::session_order::SessionOrder;
use crate::shard_message::Shards;
use crate::transition_sink::TransitionSink;
use arguments::Arguments;
use core::Core;
use local_channel::Op;
use reply::Reply;
use scripts::{ScriptCall, ScriptKind};
use servers::{Master, RedisConnection, Servers};
use settings::Topology;
pub use settings::{RedisSettings, RedisUrlError};

/// How often a publish checks whether its channel is synced again.
const PAUSE: Duration = Duration::from_millis(5);

/// The broker of several nodes.
pub struct RedisBroker {
    core: Arc<Core>,
    /// The service that keeps the broker connected.
    links: tokio::task::AbortHandle,
}

impl RedisBroker {
    /// Starts a broker that sends to these shards, and records the transitions of its own calls in this sink. Connects
    /// in the background. Must be called within a tokio runtime.
    ///
    /// # Errors
    /// [`RedisUrlError`] when the settings can never lead to a connection.
    pub fn start(
        settings: RedisSettings,
        clock: SharedClock,
        shards: Arc<dyn Shards>,
        sink: Arc<dyn TransitionSink>,
        supervisor: &Supervisor,
    ) -> Result<Self, RedisUrlError> {
        let unreadable = |error: redis::RedisError| RedisUrlError::Unreadable(error.to_string());
        let name = core::random().map_err(|_| RedisUrlError::NoRandomness)?;
        let topology = settings.topology.clone();
        let core = Arc::new(Core::new(settings, clock, shards, sink, name.into(), supervisor.clone()));
        let weak = Arc::downgrade(&core);
        let links = match topology {
            Topology::Alone(server) => {
                let master = Arc::new(Master::alone(*server).map_err(unreadable)?);
                core.set_servers(Servers::alone(Arc::clone(&master)));
                supervisor.service("redis-link", link::keep(weak, master))
            }
            Topology::Cluster(seeds) => supervisor.service("redis-cluster", cluster::keep(weak, seeds)),
        };
        Ok(Self { core, links: links.abort_handle() })
    }

    /// Waits until another call may be in flight.
    async fn call_permit(&self) -> Result<SemaphorePermit<'_>, BrokerError> {
        let permit = tokio::time::timeout(self.core.settings.timeout, self.core.calls.acquire()).await;
        permit.ok().and_then(Result::ok).ok_or(BrokerError::Unavailable)
    }

    async fn ask(&self, channel: &ChannelKey, call: ScriptCall) -> Result<Reply, BrokerError> {
        let conn = self.core.connection(channel)?;
        let _permit = self.call_permit().await?;
        self.core.call(&conn, channel, &call).await
    }

    /// Waits until the sessions here receive the channel's messages. Just after a reconnect they do not, and a publish
    /// in a channel without history would miss the sessions of its own node.
    async fn wait_until_synced(&self, channel: &ChannelKey) -> Result<(), BrokerError> {
        let is_unsynced =
            || self.core.partition(channel).get(channel).is_some_and(local_channel::LocalChannel::is_unsynced);
        let synced = async {
            while is_unsynced() {
                tokio::time::sleep(PAUSE).await;
            }
        };
        tokio::time::timeout(self.core.settings.timeout, synced).await.map_err(|_| BrokerError::Unavailable)
    }

    /// Publishes to the sessions of this node only, while Redis cannot be reached.
    fn publish_local(&self, publish: Publish) -> Occupancy {
        let Publish { channel, event, except, user, .. } = publish;
        let mut channels = self.core.partition(&channel);
        let Some(local) = channels.get_mut(&channel) else { return Occupancy::default() };
        let content =
            ChannelMessage::Publication(Publication { event, channel: channel.clone(), position: None, user });
        local.send(&Arc::new(EncodedMessage::new(content)), except, self.core.notifier(&channel));
        Occupancy { subscriptions: local.subscribers.len(), users: 0 }
    }

    async fn publish_to_all(&self, conn: &RedisConnection, publish: Publish) -> Result<Occupancy, BrokerError> {
        let Publish { channel, options, event, except, user, by_client } = publish;
        let mut arguments = Arguments::default()
            .flag("by_client", by_client)
            .count("history_size", options.history_size)
            .number("history_ttl", millis(options.history_ttl));
        if let Some(ttl) = options.cache_ttl {
            arguments = arguments.number("cache_ttl", millis(ttl));
        }
        let call = ScriptCall::publish(arguments, codec::event(&PublishedEvent { event, user, except }));
        self.wait_until_synced(&channel).await?;
        let _permit = self.call_permit().await?;
        let mut reply = self.core.call(conn, &channel, &call).await?;
        reply.occupancy().ok_or(BrokerError::Unavailable)
    }
}

impl Drop for RedisBroker {
    fn drop(&mut self) {
        self.links.abort();
        self.core.servers().all().iter().for_each(|master| self.core.disconnected(master));
    }
}

#[async_trait]
impl Broker for RedisBroker {
    fn name(&self) -> &'static str {
        "redis"
    }

    fn overloaded(&self) -> bool {
        self.core.shards.overloaded()
    }

    fn is_cut_off(&self) -> bool {
        self.core.connections().is_err()
    }

    async fn publish(&self, publish: Publish) -> Result<PublishOutcome, BrokerError> {
        if self.overloaded() {
            return Err(BrokerError::Overloaded);
        }
        let options = &publish.options;
        let needs_others = options.history_size > 0 || options.cache_ttl.is_some() || options.presence;
        match self.core.connection(&publish.channel) {
            Ok(conn) => Ok(PublishOutcome { occupancy: self.publish_to_all(&conn, publish).await?, local_only: false }),
            Err(error) if needs_others => Err(error),
            Err(_) => Ok(PublishOutcome { occupancy: self.publish_local(publish), local_only: true }),
        }
    }

    async fn join(&self, join: Join) -> Result<(), BrokerError> {
        self.core.connection(&join.channel)?;
        let _permit = self.call_permit().await?;
        let key = join.channel.clone();
        let (promise, waiting) = promise::promise();
        ops::submit(&self.core, &key, Op::Join(Box::new(join), promise));
        waiting.within(self.core.settings.timeout).await
    }

    async fn leave(&self, leave: Leave) -> Result<(), BrokerError> {
        let key = leave.channel.clone();
        {
            let mut channels = self.core.partition(&key);
            let notifier = self.core.notifier(&key);
            match channels.get_mut(&key) {
                None => {
                    notifier.left(&leave);
                    return Ok(());
                }
                Some(local) if self.core.connection(&key).is_err() => {
                    local.leave_offline(leave, notifier);
                    return Ok(());
                }
                Some(_) => {}
            }
        }
        let _permit = self.call_permit().await?;
        let (promise, waiting) = promise::promise();
        ops::submit(&self.core, &key, Op::Leave(leave, Some(promise)));
        waiting.within(self.core.settings.timeout).await
    }

    async fn channel(&self, key: &ChannelKey) -> Result<Option<ChannelState>, BrokerError> {
        let reply = self.ask(key, ScriptCall::new(ScriptKind::State)).await?;
        listing::state(reply, key).ok_or(BrokerError::Unavailable)
    }

    async fn channels(&self, app: &AppId, filter: ChannelFilter) -> Result<Vec<ChannelState>, BrokerError> {
        let _permit = self.call_permit().await?;
        let span = tracing::debug_span!("broker_call", operation = "channels", %app, node = &*self.core.name());
        listing::channels(&self.core, app, filter).instrument(span).await
    }

    fn names_here(&self, app: &AppId) -> Vec<Arc<str>> {
        self.core.some_names(|key, local| {
            key.app == *app && !local.subscribers.is_empty() && !policy::is_internal(&key.name)
        })
    }

    async fn members(&self, key: &ChannelKey) -> Result<Vec<Arc<Member>>, BrokerError> {
        let mut reply = self.ask(key, ScriptCall::new(ScriptKind::Members)).await?;
        reply.members().ok_or(BrokerError::Unavailable)
    }

    async fn history(&self, key: &ChannelKey, range: HistoryRange) -> Result<History, BrokerError> {
        let limit = u32::try_from(range.limit).unwrap_or(u32::MAX);
        let mut arguments = Arguments::default().flag("reverse", range.reverse).count("limit", limit);
        if let Some(since) = &range.since {
            arguments = arguments.text("epoch", since.epoch.as_str()).count("offset", since.offset);
        }
        let mut reply = self.ask(key, ScriptCall::with(ScriptKind::History, arguments)).await?;
        let mut read = || {
            let position = reply.position()?;
            let complete = reply.flag("complete")?;
            let (entries, is_whole) = reply.entries(key, position.as_ref())?;
            let publications = entries.into_iter().map(|(message, _)| message).collect();
            Some(History { position, complete: complete && is_whole, publications })
        };
        read().ok_or(BrokerError::Unavailable)
    }

    async fn cached(&self, key: &ChannelKey) -> Result<Option<Cached>, BrokerError> {
        let mut reply = self.ask(key, ScriptCall::new(ScriptKind::Cached)).await?;
        reply.cached(key).ok_or(BrokerError::Unavailable)
    }

    async fn order(&self, order: SessionOrder) -> Result<(), BrokerError> {
        // Every node subscribes to orders on every server, so one server is enough.
        let conn =
            self.core.servers().all().iter().find_map(|master| master.connection()).ok_or(BrokerError::Unavailable)?;
        let _permit = self.call_permit().await?;
        let mut command = redis::cmd(conn.server.publish_command());
        command.arg(conn.server.keyspace.control()).arg(codec::order(&order));
        let span = tracing::debug_span!("broker_call", operation = "order", node = &*conn.node);
        self.core.send(&conn, &command).instrument(span).await.map(|_: Value| ())
    }

    fn order_here(&self, order: SessionOrder) {
        self.core.order(order);
    }

    async fn sweep(&self) {
        let count_pending =
            self.core.of_all(|key, local| std::mem::take(&mut local.count_pending).then(|| key.clone()));
        for key in count_pending {
            let is_pending = match self.ask(&key, ScriptCall::new(ScriptKind::Count)).await {
                Ok(mut reply) => reply.flag("count_pending").unwrap_or(false),
                Err(_) => true,
            };
            if is_pending && let Some(local) = self.core.partition(&key).get_mut(&key) {
                local.count_pending |= !local.subscribers.is_empty();
            }
        }
    }
}

impl std::fmt::Debug for RedisBroker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RedisBroker").field("settings", &self.core.settings).finish_non_exhaustive()
    }
}
