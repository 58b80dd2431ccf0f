//! The route of a new connection: to one server, or with several nodes, to the node for its first request line.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::time::Instant;

/// The most bytes of a connection that are looked at.
const LOOK: usize = 256;
/// How long the first line may take. A client that sends nothing is served too.
const PATIENCE: Duration = Duration::from_millis(500);
/// The pause between two looks at an incomplete line.
const PAUSE: Duration = Duration::from_millis(2);
/// The first byte of a TLS handshake's record.
const TLS: u8 = 0x16;

/// The targets of connections. Only the first request of a connection decides, as with a TCP balancer, which does not
/// speak HTTP.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Route {
    /// For live sessions, and for encrypted connections, whose request cannot be read.
    pub(crate) sessions: SocketAddr,
    /// For all others.
    pub(crate) rest: SocketAddr,
}

impl Route {
    /// Everything to one server.
    pub(crate) fn to(target: SocketAddr) -> Self {
        Self { sessions: target, rest: target }
    }

    /// The target of this connection; its bytes stay unread.
    pub(super) async fn of(self, client: &TcpStream) -> SocketAddr {
        if self.sessions == self.rest {
            return self.rest;
        }
        let end = Instant::now() + PATIENCE;
        let mut begun = [0; LOOK];
        let mut len = 0;
        while !is_decided(&begun[..len]) {
            match tokio::time::timeout_at(end, client.peek(&mut begun)).await {
                Ok(Ok(more @ 1..)) => len = more,
                _ => break,
            }
            if !is_decided(&begun[..len]) {
                tokio::time::sleep(PAUSE).await;
            }
        }
        if is_session(&begun[..len]) { self.sessions } else { self.rest }
    }
}

/// Whether more bytes would not change the decision.
fn is_decided(begun: &[u8]) -> bool {
    begun.len() == LOOK || begun.first() == Some(&TLS) || begun.iter().any(u8::is_ascii_control)
}

fn is_session(begun: &[u8]) -> bool {
    if begun.first() == Some(&TLS) {
        return true;
    }
    let path = begun.strip_prefix(b"GET ").unwrap_or_default();
    let path = match path.strip_prefix(b"/a/") {
        Some(path) => path.iter().position(|byte| *byte == b'/').map_or(path, |end| &path[end..]),
        None => path,
    };
    path.starts_with(b"/app/") || path.starts_with(b"/v1/stream")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sessions_are_known_by_their_path() {
        for of_a_session in
            ["GET /app/key?protocol=7 HTTP/1.1\r\n", "GET /a/one/app/key", "GET /v1/stream?app=key", "\u{16}"]
        {
            assert!(is_session(of_a_session.as_bytes()), "{of_a_session}");
        }
        for other in
            ["POST /apps/1/events", "GET /apps/1/channels", "GET /a/app/v1/events", "GET /a/app", "POST /app/key", ""]
        {
            assert!(!is_session(other.as_bytes()), "{other}");
        }
    }

    #[test]
    fn a_line_is_waited_for_to_its_end() {
        assert!(!is_decided(b"") && !is_decided(b"GET /a/1"));
        assert!(is_decided(b"GET /\r") && is_decided(&[TLS]) && is_decided(&[b'x'; LOOK]));
    }
}
