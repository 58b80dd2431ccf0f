//! Starts the background tasks: presence events, reconciliation, notices of disabled listeners, changes of apps.

use prometheus_client::registry::Registry;
use tidings_courier::Notice;
use tokio::sync::mpsc;

use crate::bus::{Bus, Parts};
use crate::{apps_change, listener_disabled, presence_events, reconcile};

impl Bus {
    /// Starts a bus from its parts. It handles the courier's notices until the courier stops.
    pub fn start(parts: Parts, notices: mpsc::UnboundedReceiver<Notice>, registry: &mut Registry) -> Self {
        let bus = Self::assemble(parts, registry);
        let supervisor = &bus.shared.supervisor;
        supervisor.service("listener-notices", listener_disabled::run(bus.clone(), notices));
        presence_events::start(&bus);
        supervisor.service("reconciliation", reconcile::run(bus.clone()));
        supervisor.service("app-changes", apps_change::notify_sessions(bus.clone()));
        bus
    }
}
