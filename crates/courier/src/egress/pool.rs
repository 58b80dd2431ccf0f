//! Connections that are kept for the next request: one [`Pool`] per client.
//!
//! Called by [`Egress::send`](super::Egress::send). A connection serves one request at a time, and only requests of its
//! own (scheme, host, port) and case of header names. If none is free the pool dials; it never waits for another
//! request to finish. hyper-util's general pool spawns a task for each request to learn when a connection is free
//! again, and races each dial against that. For small requests this is a quarter of their whole cost.

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

/// How long a connection may take, after its response, to become ready. It is ready at once unless the receiver
/// answered before it had read the request.
const READY_TIMEOUT: Duration = Duration::from_secs(5);
/// How long no connection is kept for a destination that closed a kept one under a request: some servers close each
/// connection after its response, without `Connection: close`.
const NO_REUSE: Duration = Duration::from_secs(60);
/// How many such destinations are remembered.
const MAX_NO_REUSE: usize = 4_096;

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
    /// For connections that send header names in lower case.
    lower_case: Builder,
    /// For connections that send header names in title case.
    title_case: Builder,
    limits: Limits,
    idle: Mutex<Idle>,
    supervisor: Supervisor,
}

#[derive(Default)]
struct Idle {
    /// Idle connections, the most recently used last.
    parked: HashMap<Destination, Vec<Parked>>,
    /// Destinations for which no connection is kept, and until when.
    no_reuse: HashMap<Destination, Instant>,
    /// Whether the task that closes expired connections runs.
    is_sweeping: bool,
}

struct Parked {
    connection: Connection,
    since: Instant,
}

/// Which requests may share a connection.
#[derive(Clone, PartialEq, Eq, Hash)]
struct Destination {
    https: bool,
    title_case: bool,
    authority: Authority,
}

struct Connection {
    http: SendRequest<Full<Bytes>>,
    /// The `Host` header of its requests.
    host: HeaderValue,
    remote: SocketAddr,
    /// Set when anything is received; unset before a request on a kept connection.
    received_any: Arc<AtomicBool>,
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
            connection.received_any.store(false, Ordering::Relaxed);
            match connection.http.try_send_request(request).await {
                Ok(response) => return Ok((response, Lease { destination, connection })),
                Err(mut failed) => match failed.take_message() {
                    Some(unsent) => request = unsent,
                    None if connection.received_any.load(Ordering::Relaxed) => {
                        return Err(failure::of_http(&failed.into_error()));
                    }
                    None => {
                        self.avoid_reuse(destination);
                        return Err(SendError::Stale);
                    }
                },
            }
        }
        // Boxed, since the future of dialling is far larger than that of sending, and every worker would hold it.
        let (mut connection, end) = Box::pin(self.open(&destination)).await?;
        request.headers_mut().insert(HOST, connection.host.clone());
        match connection.http.try_send_request(request).await {
            Ok(response) => Ok((response, Lease { destination, connection })),
            Err(mut failed) => {
                let unsent = failed.take_message().is_some();
                let error = failure::of_http(&failed.into_error());
                drop(connection);
                // If the connection ended before the request was written, only its task knows why.
                Err(if unsent { end.await.unwrap_or(error) } else { error })
            }
        }
    }

    /// Keeps a connection for reuse. Its response must have been read to the end.
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
            if let Ok(Ok(())) = tokio::time::timeout(READY_TIMEOUT, lease.connection.http.ready()).await {
                pool.park(lease);
            }
        });
    }

    /// Closes the kept connections of a destination, and keeps none for it for a while.
    fn avoid_reuse(&self, destination: Destination) {
        let now = Instant::now();
        let mut idle = self.0.idle.lock();
        idle.parked.remove(&destination);
        if idle.no_reuse.len() >= MAX_NO_REUSE {
            idle.no_reuse.retain(|_, until| *until > now);
        }
        if idle.no_reuse.len() < MAX_NO_REUSE {
            idle.no_reuse.insert(destination, now + NO_REUSE);
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
        if idle.no_reuse.get(&destination).is_some_and(|until| *until > Instant::now()) {
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
        if !idle.is_sweeping {
            idle.is_sweeping = true;
            self.0.supervisor.task("egress-sweep", sweep(Arc::downgrade(&self.0)));
        }
    }

    /// Dials. If the connection ends with an error, the returned receiver gets it.
    async fn open(&self, destination: &Destination) -> Result<(Connection, oneshot::Receiver<SendError>), SendError> {
        let host = HeaderValue::from_str(destination.authority.as_str()).map_err(|_| Refusal::Malformed)?;
        if self.0.connector.open_connections() >= self.0.limits.max_open {
            self.0.idle.lock().parked.clear();
        }
        let io = self.0.connector.clone().call(destination.uri()?).await?;
        let remote = remote_of(&io);
        // Between HTTP and TLS: records whether anything was received.
        let received_any = Arc::<AtomicBool>::default();
        let note = Arc::clone(&received_any);
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
                // After the first request was written nothing receives this: that request's own error is used.
                drop(ended.send(failure::of_http(&error)));
            }
        });
        Ok((Connection { http, host, remote, received_any }, end))
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

/// Closes connections that were idle for too long. Ends when none is left, or the pool is dropped.
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
            idle.is_sweeping = false;
            return;
        }
    }
}
