//! Connections for which there is no place: each is accepted all the same and answered at once, and some are served.
//!
//! A few descriptors are kept for them. A connection waits here until the head of its request is there. Then a probe or a
//! request with the operator's key is served, by itself, and any other is refused in the words of its protocol. When more wait
//! than may, the one that has waited longest is refused unheard: so a head that follows its connection at once is read, however many
//! others come and say nothing.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use http::header::{AUTHORIZATION, CONNECTION, CONTENT_LENGTH, RETRY_AFTER};
use http::{HeaderMap, HeaderValue, Method, Request, Uri};
use parking_lot::Mutex;
use tidings_live::{Guard, Socket};
use tidings_model::app::Token;
use tidings_model::clock::{Clock, SystemClock};
use tidings_wire::{ProblemDetails, ProblemKind, has_head_end, response_head};
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};

use super::NoRoom;
use super::connection::{self, Service, part};
use super::metrics::Metrics;
use super::notice::Notice;
use super::places::Full;
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
/// How long the handshake and the head may take.
const PATIENCE: Duration = Duration::from_secs(5);
/// The longest head that is read here.
const MAX_HEAD: usize = 8 << 10;
/// Its header lines at most.
const MAX_LINES: usize = 64;

/// What is kept for connections without a place.
pub(super) struct Aside {
    waiting: Mutex<Queue>,
    probes: Arc<Semaphore>,
    operators: Arc<Semaphore>,
    parting: Arc<Semaphore>,
    operator_key: Option<Token>,
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
    aside: Arc<Aside>,
    number: u64,
    /// Notified when others need its place.
    is_over: Arc<Notify>,
}

impl Aside {
    pub(super) fn new(operator_key: Option<Token>, no_room: NoRoom, metrics: Metrics) -> Arc<Self> {
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
    fn exempt(&self, request: &Request<()>) -> Option<OwnedSemaphorePermit> {
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

    async fn refuse(&self, socket: Socket, head: Option<&Request<()>>, full: Full, peer: SocketAddr) {
        self.metrics.refused(full);
        if let Some(suppressed) = self.notice.due() {
            let (reason, remedy) = words(full);
            tracing::warn!(peer = %peer.ip(), reason, remedy, suppressed, "a connection is refused");
        }
        let answer = head.and_then(|head| (self.no_room)(head)).unwrap_or_else(|| overloaded(full));
        let may_linger = Arc::clone(&self.parting).try_acquire_owned();
        let parting = part(socket, &answer);
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

/// Answers a connection that has no place.
pub(super) async fn serve(stream: TcpStream, peer: SocketAddr, full: Full, waiting: Waiting, service: Arc<Service>) {
    let aside = Arc::clone(&waiting.aside);
    let mut patience = std::pin::pin!(tokio::time::sleep(PATIENCE.min(service.header_timeout)));
    let opened = tokio::select! {
        biased;
        opened = connection::open(stream, peer, &service) => opened,
        () = waiting.is_over.notified() => return,
        () = service.stopping.cancelled() => return,
        () = &mut patience => return,
    };
    let Ok(io) = opened else { return };
    let (mut socket, mut buffer) = (Socket::new(io, None), BytesMut::new());
    let head = tokio::select! {
        biased;
        head = read_head(&mut socket, &mut buffer) => head,
        () = waiting.is_over.notified() => None,
        () = service.stopping.cancelled() => None,
        () = &mut patience => None,
    };
    drop(waiting);
    let (io, _) = socket.into_parts();
    let proceed = async {
        if let Some(permit) = head.as_ref().and_then(|head| aside.exempt(head)) {
            let socket = Socket::new(io, Some(Guard::new(permit)));
            return connection::requests(socket, buffer.freeze(), peer, &service, false).await;
        }
        let is_proxys = |head: &Request<()>| service.proxies.is_unlisted(peer.ip(), head.headers());
        if full == (Full::Address { is_default: true })
            && head.as_ref().is_some_and(is_proxys)
            && let Ok(guard) = service.places.take(None)
        {
            return connection::serve_socket(Socket::new(io, Some(guard)), buffer, peer, &service).await;
        }
        aside.refuse(Socket::new(io, None), head.as_ref(), full, peer).await;
    };
    tokio::select! {
        () = proceed => {}
        () = service.cut.cancelled() => {}
    }
}

/// The head of the first request, which stays in the buffer; `None` if there is none, or none that is short and well-formed.
async fn read_head(socket: &mut Socket, buffer: &mut BytesMut) -> Option<Request<()>> {
    buffer.reserve(MAX_HEAD);
    let mut searched = 0;
    while !has_head_end(buffer, searched) {
        searched = buffer.len();
        if searched >= MAX_HEAD || socket.read_buf(buffer).await.ok()? == 0 {
            return None;
        }
    }
    let mut lines = [httparse::EMPTY_HEADER; MAX_LINES];
    let mut parsed = httparse::Request::new(&mut lines);
    let Ok(httparse::Status::Complete(_)) = parsed.parse(buffer) else { return None };
    let mut request = Request::new(());
    *request.method_mut() = Method::from_bytes(parsed.method?.as_bytes()).ok()?;
    *request.uri_mut() = Uri::try_from(parsed.path?).ok()?;
    for line in &*parsed.headers {
        let name = http::HeaderName::from_bytes(line.name.as_bytes()).ok()?;
        request.headers_mut().append(name, HeaderValue::from_bytes(line.value).ok()?);
    }
    Some(request)
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
