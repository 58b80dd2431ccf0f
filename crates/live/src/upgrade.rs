//! From an HTTP request to the connection below it, once HTTP is done with it (RFC 9110 § 7.8).

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
    /// The connection has ended without it: before the answer was sent, or the answer was not 101.
    #[error("the connection was not upgraded")]
    Hyper(#[from] hyper::Error),
    /// The server that accepted it is not ours and not `axum::serve` on a `TcpListener`.
    #[error("the connection is of a kind that sessions cannot take over")]
    Foreign,
    /// Something else has [taken](crate::ConnHandle::take) it.
    #[error("the connection was taken over by another session")]
    Taken,
}

/// Takes out of a request what its connection will come by; `None` when the connection cannot be upgraded.
///
/// Call it before the request is answered, answer with 101, and hand it to [`upgraded`] in a task of its own: the
/// connection comes only after the answer has been sent.
pub fn take(extensions: &mut Extensions) -> Option<OnUpgrade> {
    extensions.remove::<OnUpgrade>()
}

/// Waits until the answer has been sent, and gives the connection with the bytes that the client had sent behind its
/// request. Those are a copy: what hyper read them into is freed here, and not kept for as long as the session lives.
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

/// Of a connection that `hyper::server::conn::http1` served.
fn direct<T: Read + Write + Unpin + 'static>(upgraded: Upgraded) -> Result<(T, Bytes), Upgraded> {
    upgraded.downcast::<T>().map(|parts| (parts.io, copied(&parts.read_buf)))
}

/// Of a connection that `hyper_util::server::conn::auto` served.
fn wrapped<T: Read + Write + Unpin + 'static>(upgraded: Upgraded) -> Result<(T, Bytes), Upgraded> {
    auto::upgrade::downcast::<T>(upgraded).map(|parts| (parts.io, copied(&parts.read_buf)))
}

/// Even an empty slice of hyper's read buffer would keep all of it: 5 to 8 KiB were measured per idle session.
fn copied(bytes: &Bytes) -> Bytes {
    Bytes::copy_from_slice(bytes)
}
