//! What live counts, for people and for itself.

use std::sync::atomic::{AtomicI64, AtomicU64};

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

type Level = Gauge<i64, AtomicI64>;
type Count = Counter<u64, AtomicU64>;

/// Counters and levels, shared by the shards. They are touched when something opens, closes or gets stuck, and once per
/// walk: not for each delivery.
#[derive(Debug, Default, Clone)]
pub(crate) struct Metrics {
    /// Sessions whose connections are there.
    pub(crate) sessions: Level,
    /// Slots of sessions: those that are there, and those that are gone but still being taken out of their channels.
    pub(crate) slots: Level,
    /// Channels in which a shard has sessions, counted for each shard.
    pub(crate) channels: Level,
    /// Subscriptions.
    pub(crate) subscriptions: Level,
    /// Bytes that wait for clients.
    pub(crate) queued_bytes: Level,
    /// What was said, times the sessions it was said to.
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
            "What was said, times the sessions it was said to",
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
    /// Sessions whose connections are there.
    pub sessions: usize,
    /// These, and those that are gone but still being taken out of their channels.
    pub slots: usize,
    /// Channels in which a shard has sessions, counted for each shard.
    pub channels: usize,
    /// Subscriptions.
    pub subscriptions: usize,
    /// Bytes that wait for clients to read.
    pub queued_bytes: usize,
}
