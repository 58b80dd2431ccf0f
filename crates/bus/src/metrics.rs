//! Metrics of the bus.

use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue, LabelValueEncoder};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;
use tidings_model::id::AppId;

#[derive(Debug, Clone, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Publish {
    result: &'static str,
}

/// The label `app`.
#[derive(Debug, Clone, Hash, PartialEq, Eq)]
struct AppValue(AppId);

impl EncodeLabelValue for AppValue {
    fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> Result<(), std::fmt::Error> {
        self.0.as_str().encode(encoder)
    }
}

#[derive(Debug, Clone, Hash, PartialEq, Eq, EncodeLabelSet)]
struct OfApp {
    app: AppValue,
}

#[derive(Debug, Default, Clone)]
pub(crate) struct Metrics {
    publishes: Family<Publish, Counter>,
    app_publishes: Family<OfApp, Counter>,
    pub(crate) deliveries: Counter,
    /// Channels to which a logged event could not be sent.
    pub(crate) not_live: Counter,
}

impl Metrics {
    pub(crate) fn register(&self, registry: &mut Registry) {
        registry.register("publishes", "Publishes, by result", self.publishes.clone());
        registry.register("app_publishes", "Events that an app's servers sent, by app", self.app_publishes.clone());
        registry.register("deliveries", "Deliveries that publishes have created", self.deliveries.clone());
        registry.register("unsaid", "Channels to which a logged event could not be sent", self.not_live.clone());
    }

    /// Counts events of an app's servers.
    pub(crate) fn app_publishes(&self, app: &AppId, events: u32) {
        self.app_publishes.get_or_create(&OfApp { app: AppValue(app.clone()) }).inc_by(events.into());
    }

    pub(crate) fn publish(&self, result: &'static str) {
        self.publishes.get_or_create(&Publish { result }).inc();
    }
}
