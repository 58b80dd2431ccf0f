//! `/healthz`, `/readyz`, `/metrics`: what other machines ask.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use http::{StatusCode, header};
use serde_json::{Value, json};

const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// What an engine says about itself.
pub(crate) trait Vitals: Send + Sync + 'static {
    /// Whether requests can be served, and the details that `/readyz` shows.
    fn readiness(&self) -> Pin<Box<dyn Future<Output = (bool, Value)> + Send + '_>>;

    /// Every metric, as OpenMetrics text.
    fn metrics(&self) -> Result<String, std::fmt::Error>;
}

/// Set once the server has been asked to stop: `/readyz` then says so, and nobody sends new requests here.
#[derive(Debug, Clone, Default)]
pub(crate) struct Stopping(Arc<AtomicBool>);

impl Stopping {
    /// From now on we are not ready.
    pub(crate) fn set(&self) {
        self.0.store(true, Ordering::Release);
    }

    fn is_set(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }
}

struct Machines<V> {
    vitals: V,
    stopping: Stopping,
}

/// The three routes, and the answer where there is nothing.
pub(crate) fn router<V: Vitals>(vitals: V, stopping: Stopping) -> Router {
    let machines = Arc::new(Machines { vitals, stopping });
    Router::new()
        .route("/healthz", get(healthy))
        .route("/healthz/", get(healthy))
        .route("/readyz", get(ready::<V>))
        .route("/readyz/", get(ready::<V>))
        .route("/metrics", get(metrics::<V>))
        .route("/metrics/", get(metrics::<V>))
        .fallback(nothing)
        .with_state(machines)
}

/// What no door and no machine's path answers, in the form that the API's own refusals have (RFC 9457).
async fn nothing() -> Response {
    let problem = json!({
        "type": "urn:tidings:problem:not_found",
        "title": "Not found",
        "status": 404,
        "detail": "there is nothing at this path",
        "code": "not_found",
        "remedy": "the API is below /v1; /healthz, /readyz and /metrics are for machines",
    });
    (StatusCode::NOT_FOUND, [(header::CONTENT_TYPE, "application/problem+json")], problem.to_string()).into_response()
}

/// The process runs and answers; whether it can do its work is another question.
async fn healthy() -> &'static str {
    "ok"
}

async fn ready<V: Vitals>(State(machines): State<Arc<Machines<V>>>) -> Response {
    if machines.stopping.is_set() {
        return (StatusCode::SERVICE_UNAVAILABLE, Json(json!({"ready": false, "reason": "stopping"}))).into_response();
    }
    let (ready, details) = machines.vitals.readiness().await;
    let status = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, Json(details)).into_response()
}

async fn metrics<V: Vitals>(State(machines): State<Arc<Machines<V>>>) -> Response {
    match machines.vitals.metrics() {
        Ok(text) => ([(header::CONTENT_TYPE, OPENMETRICS)], text).into_response(),
        Err(error) => {
            tracing::error!(%error, "the metrics cannot be written");
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

    impl Vitals for Writable {
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

    #[tokio::test]
    async fn machines_get_their_answers() {
        let stopping = Stopping::default();
        let fine = || router(Writable(true), stopping.clone());
        assert_eq!(ask(fine(), "/healthz").await, (200, "ok".into()));
        assert_eq!(ask(fine(), "/readyz/").await, (200, r#"{"ready":true,"store":"sqlite"}"#.into()));
        assert_eq!(ask(fine(), "/metrics").await, (200, "# EOF\n".into()));
        assert_eq!(ask(router(Writable(false), stopping.clone()), "/readyz").await.0, 503);
        stopping.set();
        assert_eq!(ask(fine(), "/readyz").await, (503, r#"{"ready":false,"reason":"stopping"}"#.into()));
        assert_eq!(ask(fine(), "/healthz").await.0, 200);
    }
}
