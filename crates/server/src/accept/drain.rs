//! Reads what a client still sends after its request is answered, so that the answer reaches it.
//!
//! If a connection is closed with unread bytes, the kernel resets it, and the client may lose an answer that it has not
//! read yet (RFC 9112 § 9.6). So when a handler refuses a request without reading its body, the body is read to its end
//! here, and the connection goes on. If that would take too long, the answer is sent with `Connection: close`, and the
//! connection is read for a while longer before it is closed (a "lingering close"). Handlers need not know about this.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use http::header::EXPECT;
use http::{HeaderMap, Request};
use http_body_util::BodyExt;
use hyper::body::{Body as HttpBody, Frame, Incoming, SizeHint};
use parking_lot::Mutex;
use tidings_live::Socket;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

/// How long and how much is read at most.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bounds {
    time: Duration,
    bytes: u64,
}

/// For a body whose answer waits until it is read, and for a connection that is refused before its request is handled.
pub(super) const BRIEF: Bounds = Bounds { time: Duration::from_secs(1), bytes: 1 << 20 };
/// For a body after its answer: nothing waits for it, and the client may have a slow line.
pub(super) const LONG: Bounds = Bounds { time: Duration::from_secs(5), bytes: 16 << 20 };

/// Sends a client the last bytes of its connection, and reads what it sends until it hangs up.
pub(super) async fn lingering_close(mut socket: Socket, words: &[u8], bounds: Bounds) {
    let lingering = async {
        socket.write_all(words).await?;
        // hyper may have shut it down already.
        socket.shutdown().await.ok();
        tokio::io::copy(&mut (&mut socket).take(bounds.bytes), &mut tokio::io::sink()).await
    };
    // Whether the client hung up or the time ran out makes no difference.
    drop(timeout(bounds.time, lingering).await);
}

/// Wraps a request's body: if the handler does not read it to its end, [`Rest`] gets it back.
pub(super) fn watched(request: Request<Incoming>) -> (Request<Body>, Rest) {
    let left = Arc::default();
    let waits = waits_for_continue(request.headers());
    let watched = request.map(|body| {
        if body.is_end_stream() {
            return Body::empty();
        }
        Body::new(WatchedBody { body: Some(body), has_begun: false, left: Arc::clone(&left) })
    });
    (watched, Rest { left, waits })
}

/// Whether the client sends its body only once it is asked for (RFC 9110 § 10.1.1). hyper asks when the body is first
/// read.
fn waits_for_continue(headers: &HeaderMap) -> bool {
    headers.get(EXPECT).is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"100-continue"))
}

/// The part of a request's body that its handler has not read.
pub(super) struct Rest {
    left: Arc<Mutex<Option<Left>>>,
    /// The client sends the body only after `100 Continue`.
    waits: bool,
}

/// A body, and whether the handler has begun to read it.
struct Left {
    body: Incoming,
    has_begun: bool,
}

impl Rest {
    /// Reads the rest of the body, once the handler has answered. Returns whether all of it has come: if not, the
    /// connection can serve no further request.
    pub(super) async fn read(self) -> bool {
        // It is also empty while a streamed answer still reads the body.
        let Some(Left { mut body, has_begun }) = self.left.lock().take() else { return true };
        if (self.waits && !has_begun) || body.size_hint().lower() > BRIEF.bytes {
            return false;
        }
        let mut room = BRIEF.bytes;
        let read = async {
            while let Some(frame) = body.frame().await {
                let length = frame.ok()?.data_ref().map_or(0, Bytes::len);
                room = room.checked_sub(length as u64)?;
            }
            Some(())
        };
        matches!(timeout(BRIEF.time, read).await, Ok(Some(())))
    }
}

/// A request's body as its handler gets it.
struct WatchedBody {
    /// `None` once it has been read to its end.
    body: Option<Incoming>,
    has_begun: bool,
    left: Arc<Mutex<Option<Left>>>,
}

impl HttpBody for WatchedBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        self.has_begun = true;
        let Some(body) = &mut self.body else { return Poll::Ready(None) };
        let polled = Pin::new(body).poll_frame(cx);
        if matches!(polled, Poll::Ready(None | Some(Err(_)))) {
            self.body = None;
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(HttpBody::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.body.as_ref().map_or_else(|| SizeHint::with_exact(0), HttpBody::size_hint)
    }
}

impl Drop for WatchedBody {
    fn drop(&mut self) {
        if let Some(body) = self.body.take().filter(|body| !body.is_end_stream()) {
            *self.left.lock() = Some(Left { body, has_begun: self.has_begun });
        }
    }
}
