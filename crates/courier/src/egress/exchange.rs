//! One request and one response: their types, how a request is prepared, and how a body is read.
//!
//! Used by [`Egress::send`](super::Egress::send). It guarantees that only we set framing and hop-by-hop fields, that we
//! ask for no compression, and that no more of a body is held than its cap.

use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::header::{HeaderName, USER_AGENT};
use http::{HeaderMap, HeaderValue, Method, StatusCode, Uri};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use url::Url;

use super::error::{Refusal, SendError};
use super::failure;

/// A request to send. Its body is sent with a `Content-Length`.
pub struct Request {
    /// Any method but CONNECT.
    pub method: Method,
    /// The receiver's URL. Checked with [`Egress::check_url`](super::Egress::check_url) on each send.
    pub url: Url,
    /// Fields to send. `Host`, framing and hop-by-hop fields, `Accept-Encoding`, `Expect` and `Proxy-*` are left out.
    pub headers: HeaderMap,
    /// The whole body.
    pub body: Bytes,
    /// Whether header names are sent in title case (`X-Pusher-Key`) instead of lower case (`webhook-id`). HTTP ignores
    /// the case, but some receivers do not.
    pub title_case: bool,
    /// Whether it needs a new connection, since the same request has failed with [`SendError::Stale`].
    pub fresh: bool,
}

/// A request as the pool takes it.
pub(super) struct Outgoing {
    pub(super) request: http::Request<Full<Bytes>>,
    pub(super) title_case: bool,
    pub(super) fresh: bool,
}

/// Leaves out headers, body and the secret parts of the URL, so that a log line cannot leak them.
impl fmt::Debug for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Request")
            .field("method", &self.method)
            .field("host", &self.url.host_str())
            .field("body_bytes", &self.body.len())
            .finish_non_exhaustive()
    }
}

/// A response, whatever its status. Redirects arrive here like any other status, with their `Location`.
#[derive(Clone, Debug)]
pub struct Response {
    /// Never informational, except for 101 from a receiver that switches protocols unasked.
    pub status: StatusCode,
    /// At most 100 fields, within the configured number of bytes.
    pub headers: HeaderMap,
    /// The body, or its beginning.
    pub body: Bytes,
    /// True if there was more body than was kept.
    pub truncated: bool,
    /// The address that was vetted and dialled for the connection.
    pub remote: Option<SocketAddr>,
    /// From the call to the end of the body.
    pub elapsed: Duration,
}

/// Prepares a request for sending: removes the fields that are ours and adds the `User-Agent`.
pub(super) fn outgoing(request: Request, user_agent: &HeaderValue) -> Result<Outgoing, SendError> {
    if request.method == Method::CONNECT {
        return Err(Refusal::Malformed.into());
    }
    let uri = uri_of(&request.url)?;
    let mut headers = request.headers;
    if headers.keys().any(is_ours) {
        let ours: Vec<HeaderName> = headers.keys().filter(|n| is_ours(n)).cloned().collect();
        for name in ours {
            headers.remove(name);
        }
    }
    if !headers.contains_key(USER_AGENT) {
        headers.insert(USER_AGENT, user_agent.clone());
    }
    let mut outgoing = http::Request::new(Full::new(request.body));
    *outgoing.method_mut() = request.method;
    *outgoing.uri_mut() = uri;
    *outgoing.headers_mut() = headers;
    Ok(Outgoing { request: outgoing, title_case: request.title_case, fresh: request.fresh })
}

/// Reads `body` to its end or to `cap` bytes, whichever comes first; true if there was more. Dropping the body before
/// its end closes the connection.
pub(super) async fn read_body(mut body: Incoming, cap: usize) -> Result<(Bytes, bool), SendError> {
    let mut first = Bytes::new();
    // Most bodies are a single frame, which is passed on without a copy.
    let mut all: Option<BytesMut> = None;
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| failure::of_http(&error))?;
        let Ok(mut data) = frame.into_data() else {
            continue; // trailers
        };
        let kept = all.as_ref().map_or(first.len(), BytesMut::len);
        let truncated = data.len() > cap - kept;
        data.truncate(cap - kept);
        if kept == 0 {
            first = data;
        } else {
            all.get_or_insert_with(|| BytesMut::from(first.as_ref())).extend_from_slice(&data);
        }
        if truncated {
            return Ok((all.map_or(first, BytesMut::freeze), true));
        }
    }
    Ok((all.map_or(first, BytesMut::freeze), false))
}

/// The URI of `url`. The two parsers have to agree on the host and port, since one is vetted and the other is dialled.
fn uri_of(url: &Url) -> Result<Uri, Refusal> {
    let uri = Uri::try_from(url.as_str()).map_err(|_| Refusal::Malformed)?;
    if uri.host() != url.host_str() || uri.port_u16() != url.port() {
        return Err(Refusal::Malformed);
    }
    Ok(uri)
}

/// Fields that belong to the connection, not to the caller (RFC 9110, section 7.6.1), and `Accept-Encoding`: we never
/// decompress, so a response cannot be a decompression bomb.
fn is_ours(name: &HeaderName) -> bool {
    let name = name.as_str();
    matches!(
        name,
        "host"
            | "content-length"
            | "transfer-encoding"
            | "connection"
            | "keep-alive"
            | "te"
            | "trailer"
            | "upgrade"
            | "expect"
            | "accept-encoding"
    ) || name.starts_with("proxy-")
}
