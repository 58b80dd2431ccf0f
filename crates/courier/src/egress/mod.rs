//! The only HTTP client of the server: webhooks, WebSub callbacks, topic fetches and JWKS all leave through [`Egress`].
//!
//! Tenants choose the URLs, so each is treated as a possible attack on the server's network (SSRF). The dialler decides
//! by *address*, for every dial and after resolution. A host is resolved once. It is refused if any of its addresses is
//! not public, unless its network is allowed; deny wins over allow. Only an address that was vetted is dialled. IP
//! literals and names take the same path. No redirect is followed, no environment variable is read, no compression is
//! asked for, and one deadline covers everything from resolution to the last byte of the body.
//!
//! HTTP/1.1 only, with a keep-alive pool per (scheme, host, port). `docs/egress.md` is the operator's view.

mod address;
mod config;
mod dial;
mod error;
mod exchange;
mod failure;
mod observe;
mod policy;
mod pool;
mod resolve;
mod stream;
mod tls;
mod tunnel;

use std::fmt;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use http::HeaderValue;
use tokio::time::Instant;
use url::Url;

use dial::{Connector, Dialer};
use policy::Policy;
use pool::{Limits, Pool};
use tunnel::Proxy;

pub use address::is_public;
pub use config::EgressConfig;
pub use error::{EgressError, Phase, Refusal, SendError};
pub use exchange::{Request, Response};
pub use observe::{DialLog, DialObserver};
pub use resolve::{Resolve, SystemResolver};

/// The smallest buffer of hyper's HTTP/1.1 parser, which panics if it is set to less.
const MIN_HEADERS: usize = 8 * 1024;

/// A guarded HTTP client. Clones share rules, connections and TLS sessions.
#[derive(Clone)]
pub struct Egress {
    shared: Arc<Shared>,
}

struct Shared {
    policy: Arc<Policy>,
    pool: Pool,
    user_agent: HeaderValue,
    max_response_body: usize,
}

impl Egress {
    /// A client that resolves names as the system does.
    ///
    /// # Errors
    /// The proxy, the certificate file or the user agent cannot be used.
    pub fn new(config: EgressConfig) -> Result<Egress, EgressError> {
        Egress::with_resolver(config, Arc::new(SystemResolver::default()))
    }

    /// A client with the caller's resolver.
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub fn with_resolver(config: EgressConfig, resolver: Arc<dyn Resolve>) -> Result<Egress, EgressError> {
        Egress::build(config, resolver, None)
    }

    /// A client that reports every lookup and dial to `observer`.
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub fn with_observer(
        config: EgressConfig,
        resolver: Arc<dyn Resolve>,
        observer: Arc<dyn DialObserver>,
    ) -> Result<Egress, EgressError> {
        Egress::build(config, resolver, Some(observer))
    }

    /// Checks of `url` what can be checked without a lookup: scheme, user info, port, IP literals in any spelling,
    /// `localhost` names. For use before a URL is stored; [`send`](Self::send) checks again, and also the addresses
    /// that the host then resolves to.
    ///
    /// # Errors
    /// The [`Refusal`] with which a send would fail.
    pub fn check_url(&self, url: &Url) -> Result<(), Refusal> {
        self.shared.policy.check_url(url)
    }

    /// Sends `request` and reads the response, all within `timeout`: resolving, connecting, TLS, headers and body.
    ///
    /// Any status is a success here; the caller judges it. The connection is kept for reuse if the body was read to its
    /// end. If a kept connection was closed before the request is written, it is replaced, unseen by the caller. If it
    /// closes after that and before a response begins, the result is [`SendError::Stale`]: the caller has to make the
    /// request again, since the client has no copy of it.
    ///
    /// # Errors
    /// There was no complete response; [`SendError::code`] gives the reason. Unless the request was refused or no
    /// connection was made, the receiver may have seen it.
    pub async fn send(&self, request: Request, timeout: Duration) -> Result<Response, SendError> {
        let started = Instant::now();
        let shared = &*self.shared;
        shared.policy.check_url(&request.url)?;
        let outgoing = exchange::outgoing(request, &shared.user_agent)?;

        // One timer for both waits: the deadline does not move when the head has arrived.
        let mut deadline = pin!(tokio::time::sleep(timeout));
        let timed_out = |phase| SendError::Timeout { phase, after: timeout };
        let (response, lease) = tokio::select! {
            biased;
            response = shared.pool.send(outgoing) => response?,
            () = &mut deadline => return Err(timed_out(Phase::Response)),
        };
        let (head, body) = response.into_parts();
        let (body, truncated) = tokio::select! {
            biased;
            body = exchange::read_body(body, shared.max_response_body) => body?,
            () = &mut deadline => return Err(timed_out(Phase::Body)),
        };
        let remote = Some(lease.remote());
        if !truncated {
            shared.pool.give_back(lease);
        }
        Ok(Response { status: head.status, headers: head.headers, body, truncated, remote, elapsed: started.elapsed() })
    }

    fn build(
        config: EgressConfig,
        resolver: Arc<dyn Resolve>,
        observer: Option<Arc<dyn DialObserver>>,
    ) -> Result<Egress, EgressError> {
        let user_agent = HeaderValue::from_str(&config.user_agent).map_err(|_| EgressError::UserAgent)?;
        let tls = tls::client_config(config.ca_file.as_deref())?;
        let proxy = config.proxy.as_ref().map(Proxy::from_url).transpose()?;
        let policy = Arc::new(Policy::new(&config));
        let dialer = Dialer::new(Arc::clone(&policy), resolver, observer, proxy, config.connect_timeout);
        let limits = Limits {
            idle_timeout: config.pool_idle_timeout,
            max_idle: config.pool_max_idle_per_destination,
            max_open: config.max_connections,
            max_head: config.max_response_headers.max(MIN_HEADERS),
        };
        let pool = Pool::new(Connector::new(dialer, tls), limits, config.supervisor);
        Ok(Egress {
            shared: Arc::new(Shared { policy, pool, user_agent, max_response_body: config.max_response_body }),
        })
    }
}

impl fmt::Debug for Egress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Egress").field("policy", &self.shared.policy).finish_non_exhaustive()
    }
}
