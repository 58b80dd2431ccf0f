//! What a config means: typed, checked, complete. The config file's sections make it, `assemble.rs` hands it to the engine.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use tidings_courier::egress::EgressConfig;
use tidings_model::app::{App, Token};

/// Everything a server needs to know to start.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    /// Where to accept connections.
    pub(crate) listen: SocketAddr,
    /// What connections may use.
    pub(crate) connections: ConnectionSettings,
    /// Where things are kept.
    pub(crate) store: StoreSettings,
    /// The key that opens every app's API.
    pub(crate) operator_key: Option<Token>,
    /// How deliveries are made.
    pub(crate) courier: tidings_courier::Settings,
    /// Where deliveries may go.
    pub(crate) egress: EgressConfig,
    /// How long events are kept, with what came of them.
    pub(crate) keep: Duration,
    /// The file with the keys that secrets at rest are sealed with.
    pub(crate) main_key_file: PathBuf,
    /// The apps of the config file; with none, the server makes one and keeps it in the credentials file.
    pub(crate) apps: Vec<App>,
}

/// What connections may use.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ConnectionSettings {
    /// Connections at one time; more wait to be accepted.
    pub(crate) max: usize,
    /// How long a client may take to send a request's head.
    pub(crate) header_timeout: Duration,
    /// How long one request may take in all.
    pub(crate) request_timeout: Duration,
    /// How long requests and deliveries under way may take to end when the server stops.
    pub(crate) shutdown_grace: Duration,
}

/// Where things are kept.
#[derive(Debug, Clone)]
pub(crate) struct StoreSettings {
    /// SQLite's database file.
    pub(crate) path: PathBuf,
    /// Whether each commit is synced to the disk; without, a power cut may take the last ones.
    pub(crate) durable: bool,
}
