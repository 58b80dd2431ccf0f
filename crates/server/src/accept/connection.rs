//! One connection: its handshake, its requests, its end.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::response::{IntoResponse, Response};
use http::{Request, StatusCode, header};
use hyper::body::Incoming;
use hyper::server::conn::http1::Builder;
use hyper_util::rt::{TokioIo, TokioTimer};
use tidings_live::{ClientAddr, Guard, Io, Socket};
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;

use super::client::Proxies;
use crate::tls::Tls;

/// The most bytes that a request's head may take.
const MAX_HEAD: usize = 64 << 10;

/// What all connections have in common.
pub(super) struct Service {
    pub(super) router: Router,
    /// With it every connection begins with a TLS handshake, without it none does.
    pub(super) tls: Option<Tls>,
    /// For the handshake, then for each head.
    pub(super) header_timeout: Duration,
    /// Until an answer begins.
    pub(super) request_timeout: Duration,
    pub(super) proxies: Proxies,
    /// Cancelled when no further request is to begin.
    pub(super) stopping: CancellationToken,
    /// Cancelled when those under way may take no longer.
    pub(super) cut: CancellationToken,
}

/// Serves a connection until it ends or leaves HTTP.
pub(super) async fn serve(stream: TcpStream, peer: SocketAddr, guard: Guard, service: Arc<Service>) {
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, %peer, "the connection ended before it began");
        return;
    }
    let io = tokio::select! {
        opened = open(stream, &service) => opened,
        () = service.stopping.cancelled() => return,
    };
    match io {
        Ok(io) => {
            let requests = requests(Socket::new(io, Some(guard)), peer, &service);
            tokio::select! {
                () = requests => {}
                () = service.cut.cancelled() => {}
            }
        }
        Err(error) => tracing::debug!(%error, %peer, "the TLS handshake failed"),
    }
}

/// Makes the handshake, where there is one.
async fn open(stream: TcpStream, service: &Service) -> std::io::Result<Io> {
    let Some(tls) = &service.tls else { return Ok(Io::Plain(stream)) };
    let stream = tokio::time::timeout(service.header_timeout, tls.acceptor().accept(stream)).await??;
    Ok(Io::Tls(Box::new(stream)))
}

async fn requests(socket: Socket, peer: SocketAddr, service: &Arc<Service>) {
    let answer = |request| answer(Arc::clone(service), request, peer);
    // HTTP/1.1 and nothing else: hyper-util's automatic builder first waits, for ever, for bytes that say which HTTP it is.
    let connection = Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(service.header_timeout)
        .max_buf_size(MAX_HEAD)
        .serve_connection(TokioIo::new(socket), hyper::service::service_fn(answer))
        .with_upgrades();
    let mut connection = std::pin::pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = service.stopping.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    // What clients do to their connections is their business, and no reason to fill the log.
    if let Err(error) = ended {
        tracing::debug!(%error, %peer, "connection ended");
    }
}

/// Has a request answered. The time that it may take ends where the answer begins: a stream of events, or a connection that
/// leaves HTTP, lasts as long as it likes.
async fn answer(
    service: Arc<Service>,
    mut request: Request<Incoming>,
    peer: SocketAddr,
) -> Result<Response, Infallible> {
    let client = service.proxies.client(peer.ip(), request.headers());
    // For whoever wants to know: the other end of the connection, and who is behind it.
    request.extensions_mut().insert(peer);
    request.extensions_mut().insert(ClientAddr(client));
    match tokio::time::timeout(service.request_timeout, service.router.clone().oneshot(request)).await {
        Ok(Ok(response)) => Ok(response),
        Ok(Err(never)) => match never {},
        Err(_) => Ok(too_slow()),
    }
}

fn too_slow() -> Response {
    let problem = r#"{"type":"urn:tidings:problem:overloaded","title":"Overloaded","status":503,"detail":"the request took too long","code":"overloaded","remedy":"send it again; with the same Idempotency-Key it happens once"}"#;
    (
        StatusCode::SERVICE_UNAVAILABLE,
        [(header::CONTENT_TYPE, "application/problem+json"), (header::RETRY_AFTER, "1")],
        problem,
    )
        .into_response()
}
