//! Errors: [`EgressError`] if a client cannot be built, [`Refusal`] if a URL may not be called, [`SendError`] if an
//! exchange fails.
//!
//! Their texts are shown to tenants and kept with attempts. So they never contain user info, query, header values, or
//! an address that a name resolved to, and for a refused range they are the same whatever listens there.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;

/// A configuration that no client can be built from.
#[derive(Debug, thiserror::Error)]
pub enum EgressError {
    /// `proxy` is not an `http://host[:port]` URL.
    #[error("the egress proxy must be an http:// URL with a host and nothing after it")]
    Proxy,
    /// `user_agent` is not a header value.
    #[error("the egress user agent may hold visible ASCII characters and spaces only")]
    UserAgent,
    /// `ca_file` cannot be read or holds no certificate.
    #[error("cannot use the extra certificate authorities in {}: {reason}", path.display())]
    CaFile {
        /// The file as configured.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The TLS library refused its configuration.
    #[error("cannot set up TLS for outgoing connections")]
    Tls(#[source] rustls::Error),
}

/// Why a URL may not be called at all. Permanent until the URL, the name's addresses or the configuration change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// Neither `http` nor `https`.
    Scheme,
    /// `http`, where only `https` may be used.
    HttpsOnly,
    /// The URL carries a user name or password, which would end up in logs.
    Userinfo,
    /// No host.
    NoHost,
    /// A valid URL that does not fit into an HTTP request.
    Malformed,
    /// A port that is denied, or 0.
    Port(u16),
    /// An address that is not public. The answer is the same whatever listens there.
    NotPublic {
        /// The network to allow; only if the URL itself contains the address.
        remedy: Option<IpNet>,
    },
    /// An address on the deny list.
    Denied,
}

impl Refusal {
    /// `invalid_url` if the URL itself is wrong, `blocked_address` if its address or port may not be dialled.
    pub fn code(&self) -> &'static str {
        match self {
            Refusal::Port(_) | Refusal::NotPublic { .. } | Refusal::Denied => "blocked_address",
            Refusal::Scheme | Refusal::HttpsOnly | Refusal::Userinfo | Refusal::NoHost | Refusal::Malformed => {
                "invalid_url"
            }
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Refusal::Scheme => f.write_str("the URL must begin with https:// or http://"),
            Refusal::HttpsOnly => {
                f.write_str("the URL must begin with https:// (this server is set to [egress] https_only)")
            }
            Refusal::Userinfo => {
                f.write_str("the URL must not contain a user name or password; use a header for credentials")
            }
            Refusal::NoHost => f.write_str("the URL has no host"),
            Refusal::Malformed => f.write_str("the URL cannot be used in an HTTP request"),
            Refusal::Port(port) => write!(f, "this server does not connect to port {port} (see [egress] deny_ports)"),
            Refusal::NotPublic { remedy: Some(net) } => write!(
                f,
                "this is not a public address; to allow it, start the server with --egress-allow {net} or list the \
                 network in [egress] allow"
            ),
            Refusal::NotPublic { remedy: None } => f.write_str(
                "the host has an address that is not public; to allow it, start the server with --egress-allow CIDR \
                 or list the network in [egress] allow",
            ),
            Refusal::Denied => f.write_str("the host has an address that this server denies (see [egress] deny)"),
        }
    }
}

impl std::error::Error for Refusal {}

/// How far an exchange had come when it timed out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Resolving, connecting or the TLS handshake took longer than the connect timeout.
    Connect,
    /// No complete response head had arrived when the deadline of the exchange passed.
    Response,
    /// The head had arrived, but the body was not complete.
    Body,
}

/// Why an exchange failed.
#[derive(Clone, Debug, thiserror::Error)]
pub enum SendError {
    /// The policy forbids it; nothing was dialled.
    #[error("{0}")]
    Refused(#[from] Refusal),
    /// The name has no address, or the lookup failed.
    #[error("the host {host} could not be resolved: {reason}")]
    Dns {
        /// The host of the URL.
        host: String,
        /// The resolver's message.
        reason: String,
    },
    /// This machine has no socket, port or memory left for the connection, or too many lookups in progress. The request
    /// did not reach the receiver, and must not count against it.
    #[error("this server cannot open another connection: {reason}")]
    Shortage {
        /// The operating system's message.
        reason: String,
    },
    /// A kept connection was closed before the first byte of a response. The receiver had most likely closed it before
    /// the request; the caller may repeat the request at once, on a [fresh](super::Request::fresh) connection.
    #[error("the kept connection closed before a response began")]
    Stale,
    /// No vetted address accepted the connection.
    #[error("could not connect: {reason}")]
    Connect {
        /// The operating system's message for the last address that was tried.
        reason: String,
    },
    /// The TLS handshake failed, or the peer ended the session with an alert.
    #[error("no TLS connection: {reason}")]
    Tls {
        /// What is wrong with the peer or its certificate.
        reason: String,
    },
    /// The exchange or the dial timed out.
    #[error("{}", timeout_text(*phase, *after))]
    Timeout {
        /// How far the exchange had come.
        phase: Phase,
        /// The timeout that passed.
        after: Duration,
    },
    /// The receiver sent no complete HTTP/1.1 response.
    #[error("no valid response: {reason}")]
    Protocol {
        /// What is wrong with it.
        reason: String,
    },
    /// The head of the response is too large.
    #[error("the headers of the response are too large")]
    TooLarge,
    /// The configured proxy could not be used, or refused the tunnel.
    #[error("the egress proxy made no connection: {reason}")]
    Proxy {
        /// What went wrong at the proxy.
        reason: String,
    },
}

impl SendError {
    /// A stable code for APIs, metrics and stored attempts: `blocked_address`, `invalid_url`, `dns`, `connect`, `tls`,
    /// `timeout`, `protocol`, `too_large`, `proxy`, `shortage`.
    pub fn code(&self) -> &'static str {
        match self {
            SendError::Refused(refusal) => refusal.code(),
            SendError::Dns { .. } => "dns",
            SendError::Shortage { .. } => "shortage",
            SendError::Connect { .. } => "connect",
            SendError::Tls { .. } => "tls",
            SendError::Timeout { .. } => "timeout",
            SendError::Protocol { .. } | SendError::Stale => "protocol",
            SendError::TooLarge => "too_large",
            SendError::Proxy { .. } => "proxy",
        }
    }
}

fn timeout_text(phase: Phase, after: Duration) -> String {
    let what = match phase {
        Phase::Connect => "no connection",
        Phase::Response => "no response",
        Phase::Body => "the response was not complete",
    };
    format!("timed out: {what} within {after:?}")
}
