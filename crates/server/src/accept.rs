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
use hyper::server::conn::http1::Builder;
use hyper_util::rt::{TokioIo, TokioTimer};
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
    // HTTP/1.1 and nothing else: hyper-util's automatic builder first waits, for ever, for bytes that say which HTTP it is.
    let connection = Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.header_timeout)
        .max_buf_size(MAX_HEAD)
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades();
    let mut connection = std::pin::pin!(connection);
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

#[cfg(test)]
mod tests {
    use axum::routing::get;
    use tidings_testkit::dial;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::sync::{Notify, oneshot};
    use tokio::task::JoinHandle;

    use super::*;

    const SOON: Duration = Duration::from_secs(10);
    const GET: &[u8] = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n";

    struct Running {
        addr: SocketAddr,
        /// Told when a request has arrived.
        arrived: Arc<Notify>,
        /// Lets one request be answered.
        answer: Arc<Notify>,
        stop: oneshot::Sender<()>,
        ended: JoinHandle<()>,
    }

    async fn start(limits: Limits) -> Running {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let (arrived, answer) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
        let (on_arrival, may_answer) = (Arc::clone(&arrived), Arc::clone(&answer));
        let handler = move || async move {
            on_arrival.notify_one();
            may_answer.notified().await;
            "done"
        };
        let (stop, stopped) = oneshot::channel();
        let shutdown = async move {
            stopped.await.ok();
        };
        let ended = tokio::spawn(run(listener, Router::new().route("/", get(handler)), shutdown, limits));
        Running { addr, arrived, answer, stop, ended }
    }

    async fn read_to_end(mut stream: TcpStream) -> String {
        let mut text = Vec::new();
        tokio::time::timeout(SOON, stream.read_to_end(&mut text)).await.expect("still open").ok();
        String::from_utf8_lossy(&text).into_owned()
    }

    #[tokio::test]
    async fn a_request_under_way_is_answered_after_the_stop() {
        let server = start(Limits { grace: SOON, ..Limits::default() }).await;
        let mut stream = dial(server.addr).await;
        stream.write_all(GET).await.unwrap();
        server.arrived.notified().await;
        server.stop.send(()).unwrap();
        server.answer.notify_one();
        let answer = read_to_end(stream).await;
        assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with("done"), "{answer}");
        server.ended.await.unwrap();
    }

    #[tokio::test]
    async fn a_request_that_does_not_end_does_not_hold_up_the_stop() {
        let server = start(Limits { grace: Duration::from_millis(50), ..Limits::default() }).await;
        let mut stream = dial(server.addr).await;
        stream.write_all(GET).await.unwrap();
        server.arrived.notified().await;
        server.stop.send(()).unwrap();
        tokio::time::timeout(SOON, server.ended).await.expect("still running").unwrap();
    }

    #[tokio::test]
    async fn a_request_that_takes_too_long_is_told_so() {
        let server = start(Limits { request_timeout: Duration::from_millis(50), ..Limits::default() }).await;
        let mut stream = dial(server.addr).await;
        stream.write_all(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await.unwrap();
        let answer = read_to_end(stream).await;
        assert!(answer.starts_with("HTTP/1.1 503") && answer.contains("urn:tidings:problem:overloaded"), "{answer}");
    }

    #[tokio::test]
    async fn a_connection_beyond_the_limit_waits_until_one_ends() {
        let server = start(Limits { max_connections: 1, ..Limits::default() }).await;
        let mut first = dial(server.addr).await;
        first.write_all(GET).await.unwrap();
        server.arrived.notified().await;
        let mut second = dial(server.addr).await;
        second.write_all(GET).await.unwrap();
        let early = tokio::time::timeout(Duration::from_millis(200), server.arrived.notified()).await;
        assert!(early.is_err(), "the second was served beside the first");
        server.answer.notify_one();
        drop(first);
        tokio::time::timeout(SOON, server.arrived.notified()).await.expect("the second is never served");
    }
}
