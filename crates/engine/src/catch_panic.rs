//! Middleware that catches panics: a panic fails only its own request.

use std::convert::Infallible;
use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use axum::body::Body;
use axum::response::Response;
use http::{Method, Request, Uri};
use pin_project_lite::pin_project;
use tidings_door::Door;
use tidings_supervisor::{Unit, Units};
use tower::{Layer, Service};

/// Lets a door answer its requests that panic.
#[derive(Debug, Clone)]
pub(crate) struct CatchPanic {
    pub(crate) units: Units,
    pub(crate) door: Arc<dyn Door>,
}

impl<S> Layer<S> for CatchPanic {
    type Service = Caught<S>;

    fn layer(&self, inner: S) -> Caught<S> {
        Caught { inner, layer: self.clone() }
    }
}

#[derive(Debug, Clone)]
pub(crate) struct Caught<S> {
    inner: S,
    layer: CatchPanic,
}

impl<S> Service<Request<Body>> for Caught<S>
where
    S: Service<Request<Body>, Response = Response, Error = Infallible>,
    S::Future: Send + 'static,
{
    type Response = Response;
    type Error = Infallible;
    type Future = Answer<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let line = RequestLine { method: request.method().clone(), uri: request.uri().clone() };
        let unit = self.layer.units.catch_async(line, self.inner.call(request));
        Answer { unit, door: Arc::clone(&self.layer.door) }
    }
}

pin_project! {
    /// What the handler answers, or its door if the handler panics.
    pub(crate) struct Answer<F> {
        #[pin]
        unit: Unit<RequestLine, F>,
        door: Arc<dyn Door>,
    }
}

impl<F: Future<Output = Result<Response, Infallible>>> Future for Answer<F> {
    type Output = Result<Response, Infallible>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let answer = self.project();
        answer.unit.poll(cx).map(|caught| caught.unwrap_or_else(|_| Ok(answer.door.panicked())))
    }
}

/// Method and path of a request, for the log. The query is left out, because it may contain secrets.
pub(crate) struct RequestLine {
    method: Method,
    uri: Uri,
}

impl fmt::Display for RequestLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.method, self.uri.path())
    }
}
