//! The store of several nodes: PostgreSQL, which all of them write to.
//!
//! A commit returns after the server has synced it: that is checked at the start. What holds between transactions of
//! different nodes is said by advisory locks (`locks`) and by leases; no transaction waits for anything but the
//! database. It works behind a pooler that gives connections by transaction (see `connect`).

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
use publisher::{Means, Publisher};

pub use connect::{OpenError, Options, check_url};
pub use import::{ImportError, copy_from_sqlite};
pub use migrate::SCHEMA_VERSION;
pub use sealed::{Holdings, holdings};

/// Tokens that one incarnation may give; far more than it can.
const TOKENS_PER_INCARNATION: i64 = 1 << 40;

/// How much is done at once; tests make it little.
#[derive(Debug, Clone, Copy)]
struct Sizes {
    /// Destinations up to which a publish writes its deliveries itself.
    direct: usize,
    /// Deliveries of one slice of fan-out.
    fanout: usize,
    /// Deliveries that one transaction of a sweep takes back.
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
    /// Whether it is off the list of nodes for good; held while it is written there, so that nothing comes after its
    /// end.
    left: Mutex<bool>,
    /// Where the next slice of retention begins, as an event's number.
    retired_to: AtomicI64,
    /// Slices of fan-out: one that panics leaves the others to be written.
    fanout_units: Units,
    /// The same where the oldest go because there is too much.
    dropped_to: AtomicI64,
}

impl PostgresStore {
    /// Connects to the database and brings its schema up to date. `node` names this node: at its start, what it held
    /// before is taken back, so no two nodes may have one name. Call it in a Tokio runtime.
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
            tracing::debug!(%error, "the first connection did not end in order");
        }
        transact!(connections, |db| sealed::check_key(db, &key, node).await)?;
        let incarnation = transact!(connections, |db| upkeep::incarnate(db, node).await)?;
        let clock = Arc::new(clock);
        let means = Means {
            connections: Arc::clone(&connections),
            clock: Arc::clone(&clock),
            numbers: log::Numbers::of(incarnation),
            direct: sizes.direct,
            units: supervisor.units("store-job"),
        };
        let publisher = Publisher::start(means, supervisor);
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
        // The URL holds a password.
        f.debug_struct("PostgresStore").field("node", &self.node).finish_non_exhaustive()
    }
}
