//! A session whose bytes leave as the body of an HTTP response: a shard writes into one end of a bounded queue, hyper
//! reads from the other.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use parking_lot::Mutex;
use tidings_broker::SessionRef;

use super::WriteOutcome;
use crate::inbox::{InboxMessage, Inboxes};
use crate::metrics::Metrics;

/// The queue between the two.
#[derive(Debug)]
pub(crate) struct Pipe {
    state: Mutex<State>,
    metrics: Metrics,
}

#[derive(Debug, Default)]
struct State {
    frames: VecDeque<Bytes>,
    bytes: usize,
    /// Nothing more will be written.
    ended: bool,
    /// Nobody will read any more.
    unread: bool,
    reader: Option<Waker>,
    /// The session, once its shard has taken it in.
    session: Option<SessionRef>,
}

impl Pipe {
    /// The shard's end and the body.
    pub(crate) fn ends(inboxes: Inboxes, metrics: Metrics) -> (StreamWriter, Stream) {
        let pipe = Arc::new(Self { state: Mutex::default(), metrics });
        (StreamWriter(Arc::clone(&pipe)), Stream { pipe, inboxes })
    }
}

/// The shard's end. The body ends when it is dropped.
#[derive(Debug)]
pub(crate) struct StreamWriter(Arc<Pipe>);

impl StreamWriter {
    /// Says which session writes. False: nobody reads any more.
    pub(crate) fn belongs_to(&self, session: SessionRef) -> bool {
        let mut state = self.0.state.lock();
        state.session = Some(session);
        !state.unread
    }

    pub(crate) fn write(&self, frame: &Bytes, limit: usize) -> WriteOutcome {
        let reader = {
            let mut state = self.0.state.lock();
            if state.unread {
                return WriteOutcome::Broken;
            }
            if state.bytes + frame.len() > limit {
                return WriteOutcome::QueueFull;
            }
            state.bytes += frame.len();
            state.frames.push_back(frame.clone());
            state.reader.take()
        };
        self.0.metrics.queued_bytes.inc_by(frame.len() as i64);
        if let Some(reader) = reader {
            reader.wake();
        }
        WriteOutcome::Accepted
    }

    /// Forgets what waits, so that there is room for last words.
    pub(crate) fn discard(&self) {
        let mut state = self.0.state.lock();
        self.0.metrics.queued_bytes.dec_by(state.bytes as i64);
        state.bytes = 0;
        state.frames.clear();
    }

    pub(crate) fn end(&self) {
        let reader = {
            let mut state = self.0.state.lock();
            state.ended = true;
            state.reader.take()
        };
        if let Some(reader) = reader {
            reader.wake();
        }
    }
}

impl Drop for StreamWriter {
    fn drop(&mut self) {
        self.end();
    }
}

/// The body of a response that goes on for as long as its session does. Each frame is what the protocol wrote at once.
/// Dropping it ends the session.
#[derive(Debug)]
pub struct Stream {
    pipe: Arc<Pipe>,
    inboxes: Inboxes,
}

impl Body for Stream {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let mut state = self.pipe.state.lock();
        if let Some(bytes) = state.frames.pop_front() {
            state.bytes -= bytes.len();
            self.pipe.metrics.queued_bytes.dec_by(bytes.len() as i64);
            if state.frames.is_empty() {
                // An idle session owns no buffer.
                state.frames = VecDeque::new();
            }
            return Poll::Ready(Some(Ok(Frame::data(bytes))));
        }
        if state.ended {
            return Poll::Ready(None);
        }
        if !state.reader.as_ref().is_some_and(|reader| reader.will_wake(cx.waker())) {
            state.reader = Some(cx.waker().clone());
        }
        Poll::Pending
    }

    fn is_end_stream(&self) -> bool {
        let state = self.pipe.state.lock();
        state.ended && state.frames.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::default()
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        let session = {
            let mut state = self.pipe.state.lock();
            state.unread = true;
            self.pipe.metrics.queued_bytes.dec_by(state.bytes as i64);
            state.bytes = 0;
            state.frames = VecDeque::new();
            state.reader = None;
            state.session
        };
        if let Some(session) = session {
            self.inboxes.put(session.shard, InboxMessage::Gone(session));
        }
    }
}
