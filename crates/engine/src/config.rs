//! What an engine is built from: typed, validated, without strings that still have to be understood.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

pub use tidings_broker::{RedisSettings, RedisUrlError};
pub use tidings_bus::{AppReader, Spec, WrongField};
use tidings_courier::Settings;
use tidings_courier::egress::EgressConfig;
pub use tidings_door_pusher::KeepAlive;
use tidings_model::app::{App, Token};
use tidings_model::clock::SharedClock;
use tidings_store::postgres::Options;
use tidings_store::sqlite::Sync;

pub use crate::retention::Retention;

/// Where things survive.
#[derive(Debug, Clone)]
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
        url: Token,
        /// The name of this node, which no other has.
        node: String,
        /// How it is used.
        options: Options,
    },
}

/// How nodes tell each other.
#[derive(Debug, Clone)]
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

/// What an engine is built from.
#[derive(Clone)]
pub struct Config {
    /// Where things survive.
    pub store: StoreConfig,
    /// How nodes tell each other.
    pub broker: BrokerConfig,
    /// The file with the key that secrets at rest are sealed with; made when there is none.
    pub main_key_file: PathBuf,
    /// Where an orderly stop leaves what channels keep for the next start, if the broker is to.
    pub histories_file: PathBuf,
    /// Threads that own live sessions; 0: one for each core.
    pub shards: u16,
    /// How live sessions are kept.
    pub live: tidings_live::Settings,
    /// For how long a channel or member is waited for that was there when a node started, stopped or died, before it counts
    /// as gone.
    pub rejoin_within: Duration,
    /// How long a silent Pusher client is waited for.
    pub keep_alive: KeepAlive,
    /// How deliveries are made.
    pub courier: Settings,
    /// What is kept, of the log and for how long.
    pub keep: Retention,
    /// What may be dialled.
    pub egress: EgressConfig,
    /// The tenants.
    pub apps: Vec<App>,
    /// Understands the apps that the store keeps; without, there are none.
    pub app_reader: Option<Arc<dyn AppReader>>,
    /// Opens every app.
    pub operator_key: Token,
    /// The time.
    pub clock: SharedClock,
}

impl std::fmt::Debug for Config {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Config").field("store", &self.store).field("apps", &self.apps.len()).finish_non_exhaustive()
    }
}
