//! What a node is made of: typed, validated, without strings that still have to be understood.

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

/// Where things survive.
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
        /// Where it is; it holds a password.
        url: SecretString,
        /// The name of this node, which no other has.
        node: String,
        /// How it is used.
        options: Options,
    },
}

/// How nodes tell each other.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum BrokerConfig {
    /// There is one node.
    Memory {
        /// Whether what channels keep outlives an orderly stop.
        keep_over_restart: bool,
    },
    /// Through Redis.
    Redis(Box<RedisSettings>),
}

impl BrokerConfig {
    /// Which it is, in the word that the broker itself has for it.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Memory { .. } => tidings_store::nodes::OWN_BROKER,
            Self::Redis(_) => "redis",
        }
    }
}

/// What a node is made of. [`Config::in_folder`] has a default for everything; the methods change what is to be
/// different.
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
    /// A node that keeps everything in this folder, which exists, and has no neighbours and no apps: SQLite, synced at
    /// each commit, and the broker in memory.
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

    /// Where things survive.
    #[must_use]
    pub fn store(self, store: StoreConfig) -> Self {
        Self { store, ..self }
    }

    /// How nodes tell each other.
    #[must_use]
    pub fn broker(self, broker: BrokerConfig) -> Self {
        Self { broker, ..self }
    }

    /// The file with the key that secrets at rest are sealed with; made when there is none.
    #[must_use]
    pub fn main_key_file(self, main_key_file: PathBuf) -> Self {
        Self { main_key_file, ..self }
    }

    /// Threads that own live sessions; 0: one for each core.
    #[must_use]
    pub fn shards(self, shards: u16) -> Self {
        Self { shards, ..self }
    }

    /// How live sessions are kept.
    #[must_use]
    pub fn live(self, live: tidings_live::Settings) -> Self {
        Self { live, ..self }
    }

    /// For how long a channel or member is waited for that was there when a node started, stopped or died, before it
    /// counts as gone.
    #[must_use]
    pub fn rejoin_within(self, rejoin_within: Duration) -> Self {
        Self { rejoin_within, ..self }
    }

    /// How deliveries are made.
    #[must_use]
    pub fn courier(self, courier: Settings) -> Self {
        Self { courier, ..self }
    }

    /// What is kept of the log, and for how long.
    #[must_use]
    pub fn keep(self, keep: Retention) -> Self {
        Self { keep, ..self }
    }

    /// What may be dialled.
    #[must_use]
    pub fn egress(self, egress: EgressConfig) -> Self {
        Self { egress, ..self }
    }

    /// The tenants.
    #[must_use]
    pub fn apps(self, apps: Vec<App>) -> Self {
        Self { apps, ..self }
    }

    /// Understands the apps that the store keeps; without one, there are none.
    #[must_use]
    pub fn app_reader(self, reader: Arc<dyn AppReader>) -> Self {
        Self { app_reader: Some(reader), ..self }
    }

    /// The time.
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
