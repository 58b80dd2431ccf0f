//! The counters and gauges of live, for operators and for live itself.

use std::sync::atomic::{AtomicI64, AtomicU64};

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

type Level = Gauge<i64, AtomicI64>;
type Count = Counter<u64, AtomicU64>;

/// Counters and gauges, shared by the shards. They change when something opens, closes or must be queued, and once per
/// slice of a walk; never once per delivery.
#[derive(Debug, Default, Clone)]
pub(crate) struct Metrics {
    /// Sessions with a connection.
    pub(crate) sessions: Level,
    /// Slots of sessions: connected ones, and closed ones that have not yet left all their channels.
    pub(crate) slots: Level,
    /// Channels in which a shard has sessions, counted for each shard.
    pub(crate) channels: Level,
    /// Pairs of a session and a channel it is in.
    pub(crate) subscriptions: Level,
    /// Bytes in write queues.
    pub(crate) queued_bytes: Level,
    /// Channel messages, each counted once per session it was sent to.
    pub(crate) deliveries: Count,
    /// Sessions dropped because they did not read.
    pub(crate) slow: Count,
}

impl Metrics {
    pub(crate) fn register(&self, registry: &mut Registry) {
        registry.register("live_sessions", "Live sessions that are connected", self.sessions.clone());
        registry.register("live_slots", "Live sessions, with those still leaving their channels", self.slots.clone());
        registry.register("live_local_channels", "Channels with sessions here, per shard", self.channels.clone());
        registry.register("live_subscriptions", "Subscriptions of live sessions", self.subscriptions.clone());
        registry.register("live_queued_bytes", "Bytes that wait for clients to read", self.queued_bytes.clone());
        registry.register(
            "live_deliveries",
            "Messages in channels, times the sessions they were sent to",
            self.deliveries.clone(),
        );
        registry.register("live_slow", "Sessions dropped because they did not read", self.slow.clone());
    }

    pub(crate) fn sizes(&self) -> Sizes {
        let size = |level: &Level| usize::try_from(level.get()).unwrap_or(0);
        Sizes {
            sessions: size(&self.sessions),
            slots: size(&self.slots),
            channels: size(&self.channels),
            subscriptions: size(&self.subscriptions),
            queued_bytes: size(&self.queued_bytes),
        }
    }
}

/// How much live holds at a moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Sizes {
    /// Sessions with a connection.
    pub sessions: usize,
    /// These, and closed sessions that have not yet left all their channels.
    pub slots: usize,
    /// Channels in which a shard has sessions, counted for each shard.
    pub channels: usize,
    /// Pairs of a session and a channel it is in.
    pub subscriptions: usize,
    /// Bytes that wait for clients to read.
    pub queued_bytes: usize,
}
