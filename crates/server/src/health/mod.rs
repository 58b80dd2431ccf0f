//! The health endpoints: `/healthz`, `/readyz`, `/metrics`, and the paths that load balancers and platforms probe by
//! default.

mod own_listener;
mod paths;

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use axum::body::Body;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, get};
use axum::{Json, Router};
use http::{StatusCode, header};
use serde_json::{Value, json};
use tidings_wire::{ProblemDetails, ProblemKind};

use paths::READY_PATHS;

pub(crate) use own_listener::HealthListener;
pub(crate) use paths::PATHS;

const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// What the endpoints report about the server.
pub(crate) trait HealthSource: Send + Sync + 'static {
    /// Whether the node is ready for requests, and the details that `/readyz` shows.
    fn readiness(&self) -> Pin<Box<dyn Future<Output = (bool, Value)> + Send + '_>>;

    /// All metrics, as OpenMetrics text.
    fn metrics(&self) -> Result<String, std::fmt::Error>;
}

/// Set once the server has been asked to stop: `/readyz` then answers 503, so that load balancers send requests
/// elsewhere.
#[derive(Debug, Clone, Default)]
pub(crate) struct Stopping(Arc<AtomicBool>);

impl Stopping {
    /// From now on the node is not ready.
    pub(crate) fn set(&self) {
        self.0.store(true, Ordering::Release);
    }

    fn is_set(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }
}

struct HealthState<V> {
    source: Arc<V>,
    stopping: Stopping,
}

/// The endpoints on the main address, and its 404. `with_details`: metrics and the details of `/readyz` are there,
/// because they have no address of their own (`machines.listen`).
pub(crate) fn router<V: HealthSource>(source: &Arc<V>, stopping: &Stopping, with_details: bool) -> Router {
    let router = if with_details { detailed(source, stopping) } else { brief(source, stopping) };
    router.fallback(nothing)
}

/// All endpoints, for an address of their own.
pub(crate) fn detailed<V: HealthSource>(source: &Arc<V>, stopping: &Stopping) -> Router {
    routes(source, stopping, &[("/readyz", get(ready::<V>)), ("/metrics", get(metrics::<V>))])
}

fn brief<V: HealthSource>(source: &Arc<V>, stopping: &Stopping) -> Router {
    routes(source, stopping, &[("/readyz", get(ready_in_brief::<V>))])
}

fn routes<V: HealthSource>(
    source: &Arc<V>,
    stopping: &Stopping,
    others: &[(&str, MethodRouter<Arc<HealthState<V>>>)],
) -> Router {
    let mut router = Router::new().route("/", get(ready_in_a_word::<V>).options(options));
    for path in READY_PATHS.into_iter().filter(|path| *path != "/") {
        router = both(router, path, get(ready_in_a_word::<V>));
    }
    router = both(router, "/healthz", get(healthy));
    for (path, route) in others {
        router = both(router, path, route.clone());
    }
    router.with_state(Arc::new(HealthState { source: Arc::clone(source), stopping: stopping.clone() }))
}

/// Adds a route with a trailing slash and without.
fn both<S: Clone + Send + Sync + 'static>(router: Router<S>, path: &str, route: MethodRouter<S>) -> Router<S> {
    router.route(path, route.clone()).route(&format!("{path}/"), route)
}

/// The 404 for paths that neither a door nor an endpoint has, as a problem document (RFC 9457) like the API's own.
async fn nothing() -> Response {
    let problem = ProblemDetails {
        kind: ProblemKind::NOT_FOUND,
        detail: "there is nothing at this path",
        field: None,
        remedy: Some("the API is below /v1; /healthz, /readyz and /metrics are for monitoring"),
    };
    problem.response().map(Body::from)
}

/// The process runs and answers. `/readyz` says whether it can do its work.
async fn healthy() -> &'static str {
    "ok"
}

/// `OPTIONS /`, and `OPTIONS *`, which stands for it.
async fn options() -> Response {
    (StatusCode::NO_CONTENT, [(header::ALLOW, "GET, HEAD, OPTIONS")]).into_response()
}

impl<V: HealthSource> HealthState<V> {
    /// The status for load balancers, and the details.
    async fn readiness(&self) -> (StatusCode, Value) {
        if self.stopping.is_set() {
            return (StatusCode::SERVICE_UNAVAILABLE, json!({"ready": false, "reason": "stopping"}));
        }
        let (ready, details) = self.source.readiness().await;
        (if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE }, details)
    }
}

async fn ready<V: HealthSource>(State(state): State<Arc<HealthState<V>>>) -> Response {
    let (status, details) = state.readiness().await;
    (status, Json(details)).into_response()
}

/// The public answer, when the details have an address of their own.
async fn ready_in_brief<V: HealthSource>(State(state): State<Arc<HealthState<V>>>) -> Response {
    let (status, _) = state.readiness().await;
    (status, Json(json!({"ready": status == StatusCode::OK}))).into_response()
}

async fn ready_in_a_word<V: HealthSource>(State(state): State<Arc<HealthState<V>>>) -> Response {
    let (status, _) = state.readiness().await;
    let word = if status == StatusCode::OK { "Tidings is ready.\n" } else { "Tidings is not ready.\n" };
    (status, word).into_response()
}

async fn metrics<V: HealthSource>(State(state): State<Arc<HealthState<V>>>) -> Response {
    match state.source.metrics() {
        Ok(text) => ([(header::CONTENT_TYPE, OPENMETRICS)], text).into_response(),
        Err(error) => {
            tracing::error!(%error, "encoding the metrics failed");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}

#[cfg(test)]
mod tests {
    use http::Request;
    use http_body_util::BodyExt;
    use tower::ServiceExt;

    use super::*;

    struct Writable(bool);

    impl HealthSource for Writable {
        fn readiness(&self) -> Pin<Box<dyn Future<Output = (bool, Value)> + Send + '_>> {
            Box::pin(async { (self.0, json!({"ready": self.0, "store": "sqlite"})) })
        }

        fn metrics(&self) -> Result<String, std::fmt::Error> {
            Ok("# EOF\n".to_owned())
        }
    }

    async fn ask(router: Router, path: &str) -> (u16, String) {
        let response = router.oneshot(Request::get(path).body(axum::body::Body::empty()).unwrap()).await.unwrap();
        let status = response.status().as_u16();
        let body = response.into_body().collect().await.unwrap().to_bytes();
        (status, String::from_utf8_lossy(&body).into_owned())
    }

    // covers: G309, G115
    #[tokio::test]
    async fn machines_get_their_answers() {
        let stopping = Stopping::default();
        let of = |writable, details| router(&Arc::new(Writable(writable)), &stopping, details);
        let fine = || of(true, true);
        assert_eq!(ask(fine(), "/healthz").await, (200, "ok".into()));
        assert_eq!(ask(fine(), "/readyz/").await, (200, r#"{"ready":true,"store":"sqlite"}"#.into()));
        assert_eq!(ask(fine(), "/metrics").await, (200, "# EOF\n".into()));
        assert_eq!(ask(of(false, true), "/readyz").await.0, 503);
        // If the details have an address of their own, the public one shows the status alone.
        assert_eq!(ask(of(true, false), "/readyz").await, (200, r#"{"ready":true}"#.into()));
        assert_eq!(ask(of(false, false), "/readyz").await, (503, r#"{"ready":false}"#.into()));
        assert_eq!(ask(of(true, false), "/metrics").await.0, 404);
        for path in READY_PATHS {
            assert!(PATHS.contains(&path));
            assert_eq!(ask(of(true, false), path).await, (200, "Tidings is ready.\n".into()), "{path}");
            assert_eq!(ask(of(false, true), path).await, (503, "Tidings is not ready.\n".into()), "{path}");
        }
        stopping.set();
        assert_eq!(ask(fine(), "/readyz").await, (503, r#"{"ready":false,"reason":"stopping"}"#.into()));
        for path in READY_PATHS {
            assert_eq!(ask(fine(), path).await.0, 503, "{path}");
        }
        assert_eq!(ask(fine(), "/healthz").await.0, 200);
    }

    // covers: G222
    #[tokio::test]
    async fn the_root_says_what_it_takes() {
        let router = router(&Arc::new(Writable(true)), &Stopping::default(), true);
        let request = Request::options("/").body(axum::body::Body::empty()).unwrap();
        let answer = router.oneshot(request).await.unwrap();
        assert_eq!(answer.status(), 204);
        assert_eq!(answer.headers()[header::ALLOW], "GET, HEAD, OPTIONS");
    }
}
