//! The receiver's side of a connection: reads a request, records it, and answers by the script.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Buf, Bytes};
use http::{HeaderName, HeaderValue, Response};
use http_body_util::{BodyExt, Limited};
use hyper::body::{Body, Frame, Incoming, SizeHint};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::{Instant, Sleep};

use super::answer::{Answer, Ending};
use super::record::Received;
use super::{Script, Shared};

/// The largest body that is read.
const BODY_LIMIT: usize = 64 * 1024 * 1024;
/// How long the first part of a cut body has to reach the other side before the connection closes.
const CUT_PAUSE: Duration = Duration::from_millis(20);

/// Accepts connections until it is dropped; its connections end with it.
pub(super) async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    let mut open = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                let Ok((stream, _)) = accepted else { continue };
                let connection = {
                    let mut record = shared.record.lock();
                    record.connections += 1;
                    record.connections
                };
                open.spawn(serve(stream, connection, Arc::clone(&shared)));
            }
            Some(_) = open.join_next() => {}
        }
    }
}

async fn serve(stream: TcpStream, connection: usize, shared: Arc<Shared>) {
    stream.set_nodelay(true).ok();
    let reset = Arc::new(AtomicBool::new(false));
    let wire = Wire { stream, reset: Arc::clone(&reset) };
    let service = service_fn(move |request| answer(request, connection, Arc::clone(&shared), Arc::clone(&reset)));
    // The client or the script may break a connection: not an error here.
    hyper::server::conn::http1::Builder::new()
        .header_read_timeout(None)
        .serve_connection(TokioIo::new(wire), service)
        .await
        .ok();
}

/// An error closes the connection without an answer.
async fn answer(
    request: http::Request<Incoming>,
    connection: usize,
    shared: Arc<Shared>,
    reset: Arc<AtomicBool>,
) -> Result<Response<ScriptedBody>, io::Error> {
    let (head, body) = request.into_parts();
    let _under_way = UnderWay::begin(&shared, head.uri.path());
    let body = Limited::new(body, BODY_LIMIT).collect().await.map_err(io::Error::other)?.to_bytes();
    let received = Received {
        method: head.method,
        path: head.uri.path().to_owned(),
        query: head.uri.query().unwrap_or_default().to_owned(),
        headers: head.headers,
        body,
        at: Instant::now().into_std(),
        connection,
        number: 0,
    };
    let received = shared.record.lock().add(received);
    shared.arrived.notify_waiters();
    let answer = choose(&shared, &received);
    if !answer.delay.is_zero() {
        tokio::time::sleep(answer.delay).await;
    }
    match answer.ending {
        Ending::Hang => std::future::pending().await,
        Ending::Reset => {
            reset.store(true, Ordering::SeqCst);
            Err(io::Error::other("reset by the script"))
        }
        Ending::Whole | Ending::CutBody(_) => response(answer),
    }
}

fn choose(shared: &Shared, received: &Received) -> Answer {
    let by = match shared.scripts.lock().get_mut(&received.path) {
        None => None,
        Some(Script::By(by)) => Some(Arc::clone(by)),
        Some(Script::Sequence(answers)) => {
            let next = if answers.len() > 1 { answers.pop_front() } else { answers.front().cloned() };
            return next.unwrap_or_default();
        }
    };
    // Called without holding the lock: the function may change the script.
    by.map_or_else(|| shared.otherwise.lock().clone(), |by| by(received))
}

fn response(answer: Answer) -> Result<Response<ScriptedBody>, io::Error> {
    let announced = u64::try_from(answer.body.len()).map_err(io::Error::other)?;
    let (rest, cut) = match answer.ending {
        Ending::CutBody(len) => (answer.body.slice(..len.min(answer.body.len())), true),
        _ => (answer.body, false),
    };
    let (step, every) = answer.drip.unwrap_or((usize::MAX, Duration::ZERO));
    let mut response = Response::new(ScriptedBody { announced, rest, cut, step, every, pause: None });
    *response.status_mut() = http::StatusCode::from_u16(answer.status).map_err(io::Error::other)?;
    for (name, value) in answer.headers {
        let name = HeaderName::try_from(name).map_err(io::Error::other)?;
        response.headers_mut().append(name, HeaderValue::try_from(value).map_err(io::Error::other)?);
    }
    Ok(response)
}

/// Counts a request as in flight until it is dropped: it is answered, or the client has gone.
struct UnderWay {
    shared: Arc<Shared>,
    path: String,
}

impl UnderWay {
    fn begin(shared: &Arc<Shared>, path: &str) -> Self {
        shared.record.lock().begin(path);
        Self { shared: Arc::clone(shared), path: path.to_owned() }
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.shared.record.lock().end(&self.path);
    }
}

/// A body that is sent in steps, and may break off.
struct ScriptedBody {
    announced: u64,
    rest: Bytes,
    cut: bool,
    step: usize,
    every: Duration,
    pause: Option<Pin<Box<Sleep>>>,
}

impl Body for ScriptedBody {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        if let Some(pause) = &mut self.pause {
            std::task::ready!(pause.as_mut().poll(cx));
            self.pause = None;
            if self.rest.is_empty() && self.cut {
                return Poll::Ready(Some(Err(io::Error::other("cut by the script"))));
            }
        }
        if self.rest.has_remaining() {
            let len = self.step.min(self.rest.len());
            let part = self.rest.split_to(len);
            if !self.rest.is_empty() && !self.every.is_zero() {
                self.pause = Some(Box::pin(tokio::time::sleep(self.every)));
            }
            return Poll::Ready(Some(Ok(Frame::data(part))));
        }
        if self.cut {
            // hyper writes the earlier bytes during this wait; an immediate error could discard them.
            let mut pause = Box::pin(tokio::time::sleep(CUT_PAUSE));
            if pause.as_mut().poll(cx).is_pending() {
                self.pause = Some(pause);
                return Poll::Pending;
            }
            return Poll::Ready(Some(Err(io::Error::other("cut by the script"))));
        }
        Poll::Ready(None)
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty() && !self.cut
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.announced)
    }
}

/// A socket that is reset instead of closed if the script says so.
struct Wire {
    stream: TcpStream,
    reset: Arc<AtomicBool>,
}

impl Drop for Wire {
    fn drop(&mut self) {
        if self.reset.load(Ordering::SeqCst) {
            self.stream.set_zero_linger().ok();
        }
    }
}

impl AsyncRead for Wire {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Wire {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.reset.load(Ordering::SeqCst) {
            // After a FIN the reset would have no effect.
            return Poll::Ready(Ok(()));
        }
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
