//! How the store stands, for `/readyz` and the metrics: looked at once a second at most, however many ask.

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

/// For how long an answer holds.
const FRESH: Duration = Duration::from_secs(1);
/// How often the metrics are set when nobody asks for more.
const EVERY: Duration = Duration::from_secs(5);
/// A store that takes longer to answer cannot be used.
const PATIENCE: Duration = Duration::from_secs(5);

/// How the store stands.
#[derive(Debug, Clone, Default)]
pub(crate) struct Counted {
    /// Why it cannot be written, when it cannot.
    pub(crate) store_error: Option<String>,
    /// How many nodes share it; `None` when it does not say.
    pub(crate) nodes: Option<u64>,
    /// How much there is; what was known last when it does not say.
    pub(crate) depth: Depth,
}

type Level = Gauge<u64, AtomicU64>;

/// The last answer, and the metrics made of it.
pub(crate) struct Counts {
    store: Arc<dyn Store>,
    clock: SharedClock,
    /// With the steady time at which the look ended.
    last: Mutex<Option<(Counted, Millis)>>,
    /// One at a time looks.
    looking: tokio::sync::Mutex<()>,
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
        let (last, looking) = (Mutex::default(), tokio::sync::Mutex::default());
        Self { store, clock, last, looking, deliveries, fanouts, undelivered, bytes }
    }

    /// How the store stands. Those who ask at the same time wait for one look, which goes on when they do not wait for
    /// its end; when it takes longer than a second, the answer of a little while ago has to do.
    pub(crate) async fn get(self: &Arc<Self>) -> Counted {
        if let Some(counted) = self.known(FRESH) {
            return counted;
        }
        let counts = Arc::clone(self);
        let mut look = tokio::spawn(async move { counts.look_once().await });
        match tokio::time::timeout(FRESH, &mut look).await {
            Ok(looked) => return looked.unwrap_or_else(|_| failed()),
            Err(_) => {
                if let Some(counted) = self.known(2 * PATIENCE) {
                    return counted;
                }
            }
        }
        look.await.unwrap_or_else(|_| failed())
    }

    /// The last answer, if it is not older than that.
    fn known(&self, age: Duration) -> Option<Counted> {
        let now = self.clock.steady_ms();
        self.last.lock().as_ref().filter(|(_, at)| now - at < millis(age)).map(|(counted, _)| counted.clone())
    }

    async fn look_once(&self) -> Counted {
        let _one_at_a_time = self.looking.lock().await;
        if let Some(counted) = self.known(FRESH) {
            return counted;
        }
        let known = self.last.lock().as_ref().map(|(counted, _)| counted.depth).unwrap_or_default();
        let counted = self.look(known).await;
        *self.last.lock() = Some((counted.clone(), self.clock.steady_ms()));
        counted
    }

    async fn look(&self, known: Depth) -> Counted {
        let look =
            async { (self.store.writable().await, self.store.depth().await.ok(), self.store.nodes().await.ok()) };
        let Ok((writable, depth, nodes)) = tokio::time::timeout(PATIENCE, look).await else {
            let store_error = Some("the store does not answer".to_owned());
            return Counted { store_error, nodes: None, depth: known };
        };
        let depth = depth.unwrap_or(known);
        self.deliveries.set(depth.deliveries);
        self.fanouts.set(depth.fanouts);
        self.undelivered.set(depth.undelivered);
        self.bytes.set(depth.bytes);
        Counted { store_error: writable.err().map(|error| error.to_string()), nodes, depth }
    }
}

/// The answer of a look that broke off.
fn failed() -> Counted {
    Counted { store_error: Some("the look at the store broke off".to_owned()), ..Counted::default() }
}

/// Sets the metrics again and again.
pub(crate) async fn keep_fresh(counts: Arc<Counts>) {
    let mut every = tokio::time::interval(EVERY);
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
            clock.advance(FRESH);
            assert_eq!(counts.get().await.store_error, None);
        }
        assert_eq!(written(), before, "asking wrote something");
        // What was looked at is what is said, also when it is not so any more.
        store.close().await;
        for _ in 0..1_000 {
            assert_eq!(counts.get().await.store_error, None);
        }
        clock.advance(FRESH);
        assert_eq!(counts.get().await.store_error.as_deref(), Some("the store is closing"));
    }
}
