//! Opening what a node stands on: the main key, the store, the broker.

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

/// How long a start waits for the broker. Without it joins are refused, and not every client asks again; a node that
/// never starts would help nobody either.
const MEETING: Duration = Duration::from_secs(5);
/// How often is looked whether the broker is there.
const LOOK: Duration = Duration::from_millis(10);

/// Opens the store, with the main key that it is sealed with.
pub(crate) async fn store(
    config: StoreConfig,
    main_key_file: PathBuf,
    supervisor: &Supervisor,
) -> Result<Arc<dyn Store>, NodeError> {
    match config {
        StoreConfig::Sqlite { path, sync } => {
            let supervisor = supervisor.clone();
            // Opening reads files and may migrate: not on a thread that others share.
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

/// The main key of a store that is open.
pub(crate) async fn main_key(file: PathBuf) -> Result<Arc<MainKey>, NodeError> {
    let key = tokio::task::spawn_blocking(move || MainKey::load_or_create(&file));
    Ok(Arc::new(key.await.map_err(|_| NodeError::Broken)??))
}

/// What a broker is made of.
pub(crate) struct BrokerParts<'p> {
    pub(crate) apps: &'p Apps,
    pub(crate) clock: &'p SharedClock,
    pub(crate) inboxes: &'p Inboxes,
    pub(crate) transitions: &'p Arc<TransitionQueue>,
    /// The highest number of a channel event that the store has seen.
    pub(crate) last_presence_number: i64,
    pub(crate) supervisor: &'p Supervisor,
}

/// A broker, and once more as what it is where a restart may keep its histories.
pub(crate) type Brokers = (Arc<dyn Broker>, Option<Arc<MemoryBroker>>);

/// The broker that the configuration names.
pub(crate) fn broker(config: BrokerConfig, parts: &BrokerParts<'_>) -> Result<Brokers, NodeError> {
    let (clock, shards) = (Arc::clone(parts.clock), Arc::new(parts.inboxes.clone()));
    let sink = Arc::clone(parts.transitions) as Arc<dyn TransitionSink>;
    Ok(match config {
        BrokerConfig::Memory { .. } => {
            let apps = parts.apps.all().iter().map(|app| (app.id.clone(), app.limits.history)).collect();
            let limits = MemoryLimits { apps, ..MemoryLimits::default() };
            // What is numbered now comes after all that was numbered before.
            let last = clock.wall_ms().saturating_mul(1_000).max(parts.last_presence_number).unsigned_abs();
            let memory = Arc::new(MemoryBroker::new(clock, shards, limits).with_transitions(sink, last));
            (Arc::clone(&memory) as Arc<dyn Broker>, Some(memory))
        }
        BrokerConfig::Redis(settings) => {
            (Arc::new(RedisBroker::start(*settings, clock, shards, sink, parts.supervisor)?), None)
        }
    })
}

/// Waits until other nodes can be reached, or for long enough.
pub(crate) async fn meet(broker: &dyn Broker) {
    let met = tokio::time::timeout(MEETING, async {
        while broker.is_cut_off() {
            tokio::time::sleep(LOOK).await;
        }
    });
    if met.await.is_err() {
        tracing::warn!(
            broker = broker.name(),
            "the broker cannot be reached; starting without it: joins are refused until it is there, and what is said \
            reaches this node's sessions only"
        );
    }
}
