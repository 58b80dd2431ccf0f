//! What is kept for connections that have no place: how many may wait, which are served all the same, and the refusal
//! of all others.

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

use super::drain;
use super::metrics::Metrics;
use super::notice::Notice;
use super::places::Full;
use super::request_id::with_id;
use crate::machines;

/// Connections that wait for the head of their request.
const WAITING: usize = 64;
/// Probes that are answered at one time.
const PROBES: usize = 16;
/// The operator's requests that are served at one time.
const OPERATORS: usize = 32;
/// Refused connections that may take a moment to hang up.
const PARTING: usize = 16;
/// What all of these may have open.
pub(crate) const DESCRIPTORS: usize = WAITING + PROBES + OPERATORS + PARTING;

/// What a client that asks for a session is answered when there is no room for its connection; `None` for any other
/// request.
pub(crate) type NoRoom = Arc<dyn Fn(&Request<()>) -> Option<Vec<u8>> + Send + Sync>;

/// What is kept for connections without a place.
pub(super) struct Aside {
    waiting: Mutex<Queue>,
    probes: Arc<Semaphore>,
    operators: Arc<Semaphore>,
    parting: Arc<Semaphore>,
    operator_key: Option<SecretString>,
    no_room: NoRoom,
    metrics: Metrics,
    notice: Notice,
}

#[derive(Default)]
struct Queue {
    next: u64,
    /// In the order in which they came.
    heads: VecDeque<(u64, Arc<Notify>)>,
}

/// One that waits.
pub(super) struct Waiting {
    pub(super) aside: Arc<Aside>,
    number: u64,
    /// Notified when others need its place.
    pub(super) is_over: Arc<Notify>,
}

impl Aside {
    pub(super) fn new(operator_key: Option<SecretString>, no_room: NoRoom, metrics: Metrics) -> Arc<Self> {
        let permits = |count| Arc::new(Semaphore::new(count));
        Arc::new(Self {
            waiting: Mutex::default(),
            probes: permits(PROBES),
            operators: permits(OPERATORS),
            parting: permits(PARTING),
            operator_key,
            no_room,
            metrics,
            notice: Notice::default(),
        })
    }

    /// Lets one more wait, and takes that from the first of those who do where there are too many.
    pub(super) fn enter(self: &Arc<Self>) -> Waiting {
        let is_over = Arc::new(Notify::new());
        let mut queue = self.waiting.lock();
        if queue.heads.len() >= WAITING
            && let Some((_, first)) = queue.heads.pop_front()
        {
            first.notify_one();
        }
        let number = queue.next;
        queue.next += 1;
        queue.heads.push_back((number, Arc::clone(&is_over)));
        drop(queue);
        Waiting { aside: Arc::clone(self), number, is_over }
    }

    /// What lets this request be served although there is no place.
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
        let given = headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok()?.trim().split_once(' '));
        given.is_some_and(|(scheme, given)| scheme.eq_ignore_ascii_case("bearer") && key.matches(given.trim()))
    }

    pub(super) async fn refuse(
        &self,
        socket: Socket,
        head: Option<&Request<()>>,
        full: Full,
        peer: SocketAddr,
        id: &RequestId,
    ) {
        self.metrics.refused(full);
        if let Some(suppressed) = self.notice.due() {
            let (reason, remedy) = words(full);
            tracing::warn!(peer = %peer.ip(), reason, remedy, suppressed, "a connection is refused");
        }
        let answer = head.and_then(|head| (self.no_room)(head)).unwrap_or_else(|| overloaded(full));
        let answer = with_id(&answer, id);
        let may_linger = Arc::clone(&self.parting).try_acquire_owned();
        let parting = drain::part(socket, &answer, drain::BRIEF);
        if may_linger.is_ok() {
            parting.await;
        } else {
            // What fits into the socket is written by the first poll.
            drop(tokio::time::timeout(Duration::ZERO, parting).await);
        }
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.aside.waiting.lock().heads.retain(|(number, _)| *number != self.number);
    }
}

/// What a load balancer or a scraper asks.
fn is_probe(request: &Request<()>) -> bool {
    let path = request.uri().path();
    let path = path.strip_suffix('/').filter(|path| !path.is_empty()).unwrap_or(path);
    matches!(*request.method(), Method::GET | Method::HEAD) && machines::PATHS.contains(&path)
}

/// Why, and what to do about it.
fn words(full: Full) -> (&'static str, &'static str) {
    match full {
        Full::Server => (
            "as many connections are open as may be",
            "try again after Retry-After; the operator may raise max_connections",
        ),
        Full::Address { .. } => (
            "this address has as many connections as one may have",
            "close some; the operator may raise max_connections_per_ip, or list a proxy in trusted_proxies",
        ),
    }
}

/// The answer to any HTTP request.
fn overloaded(full: Full) -> Vec<u8> {
    let (detail, remedy) = words(full);
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
        for path in machines::PATHS {
            assert!(is("GET", path) && is("HEAD", path), "{path}");
            assert!(!is("POST", path), "{path}");
        }
        assert!(is("GET", "/healthz/") && is("GET", "/?x") && is("GET", "http://a/readyz"));
        assert!(!is("GET", "/v1/stream") && !is("GET", "/healthz/x"));
    }

    #[tokio::test]
    async fn the_one_that_has_waited_longest_makes_room() {
        let aside = Aside::new(None, Arc::new(|_| None), Metrics::default());
        let mut all: Vec<_> = (0..WAITING).map(|_| aside.enter()).collect();
        drop(all.remove(1));
        all.push(aside.enter());
        let soon = Duration::from_millis(20);
        assert!(tokio::time::timeout(soon, all[0].is_over.notified()).await.is_err(), "there was room");
        all.push(aside.enter());
        tokio::time::timeout(Duration::from_secs(10), all[0].is_over.notified()).await.unwrap();
        assert!(tokio::time::timeout(soon, all[1].is_over.notified()).await.is_err());
        drop(all);
        assert!(aside.waiting.lock().heads.is_empty());
    }
}
