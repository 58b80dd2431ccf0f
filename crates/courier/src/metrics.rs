//! The courier's metrics.

use std::sync::atomic::AtomicU64;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

#[derive(Debug, Clone, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Result {
    result: &'static str,
}

/// Counters, shared by the workers. No label has unbounded values.
#[derive(Debug, Default, Clone)]
pub(crate) struct Metrics {
    attempts: Family<Result, Counter>,
    /// Deliveries that ended, by state.
    closed: Family<Result, Counter>,
    /// Results that came too late: the lease had expired, and the delivery may have a new one.
    pub(crate) stale: Counter<u64, AtomicU64>,
    /// Deliveries released to the store without an attempt.
    pub(crate) released: Counter<u64, AtomicU64>,
    /// Attempts postponed because this machine was short of sockets.
    pub(crate) shortages: Counter<u64, AtomicU64>,
    /// Attempts in flight.
    pub(crate) in_flight: Gauge,
    /// Bytes of deliveries held in memory.
    pub(crate) held_bytes: Gauge,
    /// Nodes that this one knows of, itself included.
    pub(crate) nodes: Gauge,
}

impl Metrics {
    pub(crate) fn register(&self, registry: &mut Registry) {
        registry.register("attempts", "Attempts, by result", self.attempts.clone());
        registry.register("deliveries_closed", "Deliveries that ended, by state", self.closed.clone());
        registry.register("results_stale", "Results that came after their lease had been lost", self.stale.clone());
        registry.register(
            "deliveries_released",
            "Deliveries released to the store without an attempt",
            self.released.clone(),
        );
        registry.register(
            "attempts_postponed",
            "Attempts postponed for lack of descriptors, ports or memory on this machine",
            self.shortages.clone(),
        );
        registry.register("attempts_in_flight", "Attempts in flight", self.in_flight.clone());
        registry.register("held_bytes", "Bytes of deliveries held in memory", self.held_bytes.clone());
        registry.register("nodes", "Nodes that share the store, as this one knows", self.nodes.clone());
    }

    /// Counts an attempt: by status class if there was a response, else by error code.
    pub(crate) fn attempt(&self, outcome: &'static str, status: Option<u16>) {
        let result = match status.map(|status| status / 100) {
            None => outcome,
            Some(1) => "1xx",
            Some(2) => "2xx",
            Some(3) => "3xx",
            Some(4) => "4xx",
            Some(5) => "5xx",
            Some(_) => "other",
        };
        self.attempts.get_or_create(&Result { result }).inc();
    }

    pub(crate) fn closed(&self, state: &'static str) {
        self.closed.get_or_create(&Result { result: state }).inc();
    }
}
