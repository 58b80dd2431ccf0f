//! What a config means: typed, checked, complete. The config file's sections make it, `assemble.rs` hands it to the engine.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;
use tidings_model::app::{App, Token};
use tidings_model::schedule::Schedule;
use url::Url;

/// Everything a server needs to know to start.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    /// Where to accept connections.
    pub(crate) listen: SocketAddr,
    /// The address that others reach us by, when it is not the one above.
    pub(crate) public_url: Option<Url>,
    /// What connections may use.
    pub(crate) connections: ConnectionSettings,
    /// Where things are kept.
    pub(crate) store: StoreSettings,
    /// Who may do everything.
    pub(crate) admin: AdminSettings,
    /// How deliveries are made.
    pub(crate) courier: CourierSettings,
    /// Where deliveries may go.
    pub(crate) egress: EgressSettings,
    /// How long things are kept.
    pub(crate) retention: RetentionSettings,
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

/// Who may do everything.
#[derive(Debug, Clone, Default)]
pub(crate) struct AdminSettings {
    /// The admin password's argon2id hash.
    pub(crate) password_hash: Option<Token>,
    /// The key that opens every app's API.
    pub(crate) operator_key: Option<Token>,
}

/// How deliveries are made.
#[derive(Debug, Clone)]
pub(crate) struct CourierSettings {
    /// When attempts are made, for listeners and hooks that say nothing themselves.
    pub(crate) schedule: Schedule,
    /// The whole time one attempt may take.
    pub(crate) timeout: Duration,
    /// Deliveries under way to one listener.
    pub(crate) concurrency: u32,
    /// Deliveries under way in all.
    pub(crate) max_in_flight: usize,
    /// Bytes of deliveries that wait in memory for a worker.
    pub(crate) queue_bytes: usize,
    /// The longest wait that a `Retry-After` is believed.
    pub(crate) retry_after_max: Duration,
    /// A listener with nothing but failures for so long is disabled.
    pub(crate) disable_after: Duration,
    /// How long a worker may hold a delivery before another may take it.
    pub(crate) lease: Duration,
}

/// Where deliveries may go.
#[derive(Debug, Clone)]
pub(crate) struct EgressSettings {
    /// Networks that are not public and may be reached all the same.
    pub(crate) allow: Vec<IpNet>,
    /// Networks that may never be reached; wins over `allow`.
    pub(crate) deny: Vec<IpNet>,
    /// An HTTP proxy that every request goes through.
    pub(crate) proxy: Option<Url>,
    /// Whether plain `http://` is refused.
    pub(crate) https_only: bool,
    /// Ports that may never be reached; `None` takes courier's own list.
    pub(crate) deny_ports: Option<Vec<u16>>,
    /// Certificate authorities to trust besides the public ones, in PEM.
    pub(crate) ca_file: Option<PathBuf>,
    /// How long a connection may take to come about.
    pub(crate) connect_timeout: Duration,
}

/// How long things are kept.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RetentionSettings {
    /// Events of the log.
    pub(crate) events: Duration,
    /// Closed deliveries and their attempts.
    pub(crate) attempts: Duration,
    /// Bytes of the database; the oldest events go first.
    pub(crate) bytes: u64,
}
