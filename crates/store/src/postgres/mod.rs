//! The store for several nodes: PostgreSQL, which all of them write to.
//!
//! A commit returns after the server has synced it; the start checks this. Advisory locks (`locks`) and leases exclude
//! transactions of different nodes from each other. No transaction waits for anything but the database. It works behind
//! a pooler in transaction mode (see `connect`).

mod apps;
mod catalogue;
mod clock;
mod closing;
mod connect;
mod events;
mod fanout;
mod fault;
mod finish;
mod import;
mod lanes;
mod leased_batches;
mod listing;
mod locks;
mod log;
mod meta;
mod migrate;
mod nodes;
mod paused;
mod presence;
mod publisher;
mod queue;
mod retire;
mod sealed;
mod store;
mod upkeep;

#[cfg(test)]
mod tests;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::AtomicI64;
use tidings_supervisor::{Supervisor, Units};

use sqlx::Connection as _;
use tokio::sync::Mutex;

use crate::log::MAX_DIRECT;
use crate::seal::MainKey;
use clock::ServerClock;
use connect::{Connections, transact};
use publisher::{Publisher, Resources};

pub use connect::{OpenError, Options, check_url};
pub use import::{ImportError, copy_from_sqlite};
pub use migrate::SCHEMA_VERSION;
pub use sealed::{Holdings, holdings};

/// The number of lease tokens reserved for one incarnation; far more than it can use.
const TOKENS_PER_INCARNATION: i64 = 1 << 40;

/// Upper bounds per transaction; tests lower them to reach every branch with few rows.
#[derive(Debug, Clone, Copy)]
struct Sizes {
    /// The most destinations whose deliveries the publish transaction itself writes.
    direct: usize,
    /// Deliveries in one slice of a fan-out row.
    fanout: usize,
    /// Expired leases that one transaction of a sweep ends.
    sweep: usize,
}

impl Default for Sizes {
    fn default() -> Self {
        Self { direct: MAX_DIRECT, fanout: fanout::SLICE, sweep: upkeep::SLICE }
    }
}

/// A node's access to the store.
pub struct PostgresStore {
    node: String,
    incarnation: i64,
    key: Arc<MainKey>,
    sizes: Sizes,
    connections: Arc<Connections>,
    clock: Arc<ServerClock>,
    publisher: Publisher,
    next_token: AtomicI64,
    /// Whether the node has left the list of nodes. Locked during each registration, so that none follows the leaving.
    left: Mutex<bool>,
    /// The event number at which the next slice of retention by age begins.
    retired_to: AtomicI64,
    /// Runs slices of fan-out as units: a panic fails only its own row.
    fanout_units: Units,
    /// The event number at which the next slice of retention by size begins.
    dropped_to: AtomicI64,
}

impl PostgresStore {
    /// Connects to the database and migrates its schema. `node` is the name of this node. At its start the leases of
    /// earlier incarnations of that name are ended, so names must be unique. Call it in a Tokio runtime.
    ///
    /// # Errors
    /// [`OpenError`]: the URL or the server cannot be used, a later version of Tidings wrote the database, or `key` is
    /// not the one that it is sealed with.
    pub async fn open(
        url: &str,
        node: &str,
        options: &Options,
        key: MainKey,
        supervisor: &Supervisor,
    ) -> Result<Self, OpenError> {
        Self::open_with(url, node, options, key, Sizes::default(), ServerClock::measured(), supervisor).await
    }

    async fn open_with(
        url: &str,
        node: &str,
        options: &Options,
        key: MainKey,
        sizes: Sizes,
        clock: ServerClock,
        supervisor: &Supervisor,
    ) -> Result<Self, OpenError> {
        let (connections, mut first) = Connections::open(url, options).await?;
        let connections = Arc::new(connections);
        migrate::alone(&mut first).await?;
        if let Err(error) = first.close().await {
            tracing::debug!(%error, "closing the first connection failed");
        }
        transact!(connections, |db| sealed::check_key(db, &key, node).await)?;
        let incarnation = transact!(connections, |db| upkeep::incarnate(db, node).await)?;
        let clock = Arc::new(clock);
        let resources = Resources {
            connections: Arc::clone(&connections),
            clock: Arc::clone(&clock),
            numbers: log::Numbers::of(incarnation),
            direct: sizes.direct,
            units: supervisor.units("store-job"),
        };
        let publisher = Publisher::start(resources, supervisor);
        Ok(Self {
            node: node.to_owned(),
            incarnation,
            key: Arc::new(key),
            sizes,
            connections,
            clock,
            publisher,
            next_token: AtomicI64::new(incarnation * TOKENS_PER_INCARNATION),
            fanout_units: supervisor.units("fanout-slice"),
            retired_to: AtomicI64::new(0),
            dropped_to: AtomicI64::new(0),
            left: Mutex::new(false),
        })
    }
}

impl Drop for PostgresStore {
    fn drop(&mut self) {
        self.publisher.stop();
    }
}

impl fmt::Debug for PostgresStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Without the URL, which contains a password.
        f.debug_struct("PostgresStore").field("node", &self.node).finish_non_exhaustive()
    }
}
