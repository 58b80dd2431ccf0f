//! Opens the main key, the store and the broker of a node.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tidings_broker::{Broker, MemoryBroker, MemoryLimits, RedisBroker, TransitionSink};
use tidings_bus::{Apps, TransitionQueue};
use tidings_live::Inboxes;
use tidings_model::clock::SharedClock;
use tidings_store::Store;
use tidings_store::postgres::{self, PostgresStore};
use tidings_store::seal::{MainKey, MainKeyError};
use tidings_store::sqlite::SqliteStore;
use tidings_supervisor::Supervisor;

use crate::config::{BrokerConfig, StoreConfig};
use crate::error::NodeError;

/// How long a start waits for the broker. Without the broker joins are refused, and not every client retries; but a
/// node
/// that never starts would be worse.
const BROKER_TIMEOUT: Duration = Duration::from_secs(5);
/// How often a start checks whether the broker can be reached.
const POLL: Duration = Duration::from_millis(10);

/// Opens the store, with the main key that it is sealed with.
pub(crate) async fn store(
    config: StoreConfig,
    main_key_file: PathBuf,
    supervisor: &Supervisor,
) -> Result<Arc<dyn Store>, NodeError> {
    match config {
        StoreConfig::Sqlite { path, sync } => {
            let supervisor = supervisor.clone();
            // Opening reads files and may migrate, so it runs on a blocking thread.
            let opened = tokio::task::spawn_blocking(move || -> Result<Arc<dyn Store>, NodeError> {
                let key = match MainKey::load(&main_key_file)? {
                    None if SqliteStore::holds_secrets(&path)? => return Err(missing(&main_key_file)),
                    None => MainKey::load_or_create(&main_key_file)?,
                    Some(key) => key,
                };
                Ok(Arc::new(SqliteStore::open(&path, sync, key, &supervisor)?))
            });
            opened.await.map_err(|_| NodeError::Broken)?
        }
        StoreConfig::Postgres { url, node, options } => {
            let file = main_key_file.clone();
            let there = tokio::task::spawn_blocking(move || MainKey::load(&file));
            let key = match there.await.map_err(|_| NodeError::Broken)?? {
                None if postgres::holdings(url.expose(), &options).await?.secrets => {
                    return Err(missing(&main_key_file));
                }
                None => {
                    let made = tokio::task::spawn_blocking(move || MainKey::load_or_create(&main_key_file));
                    made.await.map_err(|_| NodeError::Broken)??
                }
                Some(key) => key,
            };
            Ok(Arc::new(PostgresStore::open(url.expose(), &node, &options, key, supervisor).await?))
        }
    }
}

fn missing(main_key_file: &Path) -> NodeError {
    MainKeyError::Missing { path: main_key_file.display().to_string() }.into()
}

/// Reads the main key of a store that is open already.
pub(crate) async fn main_key(file: PathBuf) -> Result<Arc<MainKey>, NodeError> {
    let key = tokio::task::spawn_blocking(move || MainKey::load_or_create(&file));
    Ok(Arc::new(key.await.map_err(|_| NodeError::Broken)??))
}

/// What a broker is built from.
pub(crate) struct BrokerParts<'p> {
    pub(crate) apps: &'p Apps,
    pub(crate) clock: &'p SharedClock,
    pub(crate) inboxes: &'p Inboxes,
    pub(crate) transitions: &'p Arc<TransitionQueue>,
    /// The highest number of a transition in the presence journal.
    pub(crate) last_presence_number: i64,
    pub(crate) supervisor: &'p Supervisor,
}

/// A broker, and the same as a memory broker, if it is one: only that can keep histories across a restart.
pub(crate) type Brokers = (Arc<dyn Broker>, Option<Arc<MemoryBroker>>);

/// Starts the broker that the configuration names.
pub(crate) fn broker(config: BrokerConfig, parts: &BrokerParts<'_>) -> Result<Brokers, NodeError> {
    let (clock, shards) = (Arc::clone(parts.clock), Arc::new(parts.inboxes.clone()));
    let sink = Arc::clone(parts.transitions) as Arc<dyn TransitionSink>;
    Ok(match config {
        BrokerConfig::Memory { .. } => {
            let apps = parts.apps.all().iter().map(|app| (app.id.clone(), app.limits.history)).collect();
            let limits = MemoryLimits { apps, ..MemoryLimits::default() };
            // New transitions get higher numbers than all earlier ones.
            let last = clock.wall_ms().saturating_mul(1_000).max(parts.last_presence_number).unsigned_abs();
            let memory = Arc::new(MemoryBroker::new(clock, shards, limits).with_transitions(sink, last));
            (Arc::clone(&memory) as Arc<dyn Broker>, Some(memory))
        }
        BrokerConfig::Redis(settings) => {
            (Arc::new(RedisBroker::start(*settings, clock, shards, sink, parts.supervisor)?), None)
        }
    })
}

/// Waits until the broker can be reached, at most [`BROKER_TIMEOUT`].
pub(crate) async fn wait_for_broker(broker: &dyn Broker) {
    let connected = tokio::time::timeout(BROKER_TIMEOUT, async {
        while broker.is_cut_off() {
            tokio::time::sleep(POLL).await;
        }
    });
    if connected.await.is_err() {
        tracing::warn!(
            broker = broker.name(),
            "the broker cannot be reached; starting without it: until it can, joins are refused and events reach only \
            this node's sessions"
        );
    }
}
