//! What the courier counts.

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
    /// Results that came too late: the lease had gone to somebody else.
    pub(crate) stale: Counter<u64, AtomicU64>,
    /// Deliveries given back unattempted.
    pub(crate) released: Counter<u64, AtomicU64>,
    /// Attempts put off because this machine had no socket for them.
    pub(crate) shortages: Counter<u64, AtomicU64>,
    /// Attempts under way.
    pub(crate) in_flight: Gauge,
    /// Bytes of deliveries held in memory.
    pub(crate) held_bytes: Gauge,
    /// Nodes that this one knows of, itself included.
    pub(crate) nodes: Gauge,
}

impl Metrics {
    pub(crate) fn register(&self, registry: &mut Registry) {
        registry.register("attempts", "Attempts, by what came of them", self.attempts.clone());
        registry.register("deliveries_closed", "Deliveries that ended, by state", self.closed.clone());
        registry.register("results_stale", "Results that came after their lease had been lost", self.stale.clone());
        registry.register(
            "deliveries_released",
            "Deliveries given back to the store unattempted",
            self.released.clone(),
        );
        registry.register(
            "attempts_postponed",
            "Attempts put off for want of descriptors, ports or memory here",
            self.shortages.clone(),
        );
        registry.register("attempts_in_flight", "Attempts under way", self.in_flight.clone());
        registry.register("held_bytes", "Bytes of deliveries held in memory", self.held_bytes.clone());
        registry.register("nodes", "Nodes that share what is owed, as this one knows", self.nodes.clone());
    }

    /// Counts an attempt: by status class when there was an answer, else by why there was none.
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
