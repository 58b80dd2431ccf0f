//! Counters per app: connections, messages and bytes.
//!
//! A session reaches its app's counters through its permit, so that counting needs no lookup.

use std::sync::Arc;

use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue, LabelValueEncoder};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::{Registry, Unit};
use tidings_model::id::AppId;

/// The label `app`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct AppValue(pub(crate) AppId);

impl EncodeLabelValue for AppValue {
    fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> Result<(), std::fmt::Error> {
        self.0.as_str().encode(encoder)
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct AppLabels {
    app: AppValue,
}

/// The counters of all apps.
#[derive(Debug, Default)]
pub(crate) struct Traffic {
    connects: Family<AppLabels, Counter>,
    disconnects: Family<AppLabels, Counter>,
    messages_received: Family<AppLabels, Counter>,
    messages_sent: Family<AppLabels, Counter>,
    bytes_received: Family<AppLabels, Counter>,
    bytes_sent: Family<AppLabels, Counter>,
}

/// The counters of one app.
#[derive(Debug)]
pub(crate) struct AppTraffic {
    pub(crate) app: AppId,
    /// Connections that became sessions.
    pub(crate) connects: Counter,
    /// Sessions whose connections ended.
    pub(crate) disconnects: Counter,
    /// Messages from clients.
    pub(crate) messages_received: Counter,
    /// Channel messages, each counted once per session it was sent to.
    pub(crate) messages_sent: Counter,
    /// Bytes from clients, including framing.
    pub(crate) bytes_received: Counter,
    /// Bytes for clients.
    pub(crate) bytes_sent: Counter,
}

impl Traffic {
    /// The counters of an app. They stay when the app's last session goes.
    pub(crate) fn of(&self, app: &AppId) -> Arc<AppTraffic> {
        let label = AppLabels { app: AppValue(app.clone()) };
        let of = |family: &Family<AppLabels, Counter>| family.get_or_create_owned(&label);
        Arc::new(AppTraffic {
            app: app.clone(),
            connects: of(&self.connects),
            disconnects: of(&self.disconnects),
            messages_received: of(&self.messages_received),
            messages_sent: of(&self.messages_sent),
            bytes_received: of(&self.bytes_received),
            bytes_sent: of(&self.bytes_sent),
        })
    }

    pub(crate) fn register(&self, registry: &mut Registry) {
        let mut count = |name: &str, help: &str, family: &Family<AppLabels, Counter>| {
            registry.register(name, help, family.clone());
        };
        count("app_connects", "Connections that became sessions, by app", &self.connects);
        count("app_disconnects", "Sessions whose connections ended, by app", &self.disconnects);
        count("app_messages_received", "Messages from clients, by app", &self.messages_received);
        count(
            "app_messages_sent",
            "Messages in channels, times the sessions they were sent to, by app",
            &self.messages_sent,
        );
        registry.register_with_unit(
            "app_received",
            "Bytes from clients, by app",
            Unit::Bytes,
            self.bytes_received.clone(),
        );
        registry.register_with_unit("app_sent", "Bytes for clients, by app", Unit::Bytes, self.bytes_sent.clone());
    }
}
