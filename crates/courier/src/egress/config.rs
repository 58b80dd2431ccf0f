//! The operator's settings for outgoing connections: [`EgressConfig`].
//!
//! The server fills it from `[egress]` of the config file and from `--egress-allow`; tests build it by hand. It is
//! plain data: [`Egress::new`](super::Egress::new) validates it.

use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;
use tidings_supervisor::Supervisor;
use url::Url;

/// Ports of protocols that a POST could be smuggled into (mail, shells, databases, caches). No receiver of webhooks
/// listens there.
const DENIED_PORTS: [u16; 16] = [22, 23, 25, 110, 143, 445, 465, 587, 993, 995, 3306, 3389, 5432, 6379, 11211, 27017];

/// The rules and limits of one [`Egress`](super::Egress).
#[derive(Clone, Debug)]
pub struct EgressConfig {
    /// Networks that may be dialled although they are not public. There is no other way to allow them.
    pub allow: Vec<IpNet>,
    /// Networks that are never dialled, public or not. Wins over `allow`.
    pub deny: Vec<IpNet>,
    /// An `http://[user:password@]host[:port]` proxy that speaks CONNECT. Its own address is not vetted: the operator
    /// chose it. Environment variables (`HTTP_PROXY` and its kin) are never read.
    pub proxy: Option<Url>,
    /// Refuse `http://` URLs.
    pub https_only: bool,
    /// Ports that are never dialled, whatever the address.
    pub deny_ports: Vec<u16>,
    /// A PEM file with roots that are trusted in addition to Mozilla's.
    pub ca_file: Option<PathBuf>,
    /// Bound on one dial: resolution, TCP (and the proxy's tunnel) and the TLS handshake together.
    pub connect_timeout: Duration,
    /// Bound on the head of a response in bytes, at least 8 KiB. A longer one (or one with more than 100 fields) fails
    /// with `too_large`.
    pub max_response_headers: usize,
    /// How many bytes of a response's body are kept. When there are more, the connection is closed and the response is
    /// marked as truncated.
    pub max_response_body: usize,
    /// How long an unused connection is kept.
    pub pool_idle_timeout: Duration,
    /// How many unused connections are kept for one (scheme, host, port). 0 turns keep-alive off.
    pub pool_max_idle_per_destination: usize,
    /// How many connections may be open in all before unused ones are closed to make room. It does not limit those in
    /// use: callers do.
    pub max_connections: usize,
    /// The `User-Agent` of requests that have none.
    pub user_agent: String,
    /// The owner of the connections' tasks.
    pub supervisor: Supervisor,
}

impl Default for EgressConfig {
    fn default() -> Self {
        EgressConfig {
            allow: Vec::new(),
            deny: Vec::new(),
            proxy: None,
            https_only: false,
            deny_ports: DENIED_PORTS.to_vec(),
            ca_file: None,
            connect_timeout: Duration::from_secs(10),
            max_response_headers: 64 * 1024,
            max_response_body: 16 * 1024,
            pool_idle_timeout: Duration::from_secs(30),
            pool_max_idle_per_destination: 64,
            max_connections: usize::MAX,
            user_agent: concat!("Tidings/", env!("CARGO_PKG_VERSION")).to_owned(),
            supervisor: Supervisor::default(),
        }
    }
}
