//! The state that all connections share, and the answer to a request, whether `plain` or hyper has read it.

use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::response::{IntoResponse, Response};
use http::header::{CONNECTION, RETRY_AFTER};
use http::{HeaderValue, Request, StatusCode};
use tidings_live::{ClientAddr, FailedProof};
use tidings_model::clock::{Stopwatch, millis};
use tidings_supervisor::RequestId;
use tidings_wire::{ProblemDetails, ProblemKind};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;
use tracing::{Instrument, Level, Span};

use super::client::Proxies;
use super::connection_limiter::ConnectionLimiter;
use super::guess_limiter::GuessLimiter;
use super::request_id::RequestIds;
use super::reserve::Reserve;
use super::wrong_protocol::WrongProtocolLog;
use super::{request_id, target};
use crate::tls::Tls;

/// A new connection may take so long for its first request, even if the server stops meanwhile.
pub(super) const JUST_MADE: Duration = Duration::from_secs(1);
/// What of a request's path its lines of the log have, in bytes.
const MAX_PATH: usize = 256;

/// The state that all connections share.
pub(super) struct Service {
    pub(super) router: Router,
    /// If set, every connection begins with a TLS handshake; otherwise none does.
    pub(super) tls: Option<Tls>,
    /// How long bytes that were sent may stay unacknowledged; zero leaves it to the kernel.
    pub(super) user_timeout: Duration,
    /// How long the handshake may take, and then each head.
    pub(super) header_timeout: Duration,
    /// How long a request may take until its answer begins.
    pub(super) request_timeout: Duration,
    pub(super) proxies: Proxies,
    pub(super) limiter: ConnectionLimiter,
    /// For connections beyond the limits.
    pub(super) reserve: Arc<Reserve>,
    pub(super) guess_limiter: GuessLimiter,
    pub(super) wrong_protocols: WrongProtocolLog,
    pub(super) request_ids: RequestIds,
    /// Cancelled when the server stops: no further request begins.
    pub(super) stopping: CancellationToken,
    /// Cancelled when the requests in flight may take no longer.
    pub(super) cut: CancellationToken,
}

impl Service {
    /// Answers a request, and writes its id into the answer; log lines about it have the id too. The request timeout
    /// ends where the answer begins: an event stream, or a connection that leaves HTTP, has no such limit.
    pub(super) async fn answer(&self, request: Request<Body>, peer: SocketAddr) -> Response {
        let id = self.request_ids.of(request.headers());
        let span = span(&id, &request);
        let watch = tracing::enabled!(Level::DEBUG).then(Stopwatch::start);
        // Pinned here, because each wrapper around a future copies it.
        let answer = pin!(self.answer_in_context(request, peer));
        let mut response = id.clone().scope(answer.instrument(span.clone())).await;
        if let Some(watch) = watch {
            let duration_ms = millis(watch.elapsed());
            span.in_scope(|| tracing::debug!(status = response.status().as_u16(), duration_ms, "request finished"));
        }
        request_id::write(&id, response.headers_mut());
        response
    }

    async fn answer_in_context(&self, mut request: Request<Body>, peer: SocketAddr) -> Response {
        if let Err(refused) = target::normalize(&mut request) {
            return refused.into_response();
        }
        let client = self.proxies.client(peer.ip(), request.headers());
        if client.is_single
            && self.guess_limiter.may_delay(&request)
            && let Err(refused) = self.guess_limiter.hold(client.address).await
        {
            return refused.into_response();
        }
        request.extensions_mut().insert(ClientAddr(client.address));
        let answered = timeout(self.request_timeout, self.router.clone().oneshot(request)).await;
        let mut response = match answered {
            Ok(Ok(response)) => response,
            Ok(Err(never)) => match never {},
            Err(_) => too_slow(),
        };
        if let Some(failed) = response.extensions().get::<FailedProof>() {
            self.guess_limiter.failed(*failed, client);
        }
        if self.stopping.is_cancelled() {
            close_after(&mut response);
        }
        response
    }
}

/// The span of a request. Its query is left out: it may hold signatures and tokens.
fn span(id: &RequestId, request: &Request<Body>) -> Span {
    let path = request.uri().path();
    let path = &path[..path.floor_char_boundary(MAX_PATH)];
    tracing::debug_span!("request", request_id = id.as_str(), method = request.method().as_str(), path)
}

/// Marks an answer as the last one of its connection.
pub(super) fn close_after(response: &mut Response) {
    if response.status() != StatusCode::SWITCHING_PROTOCOLS {
        response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    }
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
