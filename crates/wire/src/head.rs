//! The head of an HTTP/1.1 response, for responses that are written without an HTTP library.

use std::time::{Duration, SystemTime};

use bytes::{BufMut, BytesMut};
use http::header::DATE;
use http::{HeaderMap, StatusCode};
use tidings_model::clock::Millis;

/// The status line, `Date`, these headers and the blank line, without a body (RFC 9112 § 2.1). The headers must state
/// how the body is framed: `Content-Length`, `Transfer-Encoding`, or `Connection: close` where the body ends with the
/// connection.
pub fn response_head(status: StatusCode, headers: &HeaderMap, now: Millis) -> BytesMut {
    let since_epoch = Duration::from_millis(u64::try_from(now).unwrap_or(0));
    let date = httpdate::fmt_http_date(SystemTime::UNIX_EPOCH + since_epoch);
    let reason = status.canonical_reason().unwrap_or_default();
    let mut head = BytesMut::with_capacity(256);
    for part in ["HTTP/1.1 ", status.as_str(), " ", reason, "\r\n", DATE.as_str(), ": ", &date, "\r\n"] {
        head.put_slice(part.as_bytes());
    }
    for (name, value) in headers {
        for part in [name.as_str().as_bytes(), b": ", value.as_bytes(), b"\r\n"] {
            head.put_slice(part);
        }
    }
    head.put_slice(b"\r\n");
    head
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;
    use http::header::CONNECTION;

    use super::*;

    #[test]
    fn a_head_has_its_status_its_date_and_its_headers() {
        let mut headers = HeaderMap::new();
        headers.insert(CONNECTION, HeaderValue::from_static("close"));
        headers.insert("x-accel-buffering", HeaderValue::from_static("no"));
        let expected = "HTTP/1.1 200 OK\r\ndate: Sat, 21 Nov 2026 09:56:40 GMT\r\nconnection: close\r\n\
                        x-accel-buffering: no\r\n\r\n";
        assert_eq!(response_head(StatusCode::OK, &headers, 1_795_255_000_000), expected);
    }
}
