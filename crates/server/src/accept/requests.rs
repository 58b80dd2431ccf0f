//! Requests of any kind, served by hyper.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::task::Poll;

use http::header::CONNECTION;
use http::{HeaderMap, Request, StatusCode};
use hyper::body::Incoming;
use hyper::server::conn::http1::Builder;
use hyper_util::rt::{TokioIo, TokioTimer};
use tidings_live::{BorrowedConn, ConnHandle};

use super::drain;
use super::service::{Service, close_after};

/// The most bytes that a request's head may take.
const MAX_HEAD: usize = 64 << 10;

/// Serves whatever HTTP/1.1 there is: many requests, or one.
pub(super) async fn serve(
    conn: BorrowedConn,
    handle: ConnHandle,
    peer: SocketAddr,
    service: &Arc<Service>,
    many: bool,
) {
    // A request has been read and is not answered.
    let is_busy = Arc::new(AtomicBool::new(false));
    // The last request's body has not come to its end.
    let lingers = Arc::new(AtomicBool::new(false));
    let answer = |request: Request<Incoming>| {
        let (service, handle) = (Arc::clone(service), handle.clone());
        let (is_busy, lingers) = (Arc::clone(&is_busy), Arc::clone(&lingers));
        is_busy.store(true, Relaxed);
        async move {
            let closes = says_close(request.headers());
            let (mut request, rest) = drain::watched(request);
            request.extensions_mut().insert(handle.clone());
            let mut response = service.answer(request, peer).await;
            let leaves_http = handle.is_taken() || response.status() == StatusCode::SWITCHING_PROTOCOLS;
            let breaks_off = !leaves_http && !rest.read().await;
            if closes || breaks_off {
                close_after(&mut response);
            }
            lingers.store(breaks_off, Relaxed);
            is_busy.store(false, Relaxed);
            Ok::<_, Infallible>(response)
        }
    };
    // HTTP/1.1 and nothing else: hyper-util's automatic builder first waits, for ever, for bytes that say which HTTP it
    // is.
    let connection = Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(service.header_timeout)
        .max_buf_size(MAX_HEAD)
        .keep_alive(many)
        .serve_connection(TokioIo::new(conn), hyper::service::service_fn(answer))
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
    if lingers.load(Relaxed)
        && let Some(socket) = handle.take()
    {
        drain::part(socket, b"", drain::LONG).await;
    }
}

/// Whether one of several lines ends the connection: hyper lets the last one decide (RFC 9112 § 9.3).
fn says_close(headers: &HeaderMap) -> bool {
    let lines = headers.get_all(CONNECTION).iter();
    lines
        .flat_map(|line| line.as_bytes().split(|byte| *byte == b','))
        .any(|word| word.trim_ascii().eq_ignore_ascii_case(b"close"))
}
