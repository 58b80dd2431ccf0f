//! A connection: the accept loop hands it to HTTP, and HTTP hands it to a shard after an upgrade.

use std::fmt;
use std::io::{self, IoSlice};
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::server::TlsStream;

/// The layers that carry a connection's bytes.
#[derive(Debug)]
pub enum Io {
    /// Bare TCP.
    Plain(TcpStream),
    /// TLS, terminated here.
    Tls(Box<TlsStream<TcpStream>>),
}

impl Io {
    /// The TCP connection at the bottom.
    pub fn tcp(&self) -> &TcpStream {
        match self {
            Self::Plain(stream) => stream,
            Self::Tls(stream) => stream.get_ref().0,
        }
    }
}

/// A value to drop when the connection ends and not before, such as its permit under a limit. Code that takes a socket
/// apart must keep the guard for as long as the connection lives.
pub struct Guard(#[expect(dead_code, reason = "it is kept only to be dropped")] Box<dyn Send + Sync>);

impl Guard {
    /// A guard that keeps `what`.
    pub fn new(what: impl Send + Sync + 'static) -> Self {
        Self(Box::new(what))
    }
}

impl fmt::Debug for Guard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Guard")
    }
}

/// The address of the client that sent a request: the peer of its connection, or the address that a trusted proxy
/// states. The server's accept loop puts one into each request's extensions, if the address is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClientAddr(pub IpAddr);

/// A connection: bytes in both directions, and the guard that its end drops.
#[derive(Debug)]
pub struct Socket {
    io: Io,
    guard: Option<Guard>,
}

impl Socket {
    /// A connection whose end drops `guard`.
    pub fn new(io: Io, guard: Option<Guard>) -> Self {
        Self { io, guard }
    }

    /// Takes the socket apart, for callers with their own reader and writer. Keep the guard as long as the connection.
    pub fn into_parts(self) -> (Io, Option<Guard>) {
        (self.io, self.guard)
    }

    /// The address of the other end.
    ///
    /// # Errors
    /// When the connection has ended already.
    pub fn peer_addr(&self) -> io::Result<SocketAddr> {
        self.io.tcp().peer_addr()
    }

    /// The local address that accepted the connection.
    ///
    /// # Errors
    /// When the connection has ended already.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.io.tcp().local_addr()
    }
}

impl From<TcpStream> for Socket {
    fn from(stream: TcpStream) -> Self {
        Self::new(Io::Plain(stream), None)
    }
}

impl From<TlsStream<TcpStream>> for Socket {
    fn from(stream: TlsStream<TcpStream>) -> Self {
        Self::new(Io::Tls(Box::new(stream)), None)
    }
}

/// Calls the same method of whichever kind of connection it is.
macro_rules! pass_on {
    ($socket:expr, $method:ident($($argument:expr),*)) => {
        match &mut $socket.get_mut().io {
            Io::Plain(stream) => Pin::new(stream).$method($($argument),*),
            Io::Tls(stream) => Pin::new(stream.as_mut()).$method($($argument),*),
        }
    };
}

impl AsyncRead for Socket {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        pass_on!(self, poll_read(cx, buf))
    }
}

impl AsyncWrite for Socket {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        pass_on!(self, poll_write(cx, buf))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        pass_on!(self, poll_write_vectored(cx, bufs))
    }

    fn is_write_vectored(&self) -> bool {
        match &self.io {
            Io::Plain(stream) => stream.is_write_vectored(),
            Io::Tls(stream) => stream.is_write_vectored(),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        pass_on!(self, poll_flush(cx))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        pass_on!(self, poll_shutdown(cx))
    }
}
