//! What the bus counts.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;

#[derive(Debug, Clone, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Publish {
    result: &'static str,
}

#[derive(Debug, Default, Clone)]
pub(crate) struct Metrics {
    publishes: Family<Publish, Counter>,
    pub(crate) deliveries: Counter,
    /// Channels in which something that is on disk could not be said.
    pub(crate) unsaid: Counter,
}

impl Metrics {
    pub(crate) fn register(&self, registry: &mut Registry) {
        registry.register("publishes", "Publishes, by what became of them", self.publishes.clone());
        registry.register("deliveries", "Deliveries that publishes have made", self.deliveries.clone());
        registry.register("unsaid", "Channels in which a logged event could not be said", self.unsaid.clone());
    }

    pub(crate) fn publish(&self, result: &'static str) {
        self.publishes.get_or_create(&Publish { result }).inc();
    }
}
