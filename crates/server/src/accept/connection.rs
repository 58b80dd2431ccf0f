//! One connection: its handshake, its requests, its end.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::task::Poll;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::response::{IntoResponse, Response};
use bytes::{Bytes, BytesMut};
use http::header::{CONNECTION, RETRY_AFTER};
use http::{HeaderMap, HeaderValue, Request, StatusCode};
use hyper::body::Incoming;
use hyper::server::conn::http1::Builder;
use hyper_util::rt::{TokioIo, TokioTimer};
use tidings_live::{BorrowedConn, ClientAddr, FailedProof, Guard, Io, Socket};
use tidings_wire::{ProblemDetails, ProblemKind};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep_until, timeout, timeout_at};
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;

use super::aside::Aside;
use super::client::Proxies;
use super::foreign::{Foreign, Foreigners, PLAIN_ANSWER};
use super::guesses::Guesses;
use super::places::Places;
use super::{plain, target};
use crate::tls::Tls;

/// The most bytes that a request's head may take.
const MAX_HEAD: usize = 64 << 10;
/// A connection that has just been made may take so long for its first request, also when the server stops meanwhile.
pub(super) const JUST_MADE: Duration = Duration::from_secs(1);
/// How long a client that was refused may take to hang up, and how much it may send meanwhile.
const PARTING: (Duration, u64) = (Duration::from_secs(1), 1 << 20);

/// What all connections have in common.
pub(super) struct Service {
    pub(super) router: Router,
    /// With it every connection begins with a TLS handshake, without it none does.
    pub(super) tls: Option<Tls>,
    /// For what was sent to be acknowledged; zero leaves it to the kernel.
    pub(super) user_timeout: Duration,
    /// For the handshake, then for each head.
    pub(super) header_timeout: Duration,
    /// Until an answer begins.
    pub(super) request_timeout: Duration,
    pub(super) proxies: Proxies,
    pub(super) places: Places,
    /// For connections that have no place.
    pub(super) aside: Arc<Aside>,
    pub(super) guesses: Guesses,
    pub(super) foreigners: Foreigners,
    /// Cancelled when no further request is to begin.
    pub(super) stopping: CancellationToken,
    /// Cancelled when those under way may take no longer.
    pub(super) cut: CancellationToken,
}

/// Serves a connection until it ends or leaves HTTP.
pub(super) async fn serve(stream: TcpStream, peer: SocketAddr, guard: Guard, service: Arc<Service>) {
    let until = Instant::now() + JUST_MADE;
    let stopped = async {
        service.stopping.cancelled().await;
        sleep_until(until).await;
    };
    let opened = tokio::select! {
        opened = open(stream, peer, &service) => opened,
        () = stopped => return,
    };
    match opened {
        Ok(io) => serve_socket(Socket::new(io, Some(guard)), BytesMut::new(), peer, &service).await,
        Err(error) => tracing::debug!(%error, %peer, "the connection ended before its first request"),
    }
}

/// Serves a connection of which something may have been read already.
pub(super) async fn serve_socket(mut socket: Socket, read: BytesMut, peer: SocketAddr, service: &Arc<Service>) {
    let requests = async {
        if let Some(read) = plain::serve(&mut socket, read, peer, service).await {
            if let Some(what) = Foreign::of(&read, false).filter(|_| service.tls.is_none()) {
                service.foreigners.note(what, peer);
            }
            requests(socket, read, peer, service, true).await;
        }
    };
    tokio::select! {
        () = requests => {}
        () = service.cut.cancelled() => {}
    }
}

/// Prepares a connection and makes the handshake, where there is one.
pub(super) async fn open(stream: TcpStream, peer: SocketAddr, service: &Service) -> io::Result<Io> {
    prepare(&stream, service.user_timeout)?;
    let Some(tls) = &service.tls else { return Ok(Io::Plain(stream)) };
    let until = Instant::now() + service.header_timeout;
    let mut first = [0; 16];
    let known = timeout_at(until, stream.peek(&mut first)).await??;
    if let Some(what) = Foreign::of(&first[..known], true) {
        service.foreigners.note(what, peer);
        if what == Foreign::Plain {
            part(Socket::from(stream), PLAIN_ANSWER).await;
        }
        return Err(io::Error::new(io::ErrorKind::InvalidData, "it is no TLS handshake"));
    }
    Ok(Io::Tls(Box::new(timeout_at(until, tls.acceptor().accept(stream)).await??)))
}

/// Says a last word to a client, and gives it a moment to hang up: a close with unread bytes would take the word back.
pub(super) async fn part(mut socket: Socket, words: &[u8]) {
    let (patience, most) = PARTING;
    let parting = async {
        socket.write_all(words).await?;
        socket.shutdown().await?;
        tokio::io::copy(&mut (&mut socket).take(most), &mut tokio::io::sink()).await
    };
    // It may hang up, or not, as it likes.
    drop(timeout(patience, parting).await);
}

/// Small packets leave at once, and a client that has vanished is noticed long before the kernel would give up (where the
/// system has a way to say so).
fn prepare(stream: &TcpStream, user_timeout: Duration) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    #[cfg(target_os = "linux")]
    if let Ok(millis @ 1..) = u32::try_from(user_timeout.as_millis()) {
        rustix::net::sockopt::set_tcp_user_timeout(stream, millis)?;
    }
    #[cfg(not(target_os = "linux"))]
    let _ = user_timeout;
    Ok(())
}

/// Serves whatever HTTP/1.1 there is, beginning with what has been read already: many requests, or one.
pub(super) async fn requests(socket: Socket, read: Bytes, peer: SocketAddr, service: &Arc<Service>, many: bool) {
    let (borrowed, handle) = BorrowedConn::new(socket, read);
    // A request has been read and is not answered.
    let is_busy = Arc::new(AtomicBool::new(false));
    let answer = |request: Request<Incoming>| {
        let (service, handle, is_busy) = (Arc::clone(service), handle.clone(), Arc::clone(&is_busy));
        is_busy.store(true, Relaxed);
        async move {
            let closes = says_close(request.headers());
            let mut request = request.map(Body::new);
            request.extensions_mut().insert(handle);
            let mut response = answer(&service, request, peer).await;
            if closes {
                close_after(&mut response);
            }
            is_busy.store(false, Relaxed);
            Ok::<_, Infallible>(response)
        }
    };
    // HTTP/1.1 and nothing else: hyper-util's automatic builder first waits, for ever, for bytes that say which HTTP it is.
    let connection = Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(service.header_timeout)
        .max_buf_size(MAX_HEAD)
        .keep_alive(many)
        .serve_connection(TokioIo::new(borrowed), hyper::service::service_fn(answer))
        .with_upgrades();
    let mut connection = std::pin::pin!(connection);
    let mut stopping = std::pin::pin!(service.stopping.cancelled());
    let mut ends = false;
    let ended = std::future::poll_fn(|cx| {
        loop {
            // First whatever has come: a request that has begun is answered.
            if let Poll::Ready(ended) = connection.as_mut().poll(cx) {
                return Poll::Ready(ended);
            }
            // hyper takes a connection whose next head is not whole for idle, and would close it.
            let may_end = is_busy.load(Relaxed) || !handle.is_unanswered();
            if ends || !may_end || (!service.stopping.is_cancelled() && stopping.as_mut().poll(cx).is_pending()) {
                return Poll::Pending;
            }
            ends = true;
            connection.as_mut().graceful_shutdown();
        }
    })
    .await;
    // What clients do to their connections is their business, and no reason to fill the log.
    if let Err(error) = ended {
        tracing::debug!(%error, %peer, "connection ended");
    }
}

/// Whether one of several lines ends the connection: hyper lets the last one decide (RFC 9112 § 9.3).
fn says_close(headers: &HeaderMap) -> bool {
    let lines = headers.get_all(CONNECTION).iter();
    lines
        .flat_map(|line| line.as_bytes().split(|byte| *byte == b','))
        .any(|word| word.trim_ascii().eq_ignore_ascii_case(b"close"))
}

fn close_after(response: &mut Response) {
    if response.status() != StatusCode::SWITCHING_PROTOCOLS {
        response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    }
}

/// Has a request answered. The time that it may take ends where the answer begins: a stream of events, or a connection that
/// leaves HTTP, lasts as long as it likes.
pub(super) async fn answer(service: &Service, mut request: Request<Body>, peer: SocketAddr) -> Response {
    if let Err(refused) = target::settle(&mut request) {
        return refused.into_response();
    }
    let client = service.proxies.client(peer.ip(), request.headers());
    if client.is_one
        && service.guesses.concern(&request)
        && let Err(refused) = service.guesses.hold(client.address).await
    {
        return refused.into_response();
    }
    request.extensions_mut().insert(ClientAddr(client.address));
    let answered = timeout(service.request_timeout, service.router.clone().oneshot(request)).await;
    let mut response = match answered {
        Ok(Ok(response)) => response,
        Ok(Err(never)) => match never {},
        Err(_) => too_slow(),
    };
    if let Some(failed) = response.extensions().get::<FailedProof>() {
        service.guesses.failed(*failed, client);
    }
    if service.stopping.is_cancelled() {
        close_after(&mut response);
    }
    response
}

fn too_slow() -> Response {
    let problem = ProblemDetails {
        kind: ProblemKind::OVERLOADED,
        detail: "the request took too long",
        field: None,
        remedy: Some("send it again; with the same Idempotency-Key it happens once"),
    };
    ([(RETRY_AFTER, "1")], problem.response().map(Body::from)).into_response()
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use rustix::net::sockopt;
    use tokio::net::TcpListener;

    use super::*;

    #[tokio::test]
    async fn a_connection_is_prepared_for_small_packets_and_vanished_clients() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let _client = tidings_testkit::dial(listener.local_addr().unwrap()).await;
        let (stream, _) = listener.accept().await.unwrap();
        prepare(&stream, Duration::ZERO).unwrap();
        assert_eq!((stream.nodelay().unwrap(), sockopt::tcp_user_timeout(&stream).unwrap()), (true, 0));
        prepare(&stream, Duration::from_secs(30)).unwrap();
        assert_eq!(sockopt::tcp_user_timeout(&stream).unwrap(), 30_000);
    }
}
