//! What several nodes share: a PostgreSQL database, a Redis, and the key that secrets are sealed with.

use std::path::PathBuf;

use crate::{Database, Redis, postgres, redis};

/// The shortest allowed lease, so that a dead node is soon detected.
const LEASE: &str = "3s";

/// The shared servers. They end when it is dropped.
#[derive(Debug)]
pub struct Cluster {
    /// Their store.
    pub database: Database,
    /// Their broker.
    pub redis: Redis,
    keys: tempfile::TempDir,
}

impl Cluster {
    /// A new, empty cluster.
    ///
    /// # Panics
    /// When PostgreSQL or Redis is not installed, or does not start.
    pub async fn new() -> Self {
        Self::on(postgres()).await
    }

    /// A cluster on this database.
    ///
    /// # Panics
    /// When Redis is not installed, or does not start.
    pub async fn on(database: Database) -> Self {
        let keys = tempfile::tempdir().unwrap_or_else(|error| panic!("no folder for a key: {error}"));
        Self { database, redis: redis().await, keys }
    }

    /// The lines of a node's config for the shared servers; the last table is `[broker]`.
    pub fn lines(&self) -> String {
        self.lines_via(&self.database.url(), &self.redis.url())
    }

    /// The same for a node that reaches the store and the broker at other addresses, such as a proxy's.
    pub fn lines_via(&self, store: &str, broker: &str) -> String {
        format!(
            "[store]\nurl = \"{store}\"\n[secrets]\nmain_key_file = \"{}\"\n[broker]\nurl = \"{broker}\"\n\
            lease = \"{LEASE}\"\n",
            self.main_key().display()
        )
    }

    /// The same as environment variables of a node, which win over its config file.
    pub(crate) fn env(&self) -> Vec<(String, String)> {
        let key = self.main_key().display().to_string();
        let store = ("TIDINGS__STORE__URL", self.database.url());
        let broker = [("TIDINGS__BROKER__URL", self.redis.url()), ("TIDINGS__BROKER__LEASE", LEASE.to_owned())];
        let all = [store, ("TIDINGS__SECRETS__MAIN_KEY_FILE", key)].into_iter().chain(broker);
        all.map(|(name, value)| (name.to_owned(), value)).collect()
    }

    fn main_key(&self) -> PathBuf {
        self.keys.path().join("main.key")
    }
}
