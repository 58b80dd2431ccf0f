//! Connections that are kept for the next request: one [`Pool`] per client.
//!
//! Called by [`Egress::send`](super::Egress::send). A connection is used by one request at a time and only ever for
//! its own (scheme, host, port) and spelling of header names. Without a free one the pool dials; it never waits for
//! another request to finish. A general pool (hyper-util's) spawns a task for each request to learn when a connection
//! is free again and races each dial against that, which for small requests is a quarter of their whole cost.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;
use tidings_supervisor::Supervisor;

use bytes::Bytes;
use http::header::HOST;
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{HeaderValue, Response, Uri};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::client::conn::http1::{Builder, SendRequest};
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use tokio::sync::oneshot;
use tokio::time::Instant;
use tokio_util::io::InspectReader;
use tower::Service;

use super::dial::{Connector, remote_of};
use super::error::{Refusal, SendError};
use super::exchange::Outgoing;
use super::failure;

/// How long a connection may take, after its response, to become free. It is instantly free unless the receiver
/// answered before it had read the request.
const UNTIL_FREE: Duration = Duration::from_secs(5);
/// For how long nothing is kept for a destination that closed a kept connection in our face: some servers close each
/// after its answer and do not say so.
const UNKEPT: Duration = Duration::from_secs(60);
/// How many such destinations are remembered.
const MAX_UNKEPT: usize = 4_096;

/// The limits of a pool.
pub(super) struct Limits {
    pub(super) idle_timeout: Duration,
    pub(super) max_idle: usize,
    /// How many connections may be open before unused ones make room.
    pub(super) max_open: usize,
    /// Bound on a response's head, in bytes.
    pub(super) max_head: usize,
}

/// Opens, lends and keeps connections. Clones share them.
#[derive(Clone)]
pub(super) struct Pool(Arc<Shared>);

struct Shared {
    connector: Connector,
    /// Names of headers leave in lower case, or each word with a capital.
    lower_case: Builder,
    title_case: Builder,
    limits: Limits,
    idle: Mutex<Idle>,
    supervisor: Supervisor,
}

#[derive(Default)]
struct Idle {
    /// The last of each list was used last.
    parked: HashMap<Destination, Vec<Parked>>,
    /// Destinations for which no connection is kept until then.
    unkept: HashMap<Destination, Instant>,
    /// Whether a task is looking for connections that were not used for too long.
    swept: bool,
}

struct Parked {
    connection: Connection,
    since: Instant,
}

/// What a connection may be used for.
#[derive(Clone, PartialEq, Eq, Hash)]
struct Destination {
    https: bool,
    title_case: bool,
    authority: Authority,
}

struct Connection {
    http: SendRequest<Full<Bytes>>,
    /// The `Host` of its requests.
    host: HeaderValue,
    remote: SocketAddr,
    /// Whether anything was read since this was last unset.
    heard: Arc<AtomicBool>,
}

/// A connection whose response is being read. Dropping it closes the connection.
pub(super) struct Lease {
    destination: Destination,
    connection: Connection,
}

impl Lease {
    /// The vetted address of the receiver.
    pub(super) fn remote(&self) -> SocketAddr {
        self.connection.remote
    }
}

impl Pool {
    pub(super) fn new(connector: Connector, limits: Limits, supervisor: Supervisor) -> Pool {
        let mut lower_case = Builder::new();
        lower_case.max_buf_size(limits.max_head);
        let mut title_case = lower_case.clone();
        title_case.title_case_headers(true);
        Pool(Arc::new(Shared { connector, lower_case, title_case, limits, idle: Mutex::default(), supervisor }))
    }

    /// Sends a request with an absolute URI and returns the head of its response. A kept connection that was closed
    /// before the request was written is replaced; one that closed after that, without an answer, is
    /// [`SendError::Stale`].
    pub(super) async fn send(&self, outgoing: Outgoing) -> Result<(Response<Incoming>, Lease), SendError> {
        let Outgoing { mut request, title_case, fresh } = outgoing;
        let destination = take_destination(request.uri_mut(), title_case)?;
        while !fresh && let Some(mut connection) = self.take(&destination) {
            request.headers_mut().insert(HOST, connection.host.clone());
            connection.heard.store(false, Ordering::Relaxed);
            match connection.http.try_send_request(request).await {
                Ok(response) => return Ok((response, Lease { destination, connection })),
                Err(mut failed) => match failed.take_message() {
                    Some(unsent) => request = unsent,
                    None if connection.heard.load(Ordering::Relaxed) => {
                        return Err(failure::of_http(&failed.into_error()));
                    }
                    None => {
                        self.keep_none(destination);
                        return Err(SendError::Stale);
                    }
                },
            }
        }
        // Apart, since dialling takes far more room than sending, and every worker would carry it about.
        let (mut connection, end) = Box::pin(self.open(&destination)).await?;
        request.headers_mut().insert(HOST, connection.host.clone());
        match connection.http.try_send_request(request).await {
            Ok(response) => Ok((response, Lease { destination, connection })),
            Err(mut failed) => {
                let unsent = failed.take_message().is_some();
                let error = failure::of_http(&failed.into_error());
                drop(connection);
                // A connection that ended before the request was written did so for a reason that only its task knows.
                Err(if unsent { end.await.unwrap_or(error) } else { error })
            }
        }
    }

    /// Takes a connection back whose response was read to its end.
    pub(super) fn give_back(&self, lease: Lease) {
        if self.0.limits.max_idle == 0 || lease.connection.http.is_closed() {
            return;
        }
        if lease.connection.http.is_ready() {
            self.park(lease);
            return;
        }
        let pool = self.clone();
        let mut lease = lease;
        let supervisor = &self.0.supervisor;
        supervisor.task("egress-connection", async move {
            if let Ok(Ok(())) = tokio::time::timeout(UNTIL_FREE, lease.connection.http.ready()).await {
                pool.park(lease);
            }
        });
    }

    /// Keeps no connection for a destination for a while, and closes those that are.
    fn keep_none(&self, destination: Destination) {
        let now = Instant::now();
        let mut idle = self.0.idle.lock();
        idle.parked.remove(&destination);
        if idle.unkept.len() >= MAX_UNKEPT {
            idle.unkept.retain(|_, until| *until > now);
        }
        if idle.unkept.len() < MAX_UNKEPT {
            idle.unkept.insert(destination, now + UNKEPT);
        }
    }

    fn take(&self, destination: &Destination) -> Option<Connection> {
        let mut idle = self.0.idle.lock();
        let parked = idle.parked.get_mut(destination)?;
        while let Some(Parked { connection, since }) = parked.pop() {
            if connection.http.is_ready() && since.elapsed() < self.0.limits.idle_timeout {
                return Some(connection);
            }
        }
        None
    }

    fn park(&self, lease: Lease) {
        let Lease { destination, connection } = lease;
        let mut idle = self.0.idle.lock();
        if idle.unkept.get(&destination).is_some_and(|until| *until > Instant::now()) {
            return;
        }
        let parked = idle.parked.entry(destination).or_default();
        if parked.len() >= self.0.limits.max_idle {
            parked.retain(|parked| parked.connection.http.is_ready());
            if parked.len() >= self.0.limits.max_idle {
                return;
            }
        }
        parked.push(Parked { connection, since: Instant::now() });
        if !idle.swept {
            idle.swept = true;
            self.0.supervisor.task("egress-sweep", sweep(Arc::downgrade(&self.0)));
        }
    }

    /// Dials, and says, through the receiver, why the connection ended if it did with an error.
    async fn open(&self, destination: &Destination) -> Result<(Connection, oneshot::Receiver<SendError>), SendError> {
        let host = HeaderValue::from_str(destination.authority.as_str()).map_err(|_| Refusal::Malformed)?;
        if self.0.connector.open_connections() >= self.0.limits.max_open {
            self.0.idle.lock().parked.clear();
        }
        let io = self.0.connector.clone().call(destination.uri()?).await?;
        let remote = remote_of(&io);
        // Below HTTP and above TLS: whether anything has come back.
        let heard = Arc::<AtomicBool>::default();
        let note = Arc::clone(&heard);
        let io = InspectReader::new(TokioIo::new(io), move |read: &[u8]| {
            if !read.is_empty() {
                note.store(true, Ordering::Relaxed);
            }
        });
        let io = TokioIo::new(io);
        let builder = if destination.title_case { &self.0.title_case } else { &self.0.lower_case };
        let (http, connection) = builder.handshake(io).await.map_err(|error| failure::of_http(&error))?;
        let (ended, end) = oneshot::channel();
        self.0.supervisor.task("egress-connection", async move {
            if let Err(error) = connection.await {
                // Nobody listens any more once the first request was sent: then its own error tells.
                drop(ended.send(failure::of_http(&error)));
            }
        });
        Ok((Connection { http, host, remote, heard }, end))
    }
}

impl Destination {
    fn uri(&self) -> Result<Uri, Refusal> {
        let scheme = if self.https { Scheme::HTTPS } else { Scheme::HTTP };
        let uri = Uri::builder().scheme(scheme).authority(self.authority.clone()).path_and_query("/").build();
        uri.map_err(|_| Refusal::Malformed)
    }
}

/// Splits an absolute URI into its destination and the origin form that is sent (RFC 9112, section 3.2.1).
fn take_destination(uri: &mut Uri, title_case: bool) -> Result<Destination, Refusal> {
    let mut parts = std::mem::take(uri).into_parts();
    let https = parts.scheme.take() == Some(Scheme::HTTPS);
    let authority = parts.authority.take().ok_or(Refusal::NoHost)?;
    *uri = parts.path_and_query.map_or_else(Uri::default, |path: PathAndQuery| Uri::from(path));
    Ok(Destination { https, title_case, authority })
}

/// Closes connections that were not used for too long. Ends when none is left, or the pool is gone.
async fn sweep(pool: Weak<Shared>) {
    loop {
        let Some(tick) = pool.upgrade().map(|pool| pool.limits.idle_timeout / 2) else { return };
        tokio::time::sleep(tick.clamp(Duration::from_millis(20), Duration::from_secs(15))).await;
        let Some(pool) = pool.upgrade() else { return };
        let mut idle = pool.idle.lock();
        idle.parked.retain(|_, parked| {
            parked.retain(|parked| {
                parked.connection.http.is_ready() && parked.since.elapsed() < pool.limits.idle_timeout
            });
            !parked.is_empty()
        });
        if idle.parked.is_empty() {
            idle.swept = false;
            return;
        }
    }
}
