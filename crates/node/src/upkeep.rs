//! Periodic work of a node: sweeping the broker, and taking over other nodes' changes of the catalogue.

use std::sync::Arc;
use std::sync::atomic::AtomicI64;
use std::time::Duration;

use prometheus_client::metrics::gauge::Gauge;
use tidings_broker::Broker;
use tidings_bus::Catalogue;
use tidings_store::StoreError;
use tidings_supervisor::fault;
use tokio::time::MissedTickBehavior;

/// How often the broker is swept.
const SWEEP_INTERVAL: Duration = Duration::from_secs(1);
/// How often a node asks for other nodes' changes of the catalogue.
const SYNC_INTERVAL: Duration = Duration::from_millis(250);

/// Sweeps the broker at intervals, and updates the metric that says whether it is cut off.
pub(crate) async fn sweep(broker: Arc<dyn Broker>, cut_off: Gauge<i64, AtomicI64>) {
    let mut every = tokio::time::interval(SWEEP_INTERVAL);
    loop {
        every.tick().await;
        fault::point("broker-sweep");
        cut_off.set(i64::from(broker.is_cut_off()));
        broker.sweep().await;
    }
}

/// Takes over other nodes' changes of the catalogue, until the store is closed.
pub(crate) async fn sync_catalogue(catalogue: Arc<Catalogue>) {
    let mut every = tokio::time::interval(SYNC_INTERVAL);
    every.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut failing = false;
    loop {
        every.tick().await;
        fault::point("catalogue-sync");
        match catalogue.sync().await {
            Ok(()) => failing = false,
            Err(StoreError::Closed) => return,
            Err(error) => {
                // Logged once, because it would repeat several times a second while the database is away.
                if !std::mem::replace(&mut failing, true) {
                    tracing::warn!(%error, "reading catalogue changes from the store failed; retrying");
                }
            }
        }
    }
}
