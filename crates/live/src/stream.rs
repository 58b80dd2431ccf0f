//! A session whose bytes leave as the body of an HTTP response that an HTTP server sends.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};

use crate::inbox::{InboxMessage, Inboxes};
use crate::metrics::Metrics;
use crate::transport::{Pipe, StreamReader, StreamWriter};

/// The body of a response that lasts as long as its session. Each frame holds the bytes of one write of the session.
/// Dropping the body ends the session.
#[derive(Debug)]
pub struct Stream {
    reader: StreamReader,
    inboxes: Inboxes,
}

impl Stream {
    /// A body and the session's writer. The body ends when the writer is dropped.
    pub(crate) fn with_writer(inboxes: Inboxes, metrics: Metrics) -> (StreamWriter, Self) {
        let (writer, reader) = Pipe::pair(metrics);
        (writer, Self { reader, inboxes })
    }
}

impl Body for Stream {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.reader.poll_frame(cx).map(|frame| frame.map(|bytes| Ok(Frame::data(bytes))))
    }

    fn is_end_stream(&self) -> bool {
        self.reader.is_at_end()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::default()
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        if let Some(session) = self.reader.close() {
            self.inboxes.put(session.shard, InboxMessage::StreamDropped(session));
        }
    }
}
