//! The reserve for connections beyond the limits: how many may wait, which requests are served all the same, and the
//! refusal of all others.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use http::header::{AUTHORIZATION, CONNECTION, CONTENT_LENGTH, RETRY_AFTER};
use http::{HeaderMap, HeaderValue, Method, Request};
use parking_lot::Mutex;
use tidings_live::Socket;
use tidings_model::clock::{Clock, SystemClock};
use tidings_model::secret::SecretString;
use tidings_supervisor::RequestId;
use tidings_wire::{ProblemDetails, ProblemKind, response_head};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};

use super::connection_limiter::LimitReached;
use super::drain;
use super::log_throttle::LogThrottle;
use super::metrics::Metrics;
use super::request_id::with_id;
use crate::health;

/// Connections that may wait for the head of their request.
const WAITING: usize = 64;
/// Probes that are answered at the same time.
const PROBES: usize = 16;
/// Requests of the operator that are served at the same time.
const OPERATORS: usize = 32;
/// Refused connections that are read until the client hangs up ([`drain::lingering_close`]).
const LINGERING: usize = 16;
/// File descriptors that all of these need together.
pub(crate) const DESCRIPTORS: usize = WAITING + PROBES + OPERATORS + LINGERING;

/// The answer to a client that asks for a session and is refused for a limit; `None` for any other request.
pub(crate) type NoRoom = Arc<dyn Fn(&Request<()>) -> Option<Vec<u8>> + Send + Sync>;

/// The reserve for connections beyond the limits.
pub(super) struct Reserve {
    waiting: Mutex<Queue>,
    probes: Arc<Semaphore>,
    operators: Arc<Semaphore>,
    lingering: Arc<Semaphore>,
    operator_key: Option<SecretString>,
    no_room: NoRoom,
    metrics: Metrics,
    throttle: LogThrottle,
}

#[derive(Default)]
struct Queue {
    next: u64,
    /// In the order of arrival.
    heads: VecDeque<(u64, Arc<Notify>)>,
}

/// A connection that waits for the head of its request.
pub(super) struct Waiting {
    pub(super) reserve: Arc<Reserve>,
    number: u64,
    /// Notified when the connection is evicted for a newer one.
    pub(super) evicted: Arc<Notify>,
}

impl Reserve {
    pub(super) fn new(operator_key: Option<SecretString>, no_room: NoRoom, metrics: Metrics) -> Arc<Self> {
        let permits = |count| Arc::new(Semaphore::new(count));
        Arc::new(Self {
            waiting: Mutex::default(),
            probes: permits(PROBES),
            operators: permits(OPERATORS),
            lingering: permits(LINGERING),
            operator_key,
            no_room,
            metrics,
            throttle: LogThrottle::default(),
        })
    }

    /// Lets one more connection wait. Beyond [`WAITING`], the one that has waited longest is evicted.
    pub(super) fn enter(self: &Arc<Self>) -> Waiting {
        let evicted = Arc::new(Notify::new());
        let mut queue = self.waiting.lock();
        if queue.heads.len() >= WAITING
            && let Some((_, first)) = queue.heads.pop_front()
        {
            first.notify_one();
        }
        let number = queue.next;
        queue.next += 1;
        queue.heads.push_back((number, Arc::clone(&evicted)));
        drop(queue);
        Waiting { reserve: Arc::clone(self), number, evicted }
    }

    /// A permit to serve this request beyond the limits: for probes and for the operator, a few at a time.
    pub(super) fn exempt(&self, request: &Request<()>) -> Option<OwnedSemaphorePermit> {
        let permits = if is_probe(request) {
            &self.probes
        } else if self.is_operators(request.headers()) {
            &self.operators
        } else {
            return None;
        };
        Arc::clone(permits).try_acquire_owned().ok()
    }

    fn is_operators(&self, headers: &HeaderMap) -> bool {
        let Some(key) = &self.operator_key else { return false };
        let credentials = headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok()?.trim().split_once(' '));
        credentials.is_some_and(|(scheme, token)| scheme.eq_ignore_ascii_case("bearer") && key.matches(token.trim()))
    }

    pub(super) async fn refuse(
        &self,
        socket: Socket,
        head: Option<&Request<()>>,
        reached: LimitReached,
        peer: SocketAddr,
        id: &RequestId,
    ) {
        self.metrics.refused(reached);
        if let Some(suppressed) = self.throttle.due() {
            let (reason, remedy) = words(reached);
            tracing::warn!(peer = %peer.ip(), reason, remedy, suppressed, "connection refused: limit reached");
        }
        let answer = head.and_then(|head| (self.no_room)(head)).unwrap_or_else(|| overloaded(reached));
        let answer = with_id(&answer, id);
        let permit = Arc::clone(&self.lingering).try_acquire_owned();
        let lingering = drain::lingering_close(socket, &answer, drain::BRIEF);
        if permit.is_ok() {
            lingering.await;
        } else {
            // The first poll writes what fits into the socket's buffer.
            drop(tokio::time::timeout(Duration::ZERO, lingering).await);
        }
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.reserve.waiting.lock().heads.retain(|(number, _)| *number != self.number);
    }
}

/// Whether a request is a load balancer's health check or a scrape of the metrics.
fn is_probe(request: &Request<()>) -> bool {
    let path = request.uri().path();
    let path = path.strip_suffix('/').filter(|path| !path.is_empty()).unwrap_or(path);
    matches!(*request.method(), Method::GET | Method::HEAD) && health::PATHS.contains(&path)
}

/// The reason and the remedy, for the client and the log.
fn words(reached: LimitReached) -> (&'static str, &'static str) {
    match reached {
        LimitReached::Server => (
            "the server has reached its limit on connections",
            "try again after Retry-After; the operator may raise max_connections",
        ),
        LimitReached::Address { .. } => (
            "this address has reached its limit on connections",
            "close some; the operator may raise max_connections_per_ip, or list a proxy in trusted_proxies",
        ),
    }
}

/// The answer to any request that asks for no session.
fn overloaded(reached: LimitReached) -> Vec<u8> {
    let (detail, remedy) = words(reached);
    let problem = ProblemDetails { kind: ProblemKind::OVERLOADED, detail, field: None, remedy: Some(remedy) };
    let (mut head, body) = problem.response().into_parts();
    head.headers.insert(RETRY_AFTER, HeaderValue::from_static("1"));
    head.headers.insert(CONTENT_LENGTH, body.len().into());
    head.headers.insert(CONNECTION, HeaderValue::from_static("close"));
    let mut bytes = response_head(head.status, &head.headers, SystemClock::new().wall_ms()).to_vec();
    bytes.extend_from_slice(&body);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn probes_are_known_by_their_paths() {
        let is = |method: &str, uri: &str| is_probe(&Request::builder().method(method).uri(uri).body(()).unwrap());
        for path in health::PATHS {
            assert!(is("GET", path) && is("HEAD", path), "{path}");
            assert!(!is("POST", path), "{path}");
        }
        assert!(is("GET", "/healthz/") && is("GET", "/?x") && is("GET", "http://a/readyz"));
        assert!(!is("GET", "/v1/stream") && !is("GET", "/healthz/x"));
    }

    #[tokio::test]
    async fn the_one_that_has_waited_longest_makes_room() {
        let reserve = Reserve::new(None, Arc::new(|_| None), Metrics::default());
        let mut all: Vec<_> = (0..WAITING).map(|_| reserve.enter()).collect();
        drop(all.remove(1));
        all.push(reserve.enter());
        let soon = Duration::from_millis(20);
        assert!(tokio::time::timeout(soon, all[0].evicted.notified()).await.is_err(), "there was room");
        all.push(reserve.enter());
        tokio::time::timeout(Duration::from_secs(10), all[0].evicted.notified()).await.unwrap();
        assert!(tokio::time::timeout(soon, all[1].evicted.notified()).await.is_err());
        drop(all);
        assert!(reserve.waiting.lock().heads.is_empty());
    }
}
