//! A session's write queue: its transport, and the bytes that the transport has not taken yet.

use std::collections::VecDeque;
use std::io::{self, IoSlice};

use bytes::{Buf as _, Bytes};

use crate::metrics::Metrics;
use crate::protocol::Piece;
use crate::transport::{Transport, WriteOutcome};

/// Most pieces in one `writev`.
const PIECES: usize = 64;
/// The memory of a queued piece besides its bytes, so that many small pieces count in full.
const PIECE_OVERHEAD: usize = size_of::<Piece>();

#[derive(Debug, Default)]
struct Backlog {
    pieces: VecDeque<Piece>,
    /// Bytes of all pieces, each counted with [`PIECE_OVERHEAD`].
    bytes: usize,
    /// A part of the first frame has left, from the first piece or from one before it. The rest must follow, or the
    /// client could not decode the stream.
    begun: bool,
}

#[derive(Debug)]
pub(super) struct WriteQueue {
    pub(super) transport: Transport,
    /// Set while bytes wait.
    backlog: Option<Box<Backlog>>,
}

impl WriteQueue {
    pub(super) fn new(transport: Transport) -> Self {
        Self { transport, backlog: None }
    }

    /// Writes a piece, which consists of whole frames. Bytes that the transport does not take are queued, up to
    /// `limit`.
    #[inline]
    pub(super) fn send(&mut self, piece: &Bytes, limit: usize, metrics: &Metrics) -> WriteOutcome {
        if let Transport::Stream(writer) = &self.transport {
            return writer.write(piece, limit);
        }
        if self.backlog.is_some() {
            return self.enqueue(piece.clone(), false, limit, metrics);
        }
        match self.transport.write(piece) {
            Ok(written) if written == piece.len() => WriteOutcome::Accepted,
            Ok(written) => self.enqueue(piece.slice(written..), written > 0, limit, metrics),
            Err(error) if is_transient(&error) => self.enqueue(piece.clone(), false, limit, metrics),
            Err(_) => WriteOutcome::Broken,
        }
    }

    /// Writes several pieces together. The caller clears what is left in `pieces`.
    pub(super) fn send_all(&mut self, pieces: &mut Vec<Piece>, limit: usize, metrics: &Metrics) -> WriteOutcome {
        if pieces.len() < 2 || matches!(self.transport, Transport::Stream(_)) {
            let mut outcomes = pieces.iter().map(|piece| self.send(&piece.bytes, limit, metrics));
            return outcomes.find(|&outcome| outcome != WriteOutcome::Accepted).unwrap_or(WriteOutcome::Accepted);
        }
        let (mut written, mut begun) = (0, false);
        // Until the socket takes less than it is offered: only then an event announces that it is writable again.
        while self.backlog.is_none() && !pieces.is_empty() {
            let (slices, count) = slices(pieces.iter());
            match self.transport.write_vectored(&slices[..count]) {
                Ok(taken) if taken == pieces[..count].iter().map(|piece| piece.bytes.len()).sum::<usize>() => {
                    begun = pieces.drain(..count).next_back().is_some_and(|last| last.goes_on);
                }
                Ok(taken) => {
                    written = taken;
                    break;
                }
                Err(error) if is_transient(&error) => break,
                Err(_) => return WriteOutcome::Broken,
            }
        }
        if pieces.is_empty() {
            return WriteOutcome::Accepted;
        }
        let backlog = self.backlog.get_or_insert_default();
        let before = backlog.bytes;
        backlog.bytes += pieces.iter().map(|piece| piece.bytes.len() + PIECE_OVERHEAD).sum::<usize>();
        backlog.pieces.extend(pieces.drain(..));
        backlog.begun |= begun;
        backlog.forget(written);
        metrics.queued_bytes.inc_by((backlog.bytes - before) as i64);
        if backlog.bytes > limit { WriteOutcome::QueueFull } else { WriteOutcome::Accepted }
    }

    #[cold]
    fn enqueue(&mut self, piece: Bytes, begun: bool, limit: usize, metrics: &Metrics) -> WriteOutcome {
        let backlog = self.backlog.get_or_insert_default();
        let bytes = piece.len() + PIECE_OVERHEAD;
        backlog.begun |= begun;
        backlog.bytes += bytes;
        backlog.pieces.push_back(Piece { bytes: piece, goes_on: false });
        metrics.queued_bytes.inc_by(bytes as i64);
        if backlog.bytes > limit { WriteOutcome::QueueFull } else { WriteOutcome::Accepted }
    }

    fn waiting(&self) -> usize {
        self.backlog.as_ref().map_or(0, |backlog| backlog.bytes)
    }

    /// Writes the queued bytes. True: none are left.
    ///
    /// # Errors
    /// When the connection is broken.
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

    /// Drops the queued bytes, except the rest of a frame of which a part has left, so that there is room for the
    /// closing message.
    pub(super) fn discard(&mut self, metrics: &Metrics) {
        if let Transport::Stream(writer) = &self.transport {
            writer.discard();
        }
        let Some(backlog) = &mut self.backlog else { return };
        let first =
            backlog.pieces.iter().position(|piece| !piece.goes_on).map_or(backlog.pieces.len(), |last| last + 1);
        let kept = if backlog.begun { first } else { 0 };
        let gone: usize = backlog.pieces.drain(kept..).map(|piece| piece.bytes.len() + PIECE_OVERHEAD).sum();
        backlog.bytes -= gone;
        metrics.queued_bytes.dec_by(gone as i64);
        if backlog.pieces.is_empty() {
            self.backlog = None;
        }
    }

    /// Drops the connection and the queued bytes.
    pub(super) fn close(self, metrics: &Metrics) {
        metrics.queued_bytes.dec_by(self.waiting() as i64);
    }
}

impl Backlog {
    /// Removes bytes that have left, and returns how much that frees as counted in [`Backlog::bytes`].
    fn forget(&mut self, mut written: usize) -> usize {
        let before = self.bytes;
        while let Some(first) = self.pieces.front_mut() {
            let length = first.bytes.len();
            if written < length {
                first.bytes.advance(written);
                self.bytes -= written;
                self.begun |= written > 0;
                break;
            }
            written -= length;
            self.bytes -= length + PIECE_OVERHEAD;
            self.begun = first.goes_on;
            self.pieces.pop_front();
        }
        before - self.bytes
    }
}

/// The first pieces, as one `writev` takes them, and their number.
fn slices<'a>(pieces: impl Iterator<Item = &'a Piece>) -> ([IoSlice<'a>; PIECES], usize) {
    let mut slices = [IoSlice::new(&[]); PIECES];
    let mut count = 0;
    for (slice, piece) in slices.iter_mut().zip(pieces) {
        *slice = IoSlice::new(&piece.bytes);
        count += 1;
    }
    (slices, count)
}

fn is_transient(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted)
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;
    use std::net::{TcpListener, TcpStream};

    use super::*;

    /// A write queue whose socket takes little, and the socket's other end.
    fn queue() -> (WriteQueue, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let client = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
        client.set_recv_buffer_size(4 << 10).unwrap();
        client.connect(&listener.local_addr().unwrap().into()).unwrap();
        let (server, _) = listener.accept().unwrap();
        socket2::SockRef::from(&server).set_send_buffer_size(4 << 10).unwrap();
        server.set_nonblocking(true).unwrap();
        (WriteQueue::new(Transport::Plain(mio::net::TcpStream::from_std(server))), client.into())
    }

    // covers: G243
    #[test]
    fn what_is_forgotten_of_a_slow_session_leaves_whole_frames() {
        for first in [1, 7, 1_000, 4_000, 9_000] {
            let metrics = Metrics::default();
            let (mut queue, mut client) = queue();
            // A frame is `<` and `a`s of its own, then `b`s and `>` that sessions share.
            let own = Bytes::from(format!("<{}", "a".repeat(first)));
            let shared = Bytes::from(format!("{}>", "b".repeat(3_000)));
            let piece = |bytes: &Bytes, goes_on| Piece { bytes: bytes.clone(), goes_on };
            loop {
                let mut pieces: Vec<_> = (0..40).flat_map(|_| [piece(&own, true), piece(&shared, false)]).collect();
                if queue.send_all(&mut pieces, 1 << 20, &metrics) == WriteOutcome::QueueFull {
                    break;
                }
            }
            queue.discard(&metrics);
            assert_eq!(queue.send(&Bytes::from_static(b"!"), usize::MAX, &metrics), WriteOutcome::Accepted);
            let reader = std::thread::spawn(move || {
                let mut text = String::new();
                client.read_to_string(&mut text).map(|_| text)
            });
            while !queue.flush(&metrics).unwrap() {
                std::thread::yield_now();
            }
            queue.close(&metrics);
            let text = reader.join().unwrap().unwrap();
            let frame = format!("<{}{}>", "a".repeat(first), "b".repeat(3_000));
            assert_eq!(text.replace(&frame, ""), "!", "with {first} bytes of its own");
            assert_eq!(metrics.queued_bytes.get(), 0);
        }
    }
}
