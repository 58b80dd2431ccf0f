//! A session's way out: its transport, and what the transport would not take yet.

use std::collections::VecDeque;
use std::io::{self, IoSlice};

use bytes::{Buf as _, Bytes};

use crate::metrics::Metrics;
use crate::transport::{Piped, Transport};

/// How many pieces leave in one `writev`.
const PIECES: usize = 64;
/// What a piece in the queue takes besides its bytes, so that many small ones count as what they are.
const PIECE: usize = size_of::<Bytes>();

/// What came of a write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sent {
    /// It has left, or waits.
    Fine,
    /// More waits than may.
    Slow,
    /// The connection is broken.
    Broken,
}

#[derive(Debug, Default)]
struct Backlog {
    pieces: VecDeque<Bytes>,
    /// Of all pieces, each counted with [`PIECE`].
    bytes: usize,
    /// A part of the first piece has left: the rest has to follow, or frames would break.
    begun: bool,
}

#[derive(Debug)]
pub(super) struct Line {
    pub(super) transport: Transport,
    /// Only there while something waits.
    backlog: Option<Box<Backlog>>,
}

impl Line {
    pub(super) fn new(transport: Transport) -> Self {
        Self { transport, backlog: None }
    }

    /// Writes a piece, which consists of whole frames; what doesn't leave at once waits, up to `limit` bytes.
    #[inline]
    pub(super) fn send(&mut self, piece: &Bytes, limit: usize, metrics: &Metrics) -> Sent {
        if let Transport::Stream(writer) = &self.transport {
            return match writer.write(piece, limit) {
                Piped::Taken => Sent::Fine,
                Piped::Full => Sent::Slow,
                Piped::Unread => Sent::Broken,
            };
        }
        if self.backlog.is_some() {
            return self.queue(piece.clone(), false, limit, metrics);
        }
        match self.transport.write(piece) {
            Ok(written) if written == piece.len() => Sent::Fine,
            Ok(written) => self.queue(piece.slice(written..), written > 0, limit, metrics),
            Err(error) if is_passing(&error) => self.queue(piece.clone(), false, limit, metrics),
            Err(_) => Sent::Broken,
        }
    }

    /// Writes several pieces, together. What is left in `pieces` is of no use.
    pub(super) fn send_all(&mut self, pieces: &mut Vec<Bytes>, limit: usize, metrics: &Metrics) -> Sent {
        if pieces.len() < 2 || matches!(self.transport, Transport::Stream(_)) {
            let outcome = pieces.iter().map(|piece| self.send(piece, limit, metrics)).find(|&sent| sent != Sent::Fine);
            return outcome.unwrap_or(Sent::Fine);
        }
        let mut written = 0;
        // Until the socket takes less than it is offered: only then it tells when it takes more.
        while self.backlog.is_none() && !pieces.is_empty() {
            let (slices, count) = slices(pieces.iter());
            match self.transport.write_vectored(&slices[..count]) {
                Ok(taken) if taken == pieces[..count].iter().map(Bytes::len).sum::<usize>() => {
                    _ = pieces.drain(..count)
                }
                Ok(taken) => {
                    written = taken;
                    break;
                }
                Err(error) if is_passing(&error) => break,
                Err(_) => return Sent::Broken,
            }
        }
        if pieces.is_empty() {
            return Sent::Fine;
        }
        let backlog = self.backlog.get_or_insert_default();
        let before = backlog.bytes;
        backlog.bytes += pieces.iter().map(|piece| piece.len() + PIECE).sum::<usize>();
        backlog.pieces.extend(pieces.drain(..));
        backlog.forget(written);
        metrics.queued_bytes.inc_by((backlog.bytes - before) as i64);
        if backlog.bytes > limit { Sent::Slow } else { Sent::Fine }
    }

    #[cold]
    fn queue(&mut self, piece: Bytes, begun: bool, limit: usize, metrics: &Metrics) -> Sent {
        let backlog = self.backlog.get_or_insert_default();
        let bytes = piece.len() + PIECE;
        backlog.begun |= begun;
        backlog.bytes += bytes;
        backlog.pieces.push_back(piece);
        metrics.queued_bytes.inc_by(bytes as i64);
        if backlog.bytes > limit { Sent::Slow } else { Sent::Fine }
    }

    fn waiting(&self) -> usize {
        self.backlog.as_ref().map_or(0, |backlog| backlog.bytes)
    }

    /// Writes what waits. Whether nothing does any more.
    ///
    /// # Errors
    /// The connection is broken.
    pub(super) fn flush(&mut self, metrics: &Metrics) -> io::Result<bool> {
        if !self.transport.flush()? {
            return Ok(false);
        }
        while let Some(backlog) = &mut self.backlog {
            let (slices, count) = slices(backlog.pieces.iter());
            match self.transport.write_vectored(&slices[..count]) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => metrics.queued_bytes.dec_by(backlog.forget(written) as i64),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => 0,
                Err(error) => return Err(error),
            };
            if backlog.pieces.is_empty() {
                self.backlog = None;
            }
        }
        self.transport.flush()
    }

    /// Forgets what waits and has not begun to leave, so that there is room for last words.
    pub(super) fn discard(&mut self, metrics: &Metrics) {
        if let Transport::Stream(writer) = &self.transport {
            writer.discard();
        }
        let Some(backlog) = &mut self.backlog else { return };
        let kept = usize::from(backlog.begun);
        let gone: usize = backlog.pieces.drain(kept..).map(|piece| piece.len() + PIECE).sum();
        backlog.bytes -= gone;
        metrics.queued_bytes.dec_by(gone as i64);
        if backlog.pieces.is_empty() {
            self.backlog = None;
        }
    }

    /// Takes leave of the connection.
    pub(super) fn close(self, metrics: &Metrics) {
        metrics.queued_bytes.dec_by(self.waiting() as i64);
    }
}

impl Backlog {
    /// Forgets so many bytes that have left; what that makes in counted bytes.
    fn forget(&mut self, mut written: usize) -> usize {
        let before = self.bytes;
        while let Some(first) = self.pieces.front_mut() {
            if written < first.len() {
                first.advance(written);
                self.bytes -= written;
                self.begun |= written > 0;
                break;
            }
            written -= first.len();
            self.bytes -= first.len() + PIECE;
            self.begun = false;
            self.pieces.pop_front();
        }
        before - self.bytes
    }
}

/// The first pieces as one `writev` takes them, and how many they are.
fn slices<'a>(pieces: impl Iterator<Item = &'a Bytes>) -> ([IoSlice<'a>; PIECES], usize) {
    let mut slices = [IoSlice::new(&[]); PIECES];
    let mut count = 0;
    for (slice, piece) in slices.iter_mut().zip(pieces) {
        *slice = IoSlice::new(piece);
        count += 1;
    }
    (slices, count)
}

fn is_passing(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted)
}
