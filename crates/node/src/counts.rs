//! The status of the store, for `/readyz` and the metrics. The store is queried at most once a second, however many
//! callers ask.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use parking_lot::Mutex;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::{Registry, Unit};
use tidings_model::clock::{Millis, SharedClock, millis};
use tidings_store::Store;
use tidings_store::queue::Depth;
use tidings_supervisor::fault;

/// How long a result is used.
const MAX_AGE: Duration = Duration::from_secs(1);
/// How often the metrics are updated, at least.
const REFRESH_INTERVAL: Duration = Duration::from_secs(5);
/// A store that takes longer to answer counts as unusable.
const TIMEOUT: Duration = Duration::from_secs(5);

/// The status of the store.
#[derive(Debug, Clone, Default)]
pub(crate) struct StoreStatus {
    /// Why the store cannot be written, if so.
    pub(crate) store_error: Option<String>,
    /// The number of nodes that share it; `None` if the query failed.
    pub(crate) nodes: Option<u64>,
    /// Pending work and size; the last known numbers if the query failed.
    pub(crate) depth: Depth,
}

type Level = Gauge<u64, AtomicU64>;

/// The last status of the store, and its metrics.
pub(crate) struct Counts {
    store: Arc<dyn Store>,
    clock: SharedClock,
    /// The last status, and the steady time at which its query ended.
    last: Mutex<Option<(StoreStatus, Millis)>>,
    /// Held during a query: one at a time.
    querying: tokio::sync::Mutex<()>,
    deliveries: Level,
    fanouts: Level,
    undelivered: Level,
    bytes: Level,
}

impl Counts {
    pub(crate) fn new(store: Arc<dyn Store>, clock: SharedClock, registry: &mut Registry) -> Self {
        let mut level = |name, help| {
            let level = Level::default();
            registry.register(name, help, level.clone());
            level
        };
        let deliveries = level("open_deliveries", "deliveries that are pending, in the whole store");
        let fanouts = level("open_fanouts", "events whose deliveries are still to be written");
        let undelivered = level("undelivered_deliveries", "deliveries that ended undelivered and are still kept");
        let bytes = Level::default();
        registry.register_with_unit("store", "what the store holds", Unit::Bytes, bytes.clone());
        let (last, querying) = (Mutex::default(), tokio::sync::Mutex::default());
        Self { store, clock, last, querying, deliveries, fanouts, undelivered, bytes }
    }

    /// The status of the store. Concurrent callers wait for one query, which continues even if they stop waiting. If it
    /// takes longer than a second, they get a slightly older status, if there is one.
    pub(crate) async fn get(self: &Arc<Self>) -> StoreStatus {
        if let Some(status) = self.last_within(MAX_AGE) {
            return status;
        }
        let counts = Arc::clone(self);
        let mut query = tokio::spawn(async move { counts.query_once().await });
        match tokio::time::timeout(MAX_AGE, &mut query).await {
            Ok(status) => return status.unwrap_or_else(|_| aborted()),
            Err(_) => {
                if let Some(status) = self.last_within(2 * TIMEOUT) {
                    return status;
                }
            }
        }
        query.await.unwrap_or_else(|_| aborted())
    }

    /// The last status, if it is not older than `age`.
    fn last_within(&self, age: Duration) -> Option<StoreStatus> {
        let now = self.clock.steady_ms();
        self.last.lock().as_ref().filter(|(_, at)| now - at < millis(age)).map(|(status, _)| status.clone())
    }

    async fn query_once(&self) -> StoreStatus {
        let _one_at_a_time = self.querying.lock().await;
        if let Some(status) = self.last_within(MAX_AGE) {
            return status;
        }
        let known = self.last.lock().as_ref().map(|(status, _)| status.depth).unwrap_or_default();
        let status = self.query(known).await;
        *self.last.lock() = Some((status.clone(), self.clock.steady_ms()));
        status
    }

    async fn query(&self, known: Depth) -> StoreStatus {
        let query =
            async { (self.store.writable().await, self.store.depth().await.ok(), self.store.nodes().await.ok()) };
        let Ok((writable, depth, nodes)) = tokio::time::timeout(TIMEOUT, query).await else {
            let store_error = Some("the store does not answer".to_owned());
            return StoreStatus { store_error, nodes: None, depth: known };
        };
        let depth = depth.unwrap_or(known);
        self.deliveries.set(depth.deliveries);
        self.fanouts.set(depth.fanouts);
        self.undelivered.set(depth.undelivered);
        self.bytes.set(depth.bytes);
        StoreStatus { store_error: writable.err().map(|error| error.to_string()), nodes, depth }
    }
}

/// The status after a query that panicked or was cancelled.
fn aborted() -> StoreStatus {
    StoreStatus {
        store_error: Some("the query of the store's status was aborted".to_owned()),
        ..StoreStatus::default()
    }
}

/// Updates the metrics at intervals.
pub(crate) async fn refresh(counts: Arc<Counts>) {
    let mut every = tokio::time::interval(REFRESH_INTERVAL);
    loop {
        every.tick().await;
        fault::point("store-counts");
        counts.get().await;
    }
}

#[cfg(test)]
mod tests {
    use tidings_model::clock::ManualClock;
    use tidings_store::seal::MainKey;
    use tidings_store::sqlite::{SqliteStore, Sync};
    use tidings_supervisor::Supervisor;

    use super::*;

    // covers: G112
    #[tokio::test]
    async fn many_who_ask_at_once_cost_one_look() {
        let dir = tempfile::tempdir().unwrap();
        let key = MainKey::load_or_create(&dir.path().join("main.key")).unwrap();
        let path = dir.path().join("tidings.db");
        let store: Arc<dyn Store> =
            Arc::new(SqliteStore::open(&path, Sync::Full, key, &Supervisor::default()).unwrap());
        let written = || {
            let mut wal = path.clone().into_os_string();
            wal.push("-wal");
            std::fs::metadata(wal).unwrap().modified().unwrap()
        };
        let (mut registry, before) = (Registry::default(), written());
        let clock = ManualClock::at(1_000_000);
        let counts = Arc::new(Counts::new(Arc::clone(&store), Arc::clone(&clock) as SharedClock, &mut registry));
        let first = counts.get().await;
        assert_eq!((first.store_error, first.nodes), (None, Some(1)));
        for _ in 0..50 {
            clock.advance(MAX_AGE);
            assert_eq!(counts.get().await.store_error, None);
        }
        assert_eq!(written(), before, "asking wrote something");
        // The last status is returned, even if it is outdated.
        store.close().await;
        for _ in 0..1_000 {
            assert_eq!(counts.get().await.store_error, None);
        }
        clock.advance(MAX_AGE);
        assert_eq!(counts.get().await.store_error.as_deref(), Some("the store is closing"));
    }
}
