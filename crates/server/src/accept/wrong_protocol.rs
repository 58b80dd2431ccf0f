//! Recognizes connections in a protocol that is not served here, and logs them with a remedy.

use std::net::SocketAddr;

use super::log_throttle::LogThrottle;

/// The signature of the PROXY protocol, version 2.
const PROXY_2: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";

/// The protocol that a connection begins with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum WrongProtocol {
    /// The PROXY protocol, by which a load balancer names the client.
    Proxy,
    /// A TLS handshake, on a port without TLS.
    Tls,
    /// HTTP/2 without TLS.
    Http2,
    /// Something without TLS, on a port with TLS.
    Plain,
}

impl WrongProtocol {
    /// The wrong protocol in the first bytes of a connection, on a port with TLS or without; `None` if they may be
    /// right.
    pub(super) fn of(first: &[u8], tls: bool) -> Option<Self> {
        if first.starts_with(b"PROXY ") || first.starts_with(PROXY_2) {
            return Some(Self::Proxy);
        }
        match first {
            // A record of the handshake, of any version (RFC 8446 § 5.1).
            [0x16] => None,
            [0x16, 0x03, ..] if tls => None,
            [0x16, 0x03, ..] => Some(Self::Tls),
            [_, ..] if tls => Some(Self::Plain),
            _ => first.starts_with(b"PRI * HTTP/2").then_some(Self::Http2),
        }
    }

    /// The protocol's name and the remedy.
    fn words(self) -> (&'static str, &'static str) {
        match self {
            Self::Proxy => (
                "the PROXY protocol",
                "turn it off for this server in the proxy (HAProxy: send-proxy, nginx: proxy_protocol, AWS: Proxy \
                protocol v2); X-Forwarded-For and trusted_proxies name clients",
            ),
            Self::Tls => ("TLS", "use http:// and ws:// for this port, or set cert and key in [tls]"),
            Self::Http2 => ("HTTP/2", "use HTTP/1.1 for this server"),
            Self::Plain => ("no TLS", "use https:// and wss:// for this port, or take cert and key out of [tls]"),
        }
    }
}

/// Logs such connections, at a limited rate.
#[derive(Debug, Default)]
pub(super) struct WrongProtocolLog(LogThrottle);

impl WrongProtocolLog {
    pub(super) fn note(&self, what: WrongProtocol, peer: SocketAddr) {
        if let Some(suppressed) = self.0.due() {
            let (protocol, remedy) = what.words();
            tracing::warn!(peer = %peer.ip(), protocol, remedy, suppressed, "connection in a protocol not served here");
        }
    }
}

/// The answer to plain HTTP on a port with TLS.
pub(super) const PLAIN_ANSWER: &[u8] =
    b"HTTP/1.1 400 Bad Request\r\ncontent-type: text/plain\r\ncontent-length: 45\r\n\
    connection: close\r\n\r\nThis port has TLS: use https:// and wss://.\r\n";

#[cfg(test)]
mod tests {
    use super::*;

    // covers: G223
    #[test]
    fn what_is_no_http_is_known_by_its_first_bytes() {
        let hello = b"\x16\x03\x01\x02\0\x01\0";
        for (first, without_tls, with_tls) in [
            (&hello[..], Some(WrongProtocol::Tls), None),
            (b"\x16\x03\x03", Some(WrongProtocol::Tls), None),
            (b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\n", Some(WrongProtocol::Proxy), Some(WrongProtocol::Proxy)),
            (b"PROXY UNKNOWN\r\n", Some(WrongProtocol::Proxy), Some(WrongProtocol::Proxy)),
            (b"\r\n\r\n\0\r\nQUIT\n\x21\x11", Some(WrongProtocol::Proxy), Some(WrongProtocol::Proxy)),
            (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", Some(WrongProtocol::Http2), Some(WrongProtocol::Plain)),
            (b"GET / HTTP/1.1\r\n", None, Some(WrongProtocol::Plain)),
            (b"PROXYX", None, Some(WrongProtocol::Plain)),
            (b"\r\nGET / HTTP/1.1\r\n", None, Some(WrongProtocol::Plain)),
            (b"", None, None),
            (b"\x16", None, None),
        ] {
            assert_eq!(WrongProtocol::of(first, false), without_tls, "{first:?}");
            assert_eq!(WrongProtocol::of(first, true), with_tls, "{first:?}");
        }
    }

    #[test]
    fn the_answer_without_tls_is_framed() {
        let text = std::str::from_utf8(PLAIN_ANSWER).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        assert!(head.contains(&format!("content-length: {}", body.len())), "{head} {}", body.len());
    }
}
