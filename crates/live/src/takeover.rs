//! A connection that a response takes away from HTTP, to go on as a session for as long as it likes.
//!
//! Only an upgrade makes hyper give up a connection, and a stream of events is none (WHATWG HTML, "Server-sent events"): it is
//! a response without an end. As hyper's, each costs two buffers of 8 KiB and a task. So hyper is lent the connection; a
//! handler may take it back instead of answering, and what hyper does with it afterwards meets a closed connection.

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

/// Whose connection it is: the server's accept loop puts one among each request's extensions.
#[derive(Debug, Clone)]
pub struct Lender(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    socket: Mutex<Option<Socket>>,
    /// HTTP has read something since it last wrote.
    unanswered: AtomicBool,
}

impl Lender {
    /// The connection, if nobody has it yet.
    ///
    /// A request that has been read whole may take it. What its client has sent behind that, before it has an answer, is lost:
    /// nothing can be asked for behind an answer that has no end.
    pub fn take(&self) -> Option<Socket> {
        self.0.socket.lock().take()
    }

    /// Whether HTTP has read something since it last wrote: a request, or the beginning of one.
    pub fn is_unanswered(&self) -> bool {
        self.0.unanswered.load(Relaxed)
    }
}

/// The connection as HTTP sees it: closed once its lender has taken it.
#[derive(Debug)]
pub struct Lent {
    shared: Arc<Shared>,
    /// What was read before it was lent, and comes first.
    early: Bytes,
}

impl Lent {
    /// Lends a connection of which `early` has been read already.
    pub fn new(socket: Socket, early: Bytes) -> (Self, Lender) {
        let shared = Arc::new(Shared { socket: Mutex::new(Some(socket)), unanswered: AtomicBool::new(false) });
        (Self { shared: Arc::clone(&shared), early }, Lender(shared))
    }

    /// The connection, after an upgrade, and what HTTP has not read yet of what came before.
    pub(crate) fn into_inner(self) -> Option<(Socket, Bytes)> {
        let socket = self.shared.socket.lock().take()?;
        Some((socket, self.early))
    }

    fn with<T>(&self, on: impl FnOnce(Pin<&mut Socket>) -> T) -> Option<T> {
        self.shared.socket.lock().as_mut().map(|socket| on(Pin::new(socket)))
    }

    fn has_read(&self, something: bool) {
        if something {
            self.shared.unanswered.store(true, Relaxed);
        }
    }

    fn writes(&self) {
        self.shared.unanswered.store(false, Relaxed);
    }
}

fn taken<T>() -> Poll<io::Result<T>> {
    Poll::Ready(Err(io::ErrorKind::NotConnected.into()))
}

impl AsyncRead for Lent {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if !self.early.is_empty() {
            let length = self.early.len().min(buf.remaining());
            buf.put_slice(&self.early.split_to(length));
            self.has_read(length > 0);
            if self.early.is_empty() {
                // Even an empty slice keeps all of what it is a slice of.
                self.early = Bytes::new();
            }
            return Poll::Ready(Ok(()));
        }
        let before = buf.filled().len();
        let read = self.with(|socket| socket.poll_read(cx, buf)).unwrap_or_else(taken);
        self.has_read(buf.filled().len() > before);
        read
    }
}

impl AsyncWrite for Lent {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.writes();
        self.with(|socket| socket.poll_write(cx, buf)).unwrap_or_else(taken)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.writes();
        self.with(|socket| socket.poll_write_vectored(cx, bufs)).unwrap_or_else(taken)
    }

    fn is_write_vectored(&self) -> bool {
        self.with(|socket| socket.is_write_vectored()).unwrap_or(false)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.with(|socket| socket.poll_flush(cx)).unwrap_or_else(taken)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.with(|socket| socket.poll_shutdown(cx)).unwrap_or_else(taken)
    }
}

/// The head of a response whose body ends with its connection (RFC 9112 § 6.3, the last case).
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
    async fn what_is_lent_is_closed_once_it_was_taken() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut client = dial(listener.local_addr().unwrap()).await;
        let (stream, _) = listener.accept().await.unwrap();
        let (mut lent, lender) = Lent::new(Socket::from(stream), Bytes::new());
        lent.write_all(b"before").await.unwrap();
        let mut socket = lender.take().unwrap();
        assert!(lender.clone().take().is_none(), "it can be taken once");
        for error in [lent.write(b"lost").await.unwrap_err(), lent.read_u8().await.unwrap_err()] {
            assert_eq!(error.kind(), io::ErrorKind::NotConnected);
        }
        // Not even its end reaches the client.
        assert!(lent.shutdown().await.is_err());
        drop(lent);
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
        let (mut lent, _lender) = Lent::new(Socket::from(stream), Bytes::from_static(b"early "));
        let mut text = [0; 14];
        lent.read_exact(&mut text[..3]).await.unwrap();
        lent.read_exact(&mut text[3..]).await.unwrap();
        assert_eq!(&text, b"early and late");
        let (lent, _lender) = Lent::new(lent.into_inner().unwrap().0, Bytes::from_static(b"unread"));
        assert_eq!(lent.into_inner().unwrap().1, "unread");
    }
}
