//! Serves requests of any kind, by hyper.

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

/// Serves HTTP/1.1: `many` requests on the connection, or only one.
pub(super) async fn serve(
    conn: BorrowedConn,
    handle: ConnHandle,
    peer: SocketAddr,
    service: &Arc<Service>,
    many: bool,
) {
    // A request has been read and is not answered.
    let is_busy = Arc::new(AtomicBool::new(false));
    // The body of the last request was not read to its end.
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
    // HTTP/1.1 only: hyper-util's automatic builder first waits, without a timeout, for the bytes that tell the HTTP
    // version.
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
            // First what has arrived: a request that has begun is answered.
            if let Poll::Ready(ended) = connection.as_mut().poll(cx) {
                return Poll::Ready(ended);
            }
            // hyper treats a connection whose next head is incomplete as idle, and would close it.
            let may_end = is_busy.load(Relaxed) || !handle.is_unanswered();
            if ends || !may_end || (!service.stopping.is_cancelled() && stopping.as_mut().poll(cx).is_pending()) {
                return Poll::Pending;
            }
            ends = true;
            connection.as_mut().graceful_shutdown();
        }
    })
    .await;
    // Clients break connections all the time: not worth more than a debug line.
    if let Err(error) = ended {
        tracing::debug!(%error, %peer, "connection ended");
    }
    if lingers.load(Relaxed)
        && let Some(socket) = handle.take()
    {
        drain::lingering_close(socket, b"", drain::LONG).await;
    }
}

/// Whether any `Connection` line says `close` (RFC 9112 § 9.3). hyper itself looks at the last line only.
fn says_close(headers: &HeaderMap) -> bool {
    let lines = headers.get_all(CONNECTION).iter();
    lines
        .flat_map(|line| line.as_bytes().split(|byte| *byte == b','))
        .any(|word| word.trim_ascii().eq_ignore_ascii_case(b"close"))
}
