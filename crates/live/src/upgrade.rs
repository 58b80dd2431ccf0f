//! Upgrades: from an HTTP request to the connection below it, once the response is sent (RFC 9110 § 7.8).

use bytes::Bytes;
use http::Extensions;
use hyper::rt::{Read, Write};
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use hyper_util::server::conn::auto;
use tokio::net::TcpStream;

use crate::hijack::BorrowedConn;
use crate::socket::Socket;

/// Why there is no connection to take over.
#[derive(Debug, thiserror::Error)]
pub enum UpgradeError {
    /// The connection ended without an upgrade: before the response was sent, or the response was not 101.
    #[error("the connection was not upgraded")]
    Hyper(#[from] hyper::Error),
    /// The server that accepted it is not ours and not `axum::serve` on a `TcpListener`.
    #[error("the connection is of a kind that sessions cannot take over")]
    Foreign,
    /// Another session has [taken](crate::ConnHandle::take) it.
    #[error("the connection was taken over by another session")]
    Taken,
}

/// Takes the pending upgrade out of a request's extensions; `None` when the connection cannot be upgraded.
///
/// Call it before the request is answered, answer with 101, and pass the result to [`upgraded`] in a task of its own:
/// the connection is available only after the response has been sent.
pub fn take(extensions: &mut Extensions) -> Option<OnUpgrade> {
    extensions.remove::<OnUpgrade>()
}

/// Waits until the response has been sent, and returns the connection with the bytes that the client sent behind its
/// request. The bytes are a copy, so that hyper's read buffer is freed here and not kept as long as the session lives.
///
/// # Errors
/// When the connection ends first, or is not one that we know how to take over.
pub async fn upgraded(on: OnUpgrade) -> Result<(Socket, Bytes), UpgradeError> {
    let upgraded = on.await?;
    // Our own accept loop, then `axum::serve`, which wraps the connection.
    let upgraded = match direct::<TokioIo<BorrowedConn>>(upgraded) {
        Ok((io, early)) => return returned(io, early),
        Err(upgraded) => upgraded,
    };
    let upgraded = match direct::<TokioIo<TcpStream>>(upgraded) {
        Ok((io, early)) => return Ok((Socket::from(io.into_inner()), early)),
        Err(upgraded) => upgraded,
    };
    let upgraded = match wrapped::<TokioIo<TcpStream>>(upgraded) {
        Ok((io, early)) => return Ok((Socket::from(io.into_inner()), early)),
        Err(upgraded) => upgraded,
    };
    match wrapped::<TokioIo<BorrowedConn>>(upgraded) {
        Ok((io, early)) => returned(io, early),
        Err(_) => Err(UpgradeError::Foreign),
    }
}

fn returned(io: TokioIo<BorrowedConn>, early: Bytes) -> Result<(Socket, Bytes), UpgradeError> {
    let (socket, unread) = io.into_inner().into_inner().ok_or(UpgradeError::Taken)?;
    let early = if unread.is_empty() { early } else { [early, unread].concat().into() };
    Ok((socket, early))
}

/// Unwraps a connection that `hyper::server::conn::http1` served.
fn direct<T: Read + Write + Unpin + 'static>(upgraded: Upgraded) -> Result<(T, Bytes), Upgraded> {
    upgraded.downcast::<T>().map(|parts| (parts.io, copied(&parts.read_buf)))
}

/// Unwraps a connection that `hyper_util::server::conn::auto` served.
fn wrapped<T: Read + Write + Unpin + 'static>(upgraded: Upgraded) -> Result<(T, Bytes), Upgraded> {
    auto::upgrade::downcast::<T>(upgraded).map(|parts| (parts.io, copied(&parts.read_buf)))
}

/// Copies, because even an empty slice would keep all of hyper's read buffer: 5 to 8 KiB per idle session, measured.
fn copied(bytes: &Bytes) -> Bytes {
    Bytes::copy_from_slice(bytes)
}
