//! A connection that a response takes away from HTTP, to go on as a session for as long as it likes.
//!
//! Only an upgrade makes hyper give up a connection, and a stream of events is none (WHATWG HTML, "Server-sent events"): it is
//! a response without an end. As hyper's, each costs two buffers of 8 KiB and a task. So hyper is lent the connection; a
//! handler may take it back instead of answering, and what hyper does with it afterwards meets a closed connection.

use std::fmt::Write as _;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::header::{CONNECTION, DATE};
use http::response::Parts;
use parking_lot::Mutex;
use tidings_model::clock::Millis;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::socket::Socket;

/// Whose connection it is: the server's accept loop puts one among each request's extensions.
#[derive(Debug, Clone)]
pub struct Lender(Arc<Mutex<Option<Socket>>>);

impl Lender {
    /// The connection, if nobody has it yet.
    ///
    /// A request that has been read whole may take it. What its client has sent behind that, before it has an answer, is lost:
    /// nothing can be asked for behind an answer that has no end.
    pub fn take(&self) -> Option<Socket> {
        self.0.lock().take()
    }
}

/// The connection as HTTP sees it: closed once its lender has taken it.
#[derive(Debug)]
pub struct Lent(Arc<Mutex<Option<Socket>>>);

impl Lent {
    /// Lends a connection.
    pub fn new(socket: Socket) -> (Self, Lender) {
        let shared = Arc::new(Mutex::new(Some(socket)));
        (Self(Arc::clone(&shared)), Lender(shared))
    }

    /// The connection, after an upgrade.
    pub(crate) fn into_inner(self) -> Option<Socket> {
        self.0.lock().take()
    }

    fn with<T>(&self, on: impl FnOnce(Pin<&mut Socket>) -> T) -> Option<T> {
        self.0.lock().as_mut().map(|socket| on(Pin::new(socket)))
    }
}

fn taken<T>() -> Poll<io::Result<T>> {
    Poll::Ready(Err(io::ErrorKind::NotConnected.into()))
}

impl AsyncRead for Lent {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        self.with(|socket| socket.poll_read(cx, buf)).unwrap_or_else(taken)
    }
}

impl AsyncWrite for Lent {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.with(|socket| socket.poll_write(cx, buf)).unwrap_or_else(taken)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
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
    let mut text = String::new();
    let reason = parts.status.canonical_reason().unwrap_or_default();
    let since_epoch = Duration::from_millis(u64::try_from(now).unwrap_or(0));
    let date = httpdate::fmt_http_date(SystemTime::UNIX_EPOCH + since_epoch);
    // Writing to a text cannot fail.
    _ = write!(text, "HTTP/1.1 {} {reason}\r\n{DATE}: {date}\r\n{CONNECTION}: close\r\n", parts.status.as_u16());
    let mut bytes = text.into_bytes();
    for (name, value) in &parts.headers {
        bytes.extend_from_slice(name.as_str().as_bytes());
        bytes.extend_from_slice(b": ");
        bytes.extend_from_slice(value.as_bytes());
        bytes.extend_from_slice(b"\r\n");
    }
    bytes.extend_from_slice(b"\r\n");
    bytes.into()
}

#[cfg(test)]
mod tests {
    use http::Response;
    use tidings_testkit::dial;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;

    use super::*;

    #[tokio::test]
    async fn what_is_lent_is_closed_once_it_was_taken() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut client = dial(listener.local_addr().unwrap()).await;
        let (stream, _) = listener.accept().await.unwrap();
        let (mut lent, lender) = Lent::new(Socket::from(stream));
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

    #[test]
    fn a_head_says_that_the_end_of_the_connection_is_the_end_of_the_body() {
        let (parts, ()) = Response::builder().header("x-accel-buffering", "no").body(()).unwrap().into_parts();
        let expected = "HTTP/1.1 200 OK\r\ndate: Sat, 21 Nov 2026 09:56:40 GMT\r\nconnection: close\r\n\
                        x-accel-buffering: no\r\n\r\n";
        assert_eq!(head(&parts, 1_795_255_000_000), expected);
    }
}
