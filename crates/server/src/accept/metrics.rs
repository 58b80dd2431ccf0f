//! What the accept loop counts.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;
use tidings_live::FailedProof;

use super::connection_limiter::LimitReached;

#[derive(Debug, Clone, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Reason {
    reason: &'static str,
}

/// Counters; clones share them.
#[derive(Debug, Default, Clone)]
pub(crate) struct Metrics {
    refused: Family<Reason, Counter>,
    failed_proofs: Family<Reason, Counter>,
    /// Requests that were delayed, because their address had failed too often.
    pub(super) delayed: Counter,
    /// Requests that were refused for the same reason.
    pub(super) limited: Counter,
}

impl Metrics {
    pub(crate) fn register(&self, registry: &mut Registry) {
        registry.register("connections_refused", "Connections refused, by the limit", self.refused.clone());
        registry.register(
            "failed_proofs",
            "Requests whose proof did not hold, by the proof",
            self.failed_proofs.clone(),
        );
        registry.register("requests_delayed", "Requests delayed after failed proofs", self.delayed.clone());
        registry.register("requests_limited", "Requests refused after failed proofs", self.limited.clone());
    }

    pub(super) fn refused(&self, reached: LimitReached) {
        let reason = match reached {
            LimitReached::Server => "max_connections",
            LimitReached::Address { .. } => "max_connections_per_ip",
        };
        self.refused.get_or_create(&Reason { reason }).inc();
    }

    pub(super) fn failed(&self, proof: FailedProof) {
        self.failed_proofs.get_or_create(&Reason { reason: proof.reason() }).inc();
    }

    #[cfg(test)]
    pub(super) fn failures(&self, proof: FailedProof) -> u64 {
        self.failed_proofs.get_or_create(&Reason { reason: proof.reason() }).get()
    }
}
