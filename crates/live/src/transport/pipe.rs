//! A bounded queue of frames: a shard writes into one end, hyper reads from the other.

use std::collections::VecDeque;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use parking_lot::Mutex;
use tidings_broker::SessionRef;

use super::write_outcome::WriteOutcome;
use crate::metrics::Metrics;

/// The queue between writer and reader.
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
    /// The reader was dropped.
    reader_gone: bool,
    reader: Option<Waker>,
    /// The session that writes, once its shard has added it.
    session: Option<SessionRef>,
}

impl Pipe {
    /// A writer and a reader with a queue between them.
    pub(crate) fn pair(metrics: Metrics) -> (StreamWriter, StreamReader) {
        let pipe = Arc::new(Self { state: Mutex::default(), metrics });
        (StreamWriter(Arc::clone(&pipe)), StreamReader(pipe))
    }
}

/// The shard's end. Dropping it ends the stream for the reader.
#[derive(Debug)]
pub(crate) struct StreamWriter(Arc<Pipe>);

impl StreamWriter {
    /// Sets the session that writes. False: the reader is gone.
    pub(crate) fn set_session(&self, session: SessionRef) -> bool {
        let mut state = self.0.state.lock();
        state.session = Some(session);
        !state.reader_gone
    }

    pub(crate) fn write(&self, frame: &Bytes, limit: usize) -> WriteOutcome {
        let reader = {
            let mut state = self.0.state.lock();
            if state.reader_gone {
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

    /// Drops the queued frames, so that there is room for the closing message.
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

/// hyper's end. Each frame holds the bytes of one write.
#[derive(Debug)]
pub(crate) struct StreamReader(Arc<Pipe>);

impl StreamReader {
    /// The next frame; `None` at the end of the stream.
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

    /// Whether the stream has ended and all frames were read.
    pub(crate) fn is_at_end(&self) -> bool {
        let state = self.0.state.lock();
        state.ended && state.frames.is_empty()
    }

    /// Notes that the reader is gone. Returns the session that writes, if its shard has added it.
    pub(crate) fn close(&self) -> Option<SessionRef> {
        let mut state = self.0.state.lock();
        state.reader_gone = true;
        self.0.metrics.queued_bytes.dec_by(state.bytes as i64);
        state.bytes = 0;
        state.frames = VecDeque::new();
        state.reader = None;
        state.session
    }
}
