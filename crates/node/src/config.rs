//! A node's configuration: typed and validated, without strings that still have to be parsed.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

pub use tidings_broker::{RedisSettings, RedisUrlError};
pub use tidings_bus::{AppReader, Spec, WrongField};
use tidings_courier::Settings;
use tidings_courier::egress::EgressConfig;
use tidings_model::app::App;
use tidings_model::clock::{SharedClock, SystemClock};
use tidings_model::secret::SecretString;
use tidings_store::postgres::Options;
use tidings_store::sqlite::Sync;

pub use crate::retention::Retention;

/// The store that a node uses.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum StoreConfig {
    /// The embedded store.
    Sqlite {
        /// The database file; its folder exists.
        path: PathBuf,
        /// When a commit counts as done.
        sync: Sync,
    },
    /// PostgreSQL, which several nodes share.
    Postgres {
        /// The connection URL; it contains a password.
        url: SecretString,
        /// The name of this node, unique among the nodes of the database.
        node: String,
        /// Connections and timeouts.
        options: Options,
    },
}

/// The broker that a node uses.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum BrokerConfig {
    /// In memory, for a single node.
    Memory {
        /// Whether histories and cached events of channels outlive an orderly stop.
        keep_over_restart: bool,
    },
    /// In Redis, for several nodes.
    Redis(Box<RedisSettings>),
}

impl BrokerConfig {
    /// The broker's name, as the broker itself gives it.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Memory { .. } => tidings_store::nodes::OWN_BROKER,
            Self::Redis(_) => "redis",
        }
    }
}

/// A node's configuration. [`Config::in_folder`] has a default for everything; the methods change single settings.
#[derive(Clone)]
#[non_exhaustive]
pub struct Config {
    pub(crate) store: StoreConfig,
    pub(crate) broker: BrokerConfig,
    pub(crate) main_key_file: PathBuf,
    pub(crate) histories_file: PathBuf,
    pub(crate) shards: u16,
    pub(crate) live: tidings_live::Settings,
    pub(crate) rejoin_within: Duration,
    pub(crate) courier: Settings,
    pub(crate) keep: Retention,
    pub(crate) egress: EgressConfig,
    pub(crate) apps: Vec<App>,
    pub(crate) app_reader: Option<Arc<dyn AppReader>>,
    pub(crate) clock: SharedClock,
}

impl Config {
    /// A single node without apps that keeps everything in this folder, which must exist: SQLite, synced at each
    /// commit,
    /// and the broker in memory.
    pub fn in_folder(folder: &Path) -> Self {
        Self {
            store: StoreConfig::Sqlite { path: folder.join("tidings.db"), sync: Sync::Full },
            broker: BrokerConfig::Memory { keep_over_restart: true },
            main_key_file: folder.join("main.key"),
            histories_file: folder.join("histories"),
            shards: 0,
            live: tidings_live::Settings::default(),
            rejoin_within: Duration::from_secs(30),
            courier: Settings::default(),
            keep: Retention::default(),
            egress: EgressConfig::default(),
            apps: Vec::new(),
            app_reader: None,
            clock: SystemClock::shared(),
        }
    }

    /// Sets the store.
    #[must_use]
    pub fn store(self, store: StoreConfig) -> Self {
        Self { store, ..self }
    }

    /// Sets the broker.
    #[must_use]
    pub fn broker(self, broker: BrokerConfig) -> Self {
        Self { broker, ..self }
    }

    /// Sets the file of the main key, which seals secrets at rest. The file is created if there is none.
    #[must_use]
    pub fn main_key_file(self, main_key_file: PathBuf) -> Self {
        Self { main_key_file, ..self }
    }

    /// Sets the number of shards (threads that own live sessions); 0: one for each core.
    #[must_use]
    pub fn shards(self, shards: u16) -> Self {
        Self { shards, ..self }
    }

    /// Sets limits and timeouts of live sessions.
    #[must_use]
    pub fn live(self, live: tidings_live::Settings) -> Self {
        Self { live, ..self }
    }

    /// Sets how long sessions may take to come back after a node has started, stopped or died, before their channels
    /// and
    /// members count as gone.
    #[must_use]
    pub fn rejoin_within(self, rejoin_within: Duration) -> Self {
        Self { rejoin_within, ..self }
    }

    /// Sets limits and timeouts of deliveries.
    #[must_use]
    pub fn courier(self, courier: Settings) -> Self {
        Self { courier, ..self }
    }

    /// Sets how much of the log is kept, and how long.
    #[must_use]
    pub fn keep(self, keep: Retention) -> Self {
        Self { keep, ..self }
    }

    /// Sets which addresses outgoing requests may reach.
    #[must_use]
    pub fn egress(self, egress: EgressConfig) -> Self {
        Self { egress, ..self }
    }

    /// Sets the apps of the config file.
    #[must_use]
    pub fn apps(self, apps: Vec<App>) -> Self {
        Self { apps, ..self }
    }

    /// Sets the reader for apps in the store. Without a reader, those apps are not served.
    #[must_use]
    pub fn app_reader(self, reader: Arc<dyn AppReader>) -> Self {
        Self { app_reader: Some(reader), ..self }
    }

    /// Sets the clock.
    #[must_use]
    pub fn clock(self, clock: SharedClock) -> Self {
        Self { clock, ..self }
    }
}

impl std::fmt::Debug for Config {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Config").field("store", &self.store).field("apps", &self.apps.len()).finish_non_exhaustive()
    }
}
