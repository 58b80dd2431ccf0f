//! What a node does by the clock: has the broker drop what has expired, and follows what other nodes change.

use std::sync::Arc;
use std::sync::atomic::AtomicI64;
use std::time::Duration;

use prometheus_client::metrics::gauge::Gauge;
use tidings_broker::Broker;
use tidings_bus::Catalogue;
use tidings_store::StoreError;
use tidings_supervisor::fault;
use tokio::time::MissedTickBehavior;

/// How often the broker is asked to drop what has expired.
const SWEEP: Duration = Duration::from_secs(1);
/// How often a node looks for what others changed in the catalogue.
const FOLLOW: Duration = Duration::from_millis(250);

/// Has the broker drop what has expired, and tells whether it can be reached.
pub(crate) async fn sweep(broker: Arc<dyn Broker>, cut_off: Gauge<i64, AtomicI64>) {
    let mut every = tokio::time::interval(SWEEP);
    loop {
        every.tick().await;
        fault::point("broker-sweep");
        cut_off.set(i64::from(broker.is_cut_off()));
        broker.sweep().await;
    }
}

/// Takes over what other nodes change in the catalogue, until the store is closed.
pub(crate) async fn follow(catalogue: Arc<Catalogue>) {
    let mut every = tokio::time::interval(FOLLOW);
    every.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut failing = false;
    loop {
        every.tick().await;
        fault::point("catalogue-sync");
        match catalogue.sync().await {
            Ok(()) => failing = false,
            Err(StoreError::Closed) => return,
            Err(error) => {
                // Once, or each look would fill the log while the database is away.
                if !std::mem::replace(&mut failing, true) {
                    tracing::warn!(%error, "what other nodes changed cannot be read; trying again");
                }
            }
        }
    }
}
