//! A client of the server's HTTP API: JSON in, JSON out, by default with the app's API key.

use std::future::{Future, IntoFuture};
use std::ops::Index;
use std::panic::Location;
use std::pin::Pin;
use std::time::Duration;

use anyhow::Context;
use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_TYPE};
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper_rustls::HttpsConnector;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use serde::Serialize;
use serde_json::Value;

/// The default timeout of a request.
const PATIENCE: Duration = Duration::from_secs(30);

/// A client with keep-alive. Cheap to clone; clones share one pool of connections.
#[derive(Debug, Clone)]
pub struct Api {
    base: String,
    headers: HeaderMap,
    client: Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
}

impl Api {
    /// A client of the server at `base` (`http://127.0.0.1:8000`), with `key` as its bearer key unless it is empty.
    pub fn new(base: &str, key: &str) -> Self {
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        connector.enforce_http(false);
        let connector = HttpsConnector::from((connector, crate::tls::client()));
        let client = Client::builder(TokioExecutor::new()).build(connector);
        let api = Self { base: base.trim_end_matches('/').to_owned(), headers: HeaderMap::new(), client };
        if key.is_empty() { api } else { api.with_key(key) }
    }

    /// The same client with another key.
    #[must_use]
    pub fn with_key(&self, key: &str) -> Self {
        self.with_header("authorization", &format!("Bearer {key}"))
    }

    /// The same client without a key.
    #[must_use]
    pub fn without_key(&self) -> Self {
        let mut api = self.clone();
        api.headers.remove(AUTHORIZATION);
        api
    }

    /// The same client with a header on every request.
    #[must_use]
    pub fn with_header(&self, name: &str, value: &str) -> Self {
        let mut api = self.clone();
        set(&mut api.headers, name, value);
        api
    }

    /// `GET path`.
    pub fn get(&self, path: &str) -> Request {
        self.request(Method::GET, path)
    }

    /// `DELETE path`.
    pub fn delete(&self, path: &str) -> Request {
        self.request(Method::DELETE, path)
    }

    /// `POST path` with a JSON body.
    pub fn post(&self, path: &str, json: impl Serialize) -> Request {
        self.request(Method::POST, path).json(json)
    }

    /// `PATCH path` with a JSON body.
    pub fn patch(&self, path: &str, json: impl Serialize) -> Request {
        self.request(Method::PATCH, path).json(json)
    }

    /// `PUT path` with a JSON body.
    pub fn put(&self, path: &str, json: impl Serialize) -> Request {
        self.request(Method::PUT, path).json(json)
    }

    /// Any request, without a body yet.
    pub fn request(&self, method: Method, path: &str) -> Request {
        Request {
            api: self.clone(),
            method,
            path: path.to_owned(),
            headers: HeaderMap::new(),
            body: Bytes::new(),
            patience: PATIENCE,
        }
    }
}

/// A request that is sent when awaited, or by [`Request::send`].
#[derive(Debug, Clone)]
#[must_use = "nothing is sent before it is awaited"]
pub struct Request {
    api: Api,
    method: Method,
    path: String,
    headers: HeaderMap,
    body: Bytes,
    patience: Duration,
}

impl Request {
    /// Adds a header; it wins over the client's own of that name.
    pub fn header(mut self, name: &str, value: &str) -> Self {
        set(&mut self.headers, name, value);
        self
    }

    /// With a JSON body.
    pub fn json(self, json: impl Serialize) -> Self {
        let text = serde_json::to_vec(&json).unwrap_or_else(|e| panic!("not JSON: {e}"));
        self.body(text, "application/json")
    }

    /// With these bytes as its body.
    pub fn body(mut self, bytes: impl Into<Bytes>, content_type: &str) -> Self {
        self.body = bytes.into();
        self.header("content-type", content_type)
    }

    /// Sets another timeout than 30 s.
    pub fn within(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }

    /// Sends it.
    ///
    /// # Errors
    /// When no complete answer came: the connection was refused or broke, or the timeout passed. Any status is an
    /// answer.
    pub async fn send(self) -> anyhow::Result<Reply> {
        let (patience, what) = (self.patience, self.to_string());
        let exchange = async { Reply::read(self.begin().await?).await };
        tokio::time::timeout(patience, exchange)
            .await
            .with_context(|| format!("{what}: no answer within {patience:?}"))?
            .with_context(|| what)
    }

    /// Its timeout.
    pub(crate) fn patience(&self) -> Duration {
        self.patience
    }

    /// Sends it and returns the answer with its body unread.
    pub(crate) async fn begin(self) -> anyhow::Result<http::Response<Incoming>> {
        let uri = format!("{}{}", self.api.base, self.path);
        let mut request = http::Request::new(Full::new(self.body));
        *request.method_mut() = self.method;
        *request.uri_mut() = uri.parse().with_context(|| format!("{uri} is not an address"))?;
        *request.headers_mut() = self.api.headers;
        for (name, value) in &self.headers {
            request.headers_mut().insert(name, value.clone());
        }
        Ok(self.api.client.request(request).await?)
    }
}

impl std::fmt::Display for Request {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}{}", self.method, self.api.base, self.path)
    }
}

impl IntoFuture for Request {
    type Output = Reply;
    type IntoFuture = Pin<Box<dyn Future<Output = Reply> + Send>>;

    /// Sends it; panics when no answer came.
    #[track_caller]
    fn into_future(self) -> Self::IntoFuture {
        let caller = Location::caller();
        Box::pin(async move { self.send().await.unwrap_or_else(|e| panic!("{caller}: {e:#}")) })
    }
}

/// An answer.
#[derive(Debug, Clone)]
pub struct Reply {
    /// The status code.
    pub status: u16,
    /// The headers.
    pub headers: HeaderMap,
    /// The body as it came.
    pub body: Bytes,
    /// The body as JSON; `null` if it isn't.
    pub json: Value,
}

impl Reply {
    /// Reads an answer to its end.
    pub(crate) async fn read(response: http::Response<Incoming>) -> anyhow::Result<Self> {
        let (head, body) = response.into_parts();
        let body = body.collect().await?.to_bytes();
        Ok(Self { status: head.status.as_u16(), json: json_of(&head.headers, &body), headers: head.headers, body })
    }

    /// A header's value, if it is there and is text.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// Asserts the status, and returns the answer.
    ///
    /// # Panics
    /// With the whole answer, when it has another.
    #[track_caller]
    pub fn expect_status(self, status: u16) -> Self {
        assert!(self.status == status, "status {} instead of {status}: {}", self.status, self.text());
        self
    }

    /// A JSON field that is a string.
    ///
    /// # Panics
    /// With the whole answer, when it has no such string.
    #[track_caller]
    pub fn text_at(&self, field: &str) -> String {
        match self.json.get(field).and_then(Value::as_str) {
            Some(text) => text.to_owned(),
            None => panic!("no text {field:?} in the answer {}: {}", self.status, self.text()),
        }
    }
}

impl Index<&str> for Reply {
    type Output = Value;

    fn index(&self, field: &str) -> &Value {
        &self.json[field]
    }
}

/// Whether this is a JSON media type, such as `application/json` or `application/problem+json`.
fn json_of(headers: &HeaderMap, body: &[u8]) -> Value {
    let is_json = headers.get(CONTENT_TYPE).and_then(|v| v.to_str().ok()).is_some_and(|v| v.contains("json"));
    if is_json { serde_json::from_slice(body).unwrap_or(Value::Null) } else { Value::Null }
}

#[track_caller]
fn set(headers: &mut HeaderMap, name: &str, value: &str) {
    let name: HeaderName = name.parse().unwrap_or_else(|e| panic!("{name:?} is not a header name: {e}"));
    let value: HeaderValue = value.parse().unwrap_or_else(|e| panic!("{value:?} is not a header value: {e}"));
    headers.insert(name, value);
}
