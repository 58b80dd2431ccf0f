//! The accept loop: connections in, requests to a router, and an orderly end.
//!
//! Our own rather than `axum::serve`, which sets no limit on connections and none on how long a head may take, and knows
//! no deadline for the end.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::response::{IntoResponse, Response};
use http::{Request, StatusCode, header};
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::ServiceExt;

use crate::settings::ConnectionSettings;

/// The most bytes that a request's head may take.
const MAX_HEAD: usize = 64 << 10;
/// A pause after an error such as "too many open files", which the next accept would only meet again.
const PAUSE: Duration = Duration::from_millis(100);

/// What connections may use.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    /// Connections at one time; more wait in the kernel's queue.
    pub(crate) max_connections: usize,
    /// How long a client may take to send a request's head, and to begin the next one.
    pub(crate) header_timeout: Duration,
    /// How long a request may take until its answer begins.
    pub(crate) request_timeout: Duration,
    /// How long requests under way may take to end after `shutdown`.
    pub(crate) grace: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        let seconds = Duration::from_secs;
        Self { max_connections: 1_000, header_timeout: seconds(30), request_timeout: seconds(60), grace: seconds(1) }
    }
}

impl From<ConnectionSettings> for Limits {
    fn from(settings: ConnectionSettings) -> Self {
        Self {
            max_connections: settings.max,
            header_timeout: settings.header_timeout,
            request_timeout: settings.request_timeout,
            grace: settings.shutdown_grace,
        }
    }
}

/// Serves connections until `shutdown`, then lets requests under way end, for as long as the limits say.
pub(crate) async fn run(listener: TcpListener, router: Router, shutdown: impl Future<Output = ()>, limits: Limits) {
    let places = Arc::new(Semaphore::new(limits.max_connections.min(Semaphore::MAX_PERMITS)));
    let connections = TaskTracker::new();
    let stopping = CancellationToken::new();
    let mut shutdown = std::pin::pin!(shutdown);
    loop {
        let next = async {
            // The semaphore is never closed, so this waits for a place and nothing else.
            let place = Arc::clone(&places).acquire_owned().await.ok();
            (place, listener.accept().await)
        };
        tokio::select! {
            () = &mut shutdown => break,
            (place, accepted) = next => match accepted {
                Ok((stream, peer)) => {
                    let serve = serve(stream, peer, router.clone(), stopping.clone(), limits);
                    connections.spawn(async move {
                        serve.await;
                        drop(place);
                    });
                }
                Err(error) => rest_after(&error).await,
            },
        }
    }
    drop(listener);
    stopping.cancel();
    connections.close();
    if tokio::time::timeout(limits.grace, connections.wait()).await.is_err() {
        tracing::warn!(connections = connections.len(), "requests that had not ended in time are cut off");
    }
}

async fn rest_after(error: &io::Error) {
    use io::ErrorKind::{ConnectionAborted, ConnectionReset, Interrupted};
    // These are about one connection that is gone already.
    if !matches!(error.kind(), ConnectionAborted | ConnectionReset | Interrupted) {
        tracing::error!(%error, "no connection can be accepted");
        tokio::time::sleep(PAUSE).await;
    }
}

async fn serve(stream: TcpStream, peer: SocketAddr, router: Router, stopping: CancellationToken, limits: Limits) {
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, %peer, "the connection ended before it began");
        return;
    }
    let service =
        hyper::service::service_fn(move |request| answer(router.clone(), request, peer, limits.request_timeout));
    // Without `http1_only` the builder first waits, for ever, for bytes that say which HTTP it is.
    let mut builder = Builder::new(TokioExecutor::new()).http1_only();
    builder.http1().timer(TokioTimer::new()).header_read_timeout(limits.header_timeout).max_buf_size(MAX_HEAD);
    let mut connection = std::pin::pin!(builder.serve_connection_with_upgrades(TokioIo::new(stream), service));
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = stopping.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    // What clients do to their connections is their business, and no reason to fill the log.
    if let Err(error) = ended {
        tracing::debug!(%error, %peer, "connection ended");
    }
}

async fn answer(
    router: Router,
    mut request: Request<Incoming>,
    peer: SocketAddr,
    patience: Duration,
) -> Result<Response, Infallible> {
    // For whoever wants to know: a plain `SocketAddr` among the extensions.
    request.extensions_mut().insert(peer);
    match tokio::time::timeout(patience, router.oneshot(request)).await {
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
