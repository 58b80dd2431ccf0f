//! Reads requests that need little of HTTP: a `POST` with a short body, as every publish is.
//!
//! The reader leaves any other request to an HTTP library, with all bytes received so far: another method, a chunked
//! body, an upgrade, a malformed head. So it may be strict. However slowly a request arrives, the work is linear in its
//! bytes: a head is parsed once, when its last line has arrived, and a body is only counted.

use bytes::{Buf, Bytes, BytesMut};
use http::header::{CONNECTION, CONTENT_LENGTH, EXPECT, TRANSFER_ENCODING, UPGRADE};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Uri};

/// The first bytes of every request that this reader takes.
const METHOD: &[u8] = b"POST ";
/// The longest head, in bytes.
const MAX_HEAD: usize = 8 << 10;
/// The longest body, in bytes. A longer body goes through the HTTP library, where the request's handler has its limit.
const MAX_BODY: usize = 64 << 10;
/// The most header lines.
const MAX_LINES: usize = 32;

/// Why a connection's bytes do not give a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoPost {
    /// They are no such request, or may be none. No byte was taken.
    Other,
    /// The request is incomplete.
    Partial {
        /// At most this many of the next bytes belong to the head, or to the body.
        needed: usize,
        /// The head is complete.
        has_head: bool,
    },
}

/// Reads one connection's requests.
#[derive(Debug, Default)]
pub struct PostReader {
    /// How many bytes at the front are known not to hold the end of the head.
    searched: usize,
    /// A parsed head whose body is incomplete: the request, the head's length and the body's length.
    head: Option<(Request<Bytes>, usize, usize)>,
    #[cfg(test)]
    steps: usize,
}

impl PostReader {
    /// Takes a request off the front of a connection's bytes. Between two calls, bytes may only be appended.
    ///
    /// # Errors
    /// [`NoPost`]; the buffer is then unchanged.
    pub fn next(&mut self, buffer: &mut BytesMut) -> Result<Request<Bytes>, NoPost> {
        let (request, head, body) = match self.head.take() {
            Some(parsed) => parsed,
            None => self.parse(buffer)?,
        };
        let missing = (head + body).saturating_sub(buffer.len());
        if missing > 0 {
            self.head = Some((request, head, body));
            return Err(NoPost::Partial { needed: missing, has_head: true });
        }
        // A copy, so that a body that is kept for long does not keep the read buffer.
        let bytes = Bytes::copy_from_slice(&buffer[head..head + body]);
        buffer.advance(head + body);
        self.searched = 0;
        Ok(request.map(|_| bytes))
    }

    fn parse(&mut self, buffer: &[u8]) -> Result<(Request<Bytes>, usize, usize), NoPost> {
        let known = buffer.len().min(METHOD.len());
        if buffer[..known] != METHOD[..known] {
            return Err(NoPost::Other);
        }
        if !self.finds_end(buffer) {
            let needed = MAX_HEAD.checked_sub(buffer.len()).filter(|needed| *needed > 0).ok_or(NoPost::Other)?;
            return Err(NoPost::Partial { needed, has_head: false });
        }
        let mut lines = [httparse::EMPTY_HEADER; MAX_LINES];
        let mut parsed = httparse::Request::new(&mut lines);
        let Ok(httparse::Status::Complete(head @ ..=MAX_HEAD)) = parsed.parse(buffer) else {
            return Err(NoPost::Other);
        };
        self.count(head);
        let (request, body) = plain_request(&parsed).ok_or(NoPost::Other)?;
        Ok((request, head, body))
    }

    fn finds_end(&mut self, buffer: &[u8]) -> bool {
        self.count(buffer.len() - self.searched);
        let found = has_head_end(buffer, self.searched);
        self.searched = buffer.len();
        found
    }

    #[cfg(test)]
    fn count(&mut self, steps: usize) {
        self.steps += steps;
    }

    #[cfg(not(test))]
    #[expect(clippy::unused_self, reason = "only tests count")]
    fn count(&self, _: usize) {}
}

/// Whether the bytes hold the empty line that ends a head. The first `searched` bytes are known not to hold it.
pub fn has_head_end(bytes: &[u8], searched: usize) -> bool {
    let is_end = |at: usize| matches!(bytes[..at], [.., b'\n'] | [.., b'\n', b'\r']);
    bytes.iter().enumerate().skip(searched).any(|(at, byte)| *byte == b'\n' && is_end(at))
}

/// The head of a plain request, and how long its body is; `None` if it is not plain.
fn plain_request(parsed: &httparse::Request<'_, '_>) -> Option<(Request<Bytes>, usize)> {
    if parsed.version != Some(1) {
        return None;
    }
    let mut headers = HeaderMap::with_capacity(MAX_LINES / 2);
    for line in &*parsed.headers {
        let name = HeaderName::from_bytes(line.name.as_bytes()).ok()?;
        headers.append(name, HeaderValue::from_bytes(line.value).ok()?);
    }
    // Every `Connection` line counts (RFC 9110 § 7.6.1).
    let keeps = headers.get_all(CONNECTION).iter().all(|value| value.as_bytes().eq_ignore_ascii_case(b"keep-alive"));
    let is_framed_by_length = [TRANSFER_ENCODING, EXPECT, UPGRADE].iter().all(|name| !headers.contains_key(name));
    if !keeps || !is_framed_by_length {
        return None;
    }
    let mut lengths = headers.get_all(CONTENT_LENGTH).iter();
    let (Some(length), None) = (lengths.next(), lengths.next()) else { return None };
    // Digits only: `parse` would also accept a sign.
    let length = length.to_str().ok().filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()))?;
    let length = length.parse().ok().filter(|length| *length <= MAX_BODY)?;
    let mut request = Request::new(Bytes::new());
    *request.method_mut() = Method::POST;
    *request.uri_mut() = Uri::try_from(parsed.path?).ok()?;
    *request.headers_mut() = headers;
    Some((request, length))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a connection begins with, and what is left of it.
    fn taken(bytes: &[u8]) -> (&'static str, BytesMut) {
        let mut buffer = BytesMut::from(bytes);
        let kind = match PostReader::default().next(&mut buffer) {
            Ok(_) => "request",
            Err(NoPost::Partial { has_head: false, .. }) => "head",
            Err(NoPost::Partial { has_head: true, .. }) => "body",
            Err(NoPost::Other) => "other",
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
            "POST /x HTTP/1.1\n\n".to_owned(),
            post("X: y"),
            post("Transfer-Encoding: chunked"),
            with("Transfer-Encoding: chunked"),
            with("Expect: 100-continue"),
            with("Upgrade: websocket"),
            with("Connection: close"),
            with("Connection: keep-alive, Upgrade"),
            with("Connection: keep-alive\r\nConnection: close"),
            with("Connection: keep-alive\r\nX: y\r\nConnection: X"),
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
            "POST /".to_owned() + &"x".repeat(MAX_HEAD),
        ] {
            assert_eq!(taken(unusual.as_bytes()), ("other", unusual.as_bytes().into()), "{unusual:?}");
        }
        for usual in ["Connection: Keep-Alive", "Content-Type: a/b", "X-Forwarded-For: 1.2.3.4"] {
            assert_eq!(taken(with(usual).as_bytes()).0, "request", "{usual}");
        }
    }

    // covers: G0291
    #[test]
    fn the_work_is_linear_in_what_was_sent_however_it_was_cut() {
        let filler = "X: y\r\n".repeat(10) + "Y: " + &"y".repeat(7_000);
        let head = format!("POST /x HTTP/1.1\r\nHost: h\r\nContent-Length: {MAX_BODY}\r\n{filler}\r\n\r\n");
        let whole = [head.as_bytes(), &vec![b'x'; MAX_BODY], head.as_bytes(), &vec![b'x'; MAX_BODY]].concat();
        for piece in [1, 7, 1_000, whole.len()] {
            let (mut reader, mut buffer, mut requests) = (PostReader::default(), BytesMut::new(), 0);
            for bytes in whole.chunks(piece) {
                buffer.extend_from_slice(bytes);
                while let Ok(request) = reader.next(&mut buffer) {
                    assert_eq!(request.body().len(), MAX_BODY);
                    requests += 1;
                }
            }
            assert_eq!((requests, buffer.len()), (2, 0), "in pieces of {piece}");
            assert!(reader.steps <= 2 * whole.len(), "{} steps for {} bytes", reader.steps, whole.len());
        }
    }
}
