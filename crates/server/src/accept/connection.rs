//! One connection: its handshake, its requests, its end.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http::{Request, StatusCode, header};
use hyper::body::Incoming;
use hyper::server::conn::http1::Builder;
use hyper_util::rt::{TokioIo, TokioTimer};
use tidings_live::{ClientAddr, Guard, Io, Lent, Socket};
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;

use super::client::Proxies;
use super::plain;
use crate::tls::Tls;

/// The most bytes that a request's head may take.
const MAX_HEAD: usize = 64 << 10;

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
    /// Cancelled when no further request is to begin.
    pub(super) stopping: CancellationToken,
    /// Cancelled when those under way may take no longer.
    pub(super) cut: CancellationToken,
}

/// Serves a connection until it ends or leaves HTTP.
pub(super) async fn serve(stream: TcpStream, peer: SocketAddr, guard: Guard, service: Arc<Service>) {
    if let Err(error) = prepare(&stream, service.user_timeout) {
        tracing::debug!(%error, %peer, "the connection ended before it began");
        return;
    }
    let io = tokio::select! {
        opened = open(stream, &service) => opened,
        () = service.stopping.cancelled() => return,
    };
    match io {
        Ok(io) => {
            let mut socket = Socket::new(io, Some(guard));
            let requests = async {
                if let Some(read) = plain::serve(&mut socket, peer, &service).await {
                    requests(socket, read, peer, &service).await;
                }
            };
            tokio::select! {
                () = requests => {}
                () = service.cut.cancelled() => {}
            }
        }
        Err(error) => tracing::debug!(%error, %peer, "the TLS handshake failed"),
    }
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

/// Makes the handshake, where there is one.
async fn open(stream: TcpStream, service: &Service) -> std::io::Result<Io> {
    let Some(tls) = &service.tls else { return Ok(Io::Plain(stream)) };
    let stream = tokio::time::timeout(service.header_timeout, tls.acceptor().accept(stream)).await??;
    Ok(Io::Tls(Box::new(stream)))
}

/// Serves whatever HTTP/1.1 there is, beginning with what has been read already.
async fn requests(socket: Socket, read: Bytes, peer: SocketAddr, service: &Arc<Service>) {
    let (lent, lender) = Lent::new(socket, read);
    let answer = |request: Request<Incoming>| {
        let (service, lender) = (Arc::clone(service), lender.clone());
        async move {
            let mut request = request.map(Body::new);
            request.extensions_mut().insert(lender);
            Ok::<_, Infallible>(answer(&service, request, peer).await)
        }
    };
    // HTTP/1.1 and nothing else: hyper-util's automatic builder first waits, for ever, for bytes that say which HTTP it is.
    let connection = Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(service.header_timeout)
        .max_buf_size(MAX_HEAD)
        .serve_connection(TokioIo::new(lent), hyper::service::service_fn(answer))
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
pub(super) async fn answer(service: &Service, mut request: Request<Body>, peer: SocketAddr) -> Response {
    let client = service.proxies.client(peer.ip(), request.headers());
    request.extensions_mut().insert(ClientAddr(client));
    match tokio::time::timeout(service.request_timeout, service.router.clone().oneshot(request)).await {
        Ok(Ok(response)) => response,
        Ok(Err(never)) => match never {},
        Err(_) => too_slow(),
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
