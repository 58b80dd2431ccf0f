//! Takes a connection away from HTTP in the middle of a request ("hijack"), so that a response without an end becomes a
//! session.
//!
//! hyper releases a connection only for an upgrade, and a stream of events is none (WHATWG HTML, "Server-sent events").
//! As a response of hyper's, a stream costs two buffers of 8 KiB and a task. So the accept loop gives hyper a
//! [`BorrowedConn`]. A handler may take the socket back with its [`ConnHandle`] instead of answering; hyper then sees a
//! closed connection.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::HeaderValue;
use http::header::CONNECTION;
use http::response::Parts;
use parking_lot::Mutex;
use tidings_model::clock::Millis;
use tidings_wire::response_head;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::socket::Socket;

/// Takes the connection of a request. The server's accept loop puts one into each request's extensions.
#[derive(Debug, Clone)]
pub struct ConnHandle(Arc<Borrowed>);

#[derive(Debug)]
struct Borrowed {
    socket: Mutex<Option<Socket>>,
    /// HTTP has read something since it last wrote.
    unanswered: AtomicBool,
}

impl ConnHandle {
    /// Takes the connection, unless it has been taken.
    ///
    /// Call it once the request has been read whole. Bytes that the client has already sent behind the request are
    /// lost: a response without an end leaves no room for another request.
    pub fn take(&self) -> Option<Socket> {
        self.0.socket.lock().take()
    }

    /// Whether the connection has been taken, so that HTTP has no client left to answer.
    pub fn is_taken(&self) -> bool {
        self.0.socket.lock().is_none()
    }

    /// Whether HTTP has read something since it last wrote: a request, or the beginning of one.
    pub fn is_unanswered(&self) -> bool {
        self.0.unanswered.load(Relaxed)
    }
}

/// The connection as HTTP sees it: closed once a [`ConnHandle`] has taken the socket.
#[derive(Debug)]
pub struct BorrowedConn {
    shared: Arc<Borrowed>,
    /// Bytes that were read before HTTP got the connection. HTTP reads them first.
    early: Bytes,
}

impl BorrowedConn {
    /// A connection of which `early` has been read already.
    pub fn new(socket: Socket, early: Bytes) -> (Self, ConnHandle) {
        let shared = Arc::new(Borrowed { socket: Mutex::new(Some(socket)), unanswered: AtomicBool::new(false) });
        (Self { shared: Arc::clone(&shared), early }, ConnHandle(shared))
    }

    /// Puts bytes back that were read, so that the next read returns them. Earlier such bytes must have been read.
    pub fn put_back(&mut self, read: Bytes) {
        debug_assert!(self.early.is_empty(), "bytes that were put back have not been read");
        self.early = read;
    }

    /// After an upgrade: the connection, and the early bytes that HTTP has not read.
    pub(crate) fn into_inner(self) -> Option<(Socket, Bytes)> {
        let socket = self.shared.socket.lock().take()?;
        Some((socket, self.early))
    }

    fn with<T>(&self, on: impl FnOnce(Pin<&mut Socket>) -> T) -> Option<T> {
        self.shared.socket.lock().as_mut().map(|socket| on(Pin::new(socket)))
    }

    fn note_read(&self, something: bool) {
        if something {
            self.shared.unanswered.store(true, Relaxed);
        }
    }

    fn note_write(&self) {
        self.shared.unanswered.store(false, Relaxed);
    }
}

fn not_connected<T>() -> Poll<io::Result<T>> {
    Poll::Ready(Err(io::ErrorKind::NotConnected.into()))
}

impl AsyncRead for BorrowedConn {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if !self.early.is_empty() {
            let length = self.early.len().min(buf.remaining());
            buf.put_slice(&self.early.split_to(length));
            self.note_read(length > 0);
            if self.early.is_empty() {
                // Even an empty slice would keep the whole buffer that it is a slice of.
                self.early = Bytes::new();
            }
            return Poll::Ready(Ok(()));
        }
        let before = buf.filled().len();
        let read = self.with(|socket| socket.poll_read(cx, buf)).unwrap_or_else(not_connected);
        self.note_read(buf.filled().len() > before);
        read
    }
}

impl AsyncWrite for BorrowedConn {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.note_write();
        self.with(|socket| socket.poll_write(cx, buf)).unwrap_or_else(not_connected)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.note_write();
        self.with(|socket| socket.poll_write_vectored(cx, bufs)).unwrap_or_else(not_connected)
    }

    fn is_write_vectored(&self) -> bool {
        self.with(|socket| socket.is_write_vectored()).unwrap_or(false)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.with(|socket| socket.poll_flush(cx)).unwrap_or_else(not_connected)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.with(|socket| socket.poll_shutdown(cx)).unwrap_or_else(not_connected)
    }
}

/// The head of the last response on a connection. Without headers that frame the body, the body ends with the
/// connection (RFC 9112 § 6.3).
pub(crate) fn head(parts: &Parts, now: Millis) -> Bytes {
    let mut headers = parts.headers.clone();
    headers.insert(CONNECTION, HeaderValue::from_static("close"));
    response_head(parts.status, &headers, now).freeze()
}

#[cfg(test)]
mod tests {
    use tidings_testkit::dial;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;

    use super::*;

    #[tokio::test]
    async fn a_borrowed_connection_is_closed_once_it_was_taken() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut client = dial(listener.local_addr().unwrap()).await;
        let (stream, _) = listener.accept().await.unwrap();
        let (mut borrowed, handle) = BorrowedConn::new(Socket::from(stream), Bytes::new());
        borrowed.write_all(b"before").await.unwrap();
        let mut socket = handle.take().unwrap();
        assert!(handle.clone().take().is_none(), "it can be taken once");
        for error in [borrowed.write(b"lost").await.unwrap_err(), borrowed.read_u8().await.unwrap_err()] {
            assert_eq!(error.kind(), io::ErrorKind::NotConnected);
        }
        // Not even its end reaches the client.
        assert!(borrowed.shutdown().await.is_err());
        drop(borrowed);
        socket.write_all(b" and after").await.unwrap();
        drop(socket);
        let mut text = String::new();
        client.read_to_string(&mut text).await.unwrap();
        assert_eq!(text, "before and after");
    }

    #[tokio::test]
    async fn what_was_read_before_comes_first() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut client = dial(listener.local_addr().unwrap()).await;
        let (stream, _) = listener.accept().await.unwrap();
        client.write_all(b"and late").await.unwrap();
        let (mut borrowed, _handle) = BorrowedConn::new(Socket::from(stream), Bytes::from_static(b"early "));
        let mut text = [0; 14];
        borrowed.read_exact(&mut text[..3]).await.unwrap();
        borrowed.read_exact(&mut text[3..]).await.unwrap();
        assert_eq!(&text, b"early and late");
        let (borrowed, _handle) = BorrowedConn::new(borrowed.into_inner().unwrap().0, Bytes::from_static(b"unread"));
        assert_eq!(borrowed.into_inner().unwrap().1, "unread");
    }
}
