//! What carries a session's bytes: a bare socket, a socket with TLS, or the body of an HTTP response.

mod pipe;
mod tls;
mod write_outcome;

use std::io::{self, IoSlice, Read as _, Write as _};
use std::net::Shutdown;

use mio::Registry;
use mio::net::TcpStream;
use mio::{Interest, Token};
use socket2::SockRef;

pub(crate) use pipe::{Pipe, StreamReader, StreamWriter};
pub(crate) use tls::Tls;
pub(crate) use write_outcome::WriteOutcome;

use crate::settings::Settings;
use crate::socket::Io;

/// A connection, seen from a shard.
#[derive(Debug)]
pub(crate) enum Transport {
    Plain(TcpStream),
    Tls(Box<Tls>),
    Stream(StreamWriter),
}

impl Transport {
    /// Takes a socket out of tokio's hands.
    ///
    /// # Errors
    /// When the socket is broken already.
    pub(crate) fn of(io: Io, settings: &Settings) -> io::Result<Self> {
        let bare = |socket: tokio::net::TcpStream| {
            let socket = socket.into_std()?;
            let options = SockRef::from(&socket);
            options.set_tcp_nodelay(true)?;
            if settings.send_buffer > 0 {
                options.set_send_buffer_size(settings.send_buffer)?;
            }
            if !settings.user_timeout.is_zero() {
                options.set_tcp_user_timeout(Some(settings.user_timeout))?;
            }
            Ok::<_, io::Error>(TcpStream::from_std(socket))
        };
        match io {
            Io::Plain(socket) => bare(socket).map(Self::Plain),
            Io::Tls(stream) => {
                let (socket, session) = stream.into_inner();
                Ok(Self::Tls(Box::new(Tls::new(bare(socket)?, session))))
            }
        }
    }

    /// Registers the socket for all events, edge-triggered, so that the registration never changes.
    pub(crate) fn register(&mut self, registry: &Registry, token: Token) -> io::Result<()> {
        let interest = Interest::READABLE | Interest::WRITABLE;
        match self {
            Self::Plain(socket) => registry.register(socket, token, interest),
            Self::Tls(tls) => registry.register(tls.socket(), token, interest),
            Self::Stream(_) => Ok(()),
        }
    }

    /// Reads; 0 means the end of the stream.
    ///
    /// # Errors
    /// `WouldBlock`: nothing to read now. Anything else: the connection is broken.
    pub(crate) fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(socket) => socket.read(into),
            Self::Tls(tls) => tls.read(into),
            Self::Stream(_) => Err(io::ErrorKind::WouldBlock.into()),
        }
    }

    /// Whether a read that doesn't fill its buffer has emptied the socket (epoll(7), question 9).
    pub(crate) fn a_short_read_empties(&self) -> bool {
        matches!(self, Self::Plain(_))
    }

    /// Writes as many of these bytes as the transport takes now.
    ///
    /// # Errors
    /// `WouldBlock`: nothing was written. Anything else: the connection is broken.
    #[inline]
    pub(crate) fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Plain(socket) => socket.write(bytes),
            Self::Tls(tls) => tls.write(&[IoSlice::new(bytes)]),
            Self::Stream(_) => Err(io::ErrorKind::Unsupported.into()),
        }
    }

    /// As [`Transport::write`], for several pieces.
    pub(crate) fn write_vectored(&mut self, pieces: &[IoSlice<'_>]) -> io::Result<usize> {
        match self {
            Self::Plain(socket) => socket.write_vectored(pieces),
            Self::Tls(tls) => tls.write(pieces),
            Self::Stream(_) => Err(io::ErrorKind::Unsupported.into()),
        }
    }

    /// Sends on bytes that a layer below still holds. True: nothing is left there.
    pub(crate) fn flush(&mut self) -> io::Result<bool> {
        match self {
            Self::Tls(tls) => tls.flush(),
            Self::Plain(_) | Self::Stream(_) => Ok(true),
        }
    }

    /// Closes the writing side. False: call it again when the socket is writable.
    pub(crate) fn finish(&mut self) -> io::Result<bool> {
        match self {
            Self::Plain(socket) => socket.shutdown(Shutdown::Write).map(|()| true),
            Self::Tls(tls) => tls.finish(),
            Self::Stream(writer) => {
                writer.end();
                Ok(true)
            }
        }
    }
}
