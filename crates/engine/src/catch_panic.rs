//! A request that makes the code panic costs that request alone.

use std::convert::Infallible;
use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use axum::body::Body;
use axum::response::Response;
use http::{Method, Request, Uri};
use tidings_door::Door;
use tidings_supervisor::Units;
use tower::{Layer, Service};

/// Has a door answer for its requests that panic.
#[derive(Debug, Clone)]
pub(crate) struct CatchPanic {
    pub(crate) units: Units,
    pub(crate) door: Arc<dyn Door>,
}

impl<S> Layer<S> for CatchPanic {
    type Service = Caught<S>;

    fn layer(&self, inner: S) -> Caught<S> {
        Caught { inner, how: self.clone() }
    }
}

#[derive(Debug, Clone)]
pub(crate) struct Caught<S> {
    inner: S,
    how: CatchPanic,
}

impl<S> Service<Request<Body>> for Caught<S>
where
    S: Service<Request<Body>, Response = Response, Error = Infallible>,
    S::Future: Send + 'static,
{
    type Response = Response;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let what = Asked { method: request.method().clone(), uri: request.uri().clone() };
        let (answer, how) = (self.inner.call(request), self.how.clone());
        Box::pin(async move {
            match how.units.catch_async(what, answer).await {
                Ok(answered) => answered,
                Err(_) => Ok(how.door.panicked()),
            }
        })
    }
}

/// A request, for the log: without its query, which may hold secrets.
struct Asked {
    method: Method,
    uri: Uri,
}

impl fmt::Display for Asked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.method, self.uri.path())
    }
}
