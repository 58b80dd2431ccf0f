//! What all connections have in common, and how a request gets its answer, whoever has read it.

use std::net::SocketAddr;
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

use super::aside::Aside;
use super::client::Proxies;
use super::foreign::Foreigners;
use super::guesses::Guesses;
use super::places::Places;
use super::request_id::RequestIds;
use super::{request_id, target};
use crate::tls::Tls;

/// A connection that has just been made may take so long for its first request, also when the server stops meanwhile.
pub(super) const JUST_MADE: Duration = Duration::from_secs(1);
/// What of a request's path its lines of the log have, in bytes.
const MAX_PATH: usize = 256;

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
    pub(super) request_ids: RequestIds,
    /// Cancelled when no further request is to begin.
    pub(super) stopping: CancellationToken,
    /// Cancelled when those under way may take no longer.
    pub(super) cut: CancellationToken,
}

impl Service {
    /// Has a request answered, with its id in each line of the log about it, and in the answer. The time that it may take
    /// ends where the answer begins: a stream of events, or a connection that leaves HTTP, lasts as long as it likes.
    pub(super) async fn answer(&self, request: Request<Body>, peer: SocketAddr) -> Response {
        let id = self.request_ids.of(request.headers());
        let span = span(&id, &request);
        let mut response = id.clone().scope(self.answer_timed(request, peer).instrument(span)).await;
        request_id::write(&id, response.headers_mut());
        response
    }

    async fn answer_timed(&self, request: Request<Body>, peer: SocketAddr) -> Response {
        let watch = tracing::enabled!(Level::DEBUG).then(Stopwatch::start);
        let response = self.answer_alone(request, peer).await;
        if let Some(watch) = watch {
            let duration_ms = millis(watch.elapsed());
            tracing::debug!(status = response.status().as_u16(), duration_ms, "request finished");
        }
        response
    }

    async fn answer_alone(&self, mut request: Request<Body>, peer: SocketAddr) -> Response {
        if let Err(refused) = target::settle(&mut request) {
            return refused.into_response();
        }
        let client = self.proxies.client(peer.ip(), request.headers());
        if client.is_one
            && self.guesses.concern(&request)
            && let Err(refused) = self.guesses.hold(client.address).await
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
            self.guesses.failed(*failed, client);
        }
        if self.stopping.is_cancelled() {
            close_after(&mut response);
        }
        response
    }
}

/// What a request's lines of the log are written in. Queries hold signatures and tokens, so they are left out.
fn span(id: &RequestId, request: &Request<Body>) -> Span {
    let path = request.uri().path();
    let path = &path[..path.floor_char_boundary(MAX_PATH)];
    tracing::debug_span!("request", request_id = id.as_str(), method = request.method().as_str(), path)
}

/// Makes an answer the last one of its connection.
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
