//! A TCP connection to a server under test, for tests that send raw bytes.

use std::net::SocketAddr;

use tokio::net::TcpStream;

/// Connects to `addr`.
///
/// # Panics
/// When the connection is refused.
#[expect(clippy::disallowed_methods, reason = "a test is a client of ours, not a way out of the server")]
pub async fn dial(addr: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(addr).await.unwrap_or_else(|e| panic!("cannot connect to {addr}: {e}"));
    // Tests measure when packets arrive, so small packets must not be delayed.
    stream.set_nodelay(true).unwrap_or_else(|e| panic!("cannot set TCP_NODELAY: {e}"));
    stream
}
