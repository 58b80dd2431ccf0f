//! A bounded queue of frames: a shard writes into one end, hyper reads from the other.

use std::collections::VecDeque;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use parking_lot::Mutex;
use tidings_broker::SessionRef;

use super::write_outcome::WriteOutcome;
use crate::metrics::Metrics;

/// The queue between the two ends.
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
    /// Both ends.
    pub(crate) fn ends(metrics: Metrics) -> (StreamWriter, StreamReader) {
        let pipe = Arc::new(Self { state: Mutex::default(), metrics });
        (StreamWriter(Arc::clone(&pipe)), StreamReader(pipe))
    }
}

/// The shard's end. The reader's ends when it is dropped.
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

/// The other end, whose frames each are what was written at once.
#[derive(Debug)]
pub(crate) struct StreamReader(Arc<Pipe>);

impl StreamReader {
    /// The next frame; `None` when nothing more comes.
    pub(crate) fn poll_frame(&self, cx: &mut Context<'_>) -> Poll<Option<Bytes>> {
        let mut state = self.0.state.lock();
        if let Some(bytes) = state.frames.pop_front() {
            state.bytes -= bytes.len();
            self.0.metrics.queued_bytes.dec_by(bytes.len() as i64);
            if state.frames.is_empty() {
                // An idle session owns no buffer.
                state.frames = VecDeque::new();
            }
            return Poll::Ready(Some(bytes));
        }
        if state.ended {
            return Poll::Ready(None);
        }
        if !state.reader.as_ref().is_some_and(|reader| reader.will_wake(cx.waker())) {
            state.reader = Some(cx.waker().clone());
        }
        Poll::Pending
    }

    /// Whether nothing more comes.
    pub(crate) fn is_at_end(&self) -> bool {
        let state = self.0.state.lock();
        state.ended && state.frames.is_empty()
    }

    /// Says that nobody will read any more. The session that writes, if its shard has taken it in.
    pub(crate) fn close(&self) -> Option<SessionRef> {
        let mut state = self.0.state.lock();
        state.unread = true;
        self.0.metrics.queued_bytes.dec_by(state.bytes as i64);
        state.bytes = 0;
        state.frames = VecDeque::new();
        state.reader = None;
        state.session
    }
}
