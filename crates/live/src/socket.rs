//! A connection as the accept loop hands it to HTTP, and HTTP, after an upgrade, to a shard.

use std::fmt;
use std::io::{self, IoSlice};
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::server::TlsStream;

/// What a connection's bytes go through.
#[derive(Debug)]
pub enum Io {
    /// Bare.
    Plain(TcpStream),
    /// With TLS that we end.
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

/// Something that is to be dropped when the connection ends, and not before: its permit under a limit. Whoever takes a
/// socket apart keeps it for as long as the connection lives.
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

/// Who sent a request, as far as that is known: the other end of its connection, or whom a proxy names that is trusted.
/// The server's accept loop puts one among each request's extensions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClientAddr(pub IpAddr);

/// A connection: bytes in both directions, and what its end sets free.
#[derive(Debug)]
pub struct Socket {
    io: Io,
    guard: Option<Guard>,
}

impl Socket {
    /// A connection whose end sets `guard` free.
    pub fn new(io: Io, guard: Option<Guard>) -> Self {
        Self { io, guard }
    }

    /// Takes it apart, for a reader and writer of one's own. The guard is to be kept as long as the connection.
    pub fn into_parts(self) -> (Io, Option<Guard>) {
        (self.io, self.guard)
    }

    /// Who is at the other end.
    ///
    /// # Errors
    /// When the connection has ended already.
    pub fn peer_addr(&self) -> io::Result<SocketAddr> {
        self.io.tcp().peer_addr()
    }

    /// Where it was accepted.
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
