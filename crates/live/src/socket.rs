//! A connection as the accept loop hands it to HTTP, and HTTP, after an upgrade, to a shard.

use tokio::net::TcpStream;
use tokio_rustls::server::TlsStream;

/// A connection.
#[derive(Debug)]
pub enum Socket {
    /// Bare.
    Plain(TcpStream),
    /// With TLS that we end.
    Tls(Box<TlsStream<TcpStream>>),
}
