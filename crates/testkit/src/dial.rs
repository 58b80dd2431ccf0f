//! A plain connection to a server under test, for tests that speak bytes.

use std::net::SocketAddr;

use tokio::net::TcpStream;

/// Connects to `addr`.
///
/// # Panics
/// When nobody listens there.
#[expect(clippy::disallowed_methods, reason = "a test is a client of ours, not a way out of the server")]
pub async fn dial(addr: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(addr).await.unwrap_or_else(|e| panic!("cannot connect to {addr}: {e}"));
    // Tests count what arrives; a delayed small packet would only blur the times.
    stream.set_nodelay(true).unwrap_or_else(|e| panic!("cannot set TCP_NODELAY: {e}"));
    stream
}
