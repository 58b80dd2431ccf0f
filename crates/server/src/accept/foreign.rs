//! Connections that speak something else than what is spoken here: told in the log, with what to do about it.

use std::net::SocketAddr;

use super::notice::Notice;

/// PROXY protocol, version 2: its signature.
const PROXY_2: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";

/// What a connection begins with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Foreign {
    /// A load balancer's note about who connects.
    Proxy,
    /// A TLS handshake, where there is no TLS.
    Tls,
    /// HTTP/2 without TLS.
    Http2,
    /// Something without TLS, where there is nothing else.
    Plain,
}

impl Foreign {
    /// What these first bytes of a connection are, where it has TLS or not; `None` if they may well be right.
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

/// Writes of them to the log, once in a while.
#[derive(Debug, Default)]
pub(super) struct Foreigners(Notice);

impl Foreigners {
    pub(super) fn note(&self, what: Foreign, peer: SocketAddr) {
        if let Some(suppressed) = self.0.due() {
            let (speaks, remedy) = what.words();
            tracing::warn!(peer = %peer.ip(), speaks, remedy, suppressed, "a connection does not speak HTTP/1.1 as it \
                is served here");
        }
    }
}

/// The answer to whoever speaks HTTP where there is TLS only.
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
            (&hello[..], Some(Foreign::Tls), None),
            (b"\x16\x03\x03", Some(Foreign::Tls), None),
            (b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\n", Some(Foreign::Proxy), Some(Foreign::Proxy)),
            (b"PROXY UNKNOWN\r\n", Some(Foreign::Proxy), Some(Foreign::Proxy)),
            (b"\r\n\r\n\0\r\nQUIT\n\x21\x11", Some(Foreign::Proxy), Some(Foreign::Proxy)),
            (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", Some(Foreign::Http2), Some(Foreign::Plain)),
            (b"GET / HTTP/1.1\r\n", None, Some(Foreign::Plain)),
            (b"PROXYX", None, Some(Foreign::Plain)),
            (b"\r\nGET / HTTP/1.1\r\n", None, Some(Foreign::Plain)),
            (b"", None, None),
            (b"\x16", None, None),
        ] {
            assert_eq!(Foreign::of(first, false), without_tls, "{first:?}");
            assert_eq!(Foreign::of(first, true), with_tls, "{first:?}");
        }
    }

    #[test]
    fn the_answer_without_tls_is_framed() {
        let text = std::str::from_utf8(PLAIN_ANSWER).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        assert!(head.contains(&format!("content-length: {}", body.len())), "{head} {}", body.len());
    }
}
