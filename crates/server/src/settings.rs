//! The meaning of a config: typed, checked, with defaults filled in. `config/` makes it, `assemble.rs` passes it to the
//! engine.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;
use tidings_courier::egress::EgressConfig;
use tidings_engine::{BrokerConfig, Retention};
use tidings_model::app::App;
use tidings_model::secret::SecretString;
use tidings_store::postgres::Options;
use url::Url;

/// Everything a server needs to know to start.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    /// Where to accept connections.
    pub(crate) listen: SocketAddr,
    /// A separate address for `/metrics` and the details of `/readyz`.
    pub(crate) machines_listen: Option<SocketAddr>,
    /// How long `/readyz` answers 503 before the listener closes, when the server stops.
    pub(crate) shutdown_delay: Duration,
    /// How clients reach the server, if not at `listen`.
    pub(crate) public_url: Option<Url>,
    /// What connections may use.
    pub(crate) connections: ConnectionSettings,
    /// The files of the certificate; without, connections are plain.
    pub(crate) tls: Option<TlsSettings>,
    /// Where things are kept.
    pub(crate) store: StoreSettings,
    /// The broker: how nodes exchange messages.
    pub(crate) broker: BrokerConfig,
    /// The key that opens every app's API.
    pub(crate) operator_key: Option<SecretString>,
    /// How live sessions are served.
    pub(crate) live: LiveSettings,
    /// How deliveries are made.
    pub(crate) courier: tidings_courier::Settings,
    /// Where deliveries may go.
    pub(crate) egress: EgressConfig,
    /// How long events and attempts are kept, and how many bytes.
    pub(crate) keep: Retention,
    /// The file with the keys that secrets at rest are sealed with.
    pub(crate) main_key_file: PathBuf,
    /// The apps of the config file. Without any, the server makes one and keeps it in the credentials file.
    pub(crate) apps: Vec<App>,
}

/// What connections may use.
#[derive(Debug, Clone)]
pub(crate) struct ConnectionSettings {
    /// Connections at one time, live sessions among them; more are refused.
    pub(crate) max: usize,
    /// Connections of one address at one time. 0 sets no limit; `None` is the default: half of `max`, for public
    /// addresses only.
    pub(crate) max_per_ip: Option<u32>,
    /// The proxies whose `X-Forwarded-For` counts, and whose connections are not counted per address.
    pub(crate) trusted_proxies: Vec<IpNet>,
    /// How long a client may take for the TLS handshake, to send a request's head, and to begin the next request.
    pub(crate) header_timeout: Duration,
    /// How long a request may take until its answer begins.
    pub(crate) request_timeout: Duration,
    /// How long sent bytes may stay unacknowledged by the client (`TCP_USER_TIMEOUT`); zero leaves it to the kernel.
    pub(crate) user_timeout: Duration,
    /// How long requests and deliveries in flight may take to end when the server stops.
    pub(crate) shutdown_grace: Duration,
}

impl Default for ConnectionSettings {
    fn default() -> Self {
        let seconds = Duration::from_secs;
        Self {
            max: 100_000,
            max_per_ip: None,
            trusted_proxies: Vec::new(),
            header_timeout: seconds(30),
            request_timeout: seconds(60),
            user_timeout: tidings_live::Settings::default().user_timeout,
            shutdown_grace: seconds(15),
        }
    }
}

/// The files of a certificate, in PEM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TlsSettings {
    /// The server's certificate, then the intermediate ones up to the authority.
    pub(crate) cert: PathBuf,
    /// Its private key.
    pub(crate) key: PathBuf,
}

/// How live sessions are served.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct LiveSettings {
    /// Threads that own sessions; 0: one per core.
    pub(crate) shards: usize,
    /// Limits and timeouts of the shards and their sessions.
    pub(crate) sessions: tidings_live::Settings,
    /// The receive buffer of each connection, in bytes: what the kernel holds that was not read yet.
    pub(crate) receive_buffer: usize,
    /// Seconds of silence after which a client is sent a ping.
    pub(crate) activity_timeout: u32,
    /// Seconds that a client may take to answer a ping.
    pub(crate) pong_timeout: u32,
    /// How long clients may take to rejoin their channels after a node has started, stopped or died, before they count
    /// as gone.
    pub(crate) rejoin_within: Duration,
}

impl Default for LiveSettings {
    fn default() -> Self {
        Self {
            shards: 0,
            sessions: tidings_live::Settings::default(),
            receive_buffer: 256 << 10,
            activity_timeout: 45,
            pong_timeout: 30,
            rejoin_within: Duration::from_secs(30),
        }
    }
}

/// Where things are kept.
#[derive(Debug, Clone)]
pub(crate) enum StoreSettings {
    /// In a file.
    Sqlite {
        /// SQLite's database file.
        path: PathBuf,
        /// Whether each commit is synced to the disk; if not, a power cut may lose the last ones.
        durable: bool,
    },
    /// On a server that several nodes share.
    Postgres {
        /// The server's URL; it holds a password.
        url: SecretString,
        /// The connection pool and its timeouts.
        options: Options,
    },
}
