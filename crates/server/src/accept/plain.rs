//! Requests that need little of HTTP: a `POST` with a short body, as every publish is. They are read, answered and
//! written here, for half of what hyper takes.
//!
//! A connection begins here. At the first request that is anything else (another method, a body in chunks, an upgrade, a
//! malformed head) the rest of it is hyper's, with all that has been read of that request. So whatever is unusual has one
//! judge, and what is here may be strict: what it does not fully understand it does not answer.

use std::net::SocketAddr;

use axum::body::Body;
use axum::response::Response;
use bytes::{Buf, Bytes, BytesMut};
use http::header::{CONNECTION, CONTENT_LENGTH, EXPECT, TRANSFER_ENCODING, UPGRADE};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, StatusCode, Uri};
use http_body_util::BodyExt;
use tidings_live::Socket;
use tidings_model::clock::{Clock, SystemClock};
use tidings_wire::response_head;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::{Instant, sleep};

use super::connection::{Service, answer};

/// How every request here begins.
const BEGINNING: &[u8] = b"POST ";
/// What is read at once, and the longest head.
const READ: usize = 8 << 10;
/// The longest body. Of one that is longer it is its handler who says whether it may be.
const MAX_BODY: usize = 64 << 10;
/// The most header lines.
const MAX_LINES: usize = 32;

/// Answers requests for as long as they are plain. Gives what has been read of the first that isn't; `None` when the
/// connection has ended.
pub(super) async fn serve(socket: &mut Socket, peer: SocketAddr, service: &Service) -> Option<Bytes> {
    let clock = SystemClock::new();
    let mut buffer = BytesMut::new();
    let mut patience = std::pin::pin!(sleep(service.header_timeout));
    let mut stopping = std::pin::pin!(service.stopping.cancelled());
    loop {
        let request = loop {
            let (needed, has_begun) = match next(&mut buffer) {
                Ok(request) => break request,
                Err(Not::Plain) => return Some(buffer.freeze()),
                Err(Not::Whole { needed, has_begun }) => (needed, has_begun),
            };
            buffer.reserve(needed);
            let read = tokio::select! {
                biased;
                read = socket.read_buf(&mut buffer) => Some(read.ok()?),
                () = &mut patience => None,
                () = &mut stopping => None,
            };
            match read {
                Some(1..) => {}
                // What has begun takes its time by hyper's rules.
                None if has_begun => return Some(buffer.freeze()),
                _ => return None,
            }
        };
        let response = answer(service, request, peer).await;
        let closes = response.headers().contains_key(CONNECTION);
        let message = written(response, &clock).await?;
        socket.write_all(&message).await.ok()?;
        if closes {
            return None;
        }
        patience.as_mut().reset(Instant::now() + service.header_timeout);
    }
}

/// What a connection's bytes do not begin with.
enum Not {
    /// A request that is plain.
    Plain,
    /// All of it. So many bytes are read next, at most; its body has begun, or all of its head is there.
    Whole { needed: usize, has_begun: bool },
}

/// Takes a plain request out of a connection's bytes.
fn next(buffer: &mut BytesMut) -> Result<Request<Body>, Not> {
    let known = buffer.len().min(BEGINNING.len());
    if buffer[..known] != BEGINNING[..known] {
        return Err(Not::Plain);
    }
    let mut lines = [httparse::EMPTY_HEADER; MAX_LINES];
    let mut parsed = httparse::Request::new(&mut lines);
    let head = match parsed.parse(buffer) {
        Ok(httparse::Status::Complete(head)) => head,
        Ok(httparse::Status::Partial) if buffer.len() < READ => {
            return Err(Not::Whole { needed: READ - buffer.len(), has_begun: false });
        }
        _ => return Err(Not::Plain),
    };
    let (mut request, body) = understood(&parsed).ok_or(Not::Plain)?;
    let missing = (head + body).saturating_sub(buffer.len());
    if missing > 0 {
        return Err(Not::Whole { needed: missing, has_begun: true });
    }
    // A copy: what is kept of a body, for whatever time, keeps no buffer of ours.
    *request.body_mut() = Body::from(Bytes::copy_from_slice(&buffer[head..head + body]));
    buffer.advance(head + body);
    Ok(request)
}

/// The head of a plain request, and how long its body is; `None` if it is not plain.
fn understood(parsed: &httparse::Request<'_, '_>) -> Option<(Request<Body>, usize)> {
    if parsed.version != Some(1) {
        return None;
    }
    let mut headers = HeaderMap::with_capacity(MAX_LINES / 2);
    for line in &*parsed.headers {
        let name = HeaderName::from_bytes(line.name.as_bytes()).ok()?;
        headers.append(name, HeaderValue::from_bytes(line.value).ok()?);
    }
    let keeps = headers.get(CONNECTION).is_none_or(|value| value.as_bytes().eq_ignore_ascii_case(b"keep-alive"));
    let is_framed_by_length = [TRANSFER_ENCODING, EXPECT, UPGRADE].iter().all(|name| !headers.contains_key(name));
    if !keeps || !is_framed_by_length {
        return None;
    }
    let mut lengths = headers.get_all(CONTENT_LENGTH).iter();
    let (Some(length), None) = (lengths.next(), lengths.next()) else { return None };
    // A number in digits: `parse` would take a sign, too.
    let length = length.to_str().ok().filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()))?;
    let length = length.parse().ok().filter(|length| *length <= MAX_BODY)?;
    let mut request = Request::new(Body::empty());
    *request.method_mut() = Method::POST;
    *request.uri_mut() = Uri::try_from(parsed.path?).ok()?;
    *request.headers_mut() = headers;
    Some((request, length))
}

/// A response as bytes; `None` if its body breaks off.
async fn written(response: Response, clock: &SystemClock) -> Option<BytesMut> {
    let (mut parts, body) = response.into_parts();
    let body = body.collect().await.ok()?.to_bytes();
    // What has no body by its status has no length of one either (RFC 9110, section 8.6).
    if parts.status == StatusCode::NO_CONTENT {
        parts.headers.remove(CONTENT_LENGTH);
    } else {
        parts.headers.insert(CONTENT_LENGTH, body.len().into());
    }
    let mut message = response_head(parts.status, &parts.headers, clock.wall_ms());
    message.extend_from_slice(&body);
    Some(message)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a connection begins with, and what is left of it.
    fn taken(bytes: &[u8]) -> (&'static str, BytesMut) {
        let mut buffer = BytesMut::from(bytes);
        let kind = match next(&mut buffer) {
            Ok(_) => "request",
            Err(Not::Whole { has_begun: false, .. }) => "head",
            Err(Not::Whole { has_begun: true, .. }) => "body",
            Err(Not::Plain) => "other",
        };
        (kind, buffer)
    }

    const PLAIN: &[u8] = b"POST /x?a=1 HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\n\r\n{}";

    #[test]
    fn a_plain_request_is_taken_once_all_of_it_is_there() {
        let head = PLAIN.len() - 2;
        for length in 0..PLAIN.len() {
            let expected = if length < head { "head" } else { "body" };
            assert_eq!(taken(&PLAIN[..length]), (expected, PLAIN[..length].into()), "{length}");
        }
        assert_eq!(taken(PLAIN), ("request", BytesMut::new()));
        assert_eq!(taken(&[PLAIN, b"POST /"].concat()), ("request", b"POST /"[..].into()), "the next one stays");
    }

    #[test]
    fn whatever_is_unusual_is_left_as_it_came() {
        let post = |line: &str| format!("POST /x HTTP/1.1\r\nHost: h\r\n{line}\r\n\r\n");
        let with = |line: &str| post(&format!("Content-Length: 2\r\n{line}")) + "{}";
        let lines = "X: y\r\n".repeat(MAX_LINES) + "Content-Length: 0";
        for unusual in [
            "GET / HTTP/1.1\r\n\r\n".to_owned(),
            "P".repeat(2),
            "POST /x HTTP/1.0\r\nContent-Length: 0\r\n\r\n".to_owned(),
            "POST  HTTP/1.1\r\n\r\n".to_owned(),
            post("X: y"),
            post("Transfer-Encoding: chunked"),
            with("Transfer-Encoding: chunked"),
            with("Expect: 100-continue"),
            with("Upgrade: websocket"),
            with("Connection: close"),
            with("Connection: keep-alive, Upgrade"),
            with("Content-Length: 2"),
            post("Content-Length: +2"),
            post("Content-Length: 2, 2"),
            post("Content-Length: "),
            post("Content-Length: 65537"),
            post("Content-Length: 99999999999999999999999"),
            with("X : y"),
            with("X: a\r\n folded"),
            with("X: a\0"),
            post(&lines),
            "POST /".to_owned() + &"x".repeat(READ),
        ] {
            assert_eq!(taken(unusual.as_bytes()), ("other", unusual.as_bytes().into()), "{unusual:?}");
        }
        for usual in ["Connection: Keep-Alive", "Content-Type: a/b", "X-Forwarded-For: 1.2.3.4"] {
            assert_eq!(taken(with(usual).as_bytes()).0, "request", "{usual}");
        }
    }
}
