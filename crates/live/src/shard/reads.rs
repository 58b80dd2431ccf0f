//! Reads and decodes the bytes that clients send.
//!
//! All sessions read into the shard's one buffer. Bytes that arrive while a request is open are kept undecoded until
//! the request has ended; with [`MAX_UNREAD`] bytes kept, the socket is not read. However much a client sends, a turn
//! reads at most one buffer of it.

use std::io;

use mio::Token;
use mio::event::Event;
use tidings_broker::SessionRef;
use tidings_wire::ws::{self, Incoming};

use super::session::{Phase, Session};
use super::{SCRATCH, Shard};
use crate::new_session::{NewSession, Opening};
use crate::protocol::{CloseWith, Context, Message};
use crate::transport::{Transport, WriteOutcome};

/// Most bytes of a session that are kept while a request is open.
const MAX_UNREAD: usize = 64 << 10;

impl Shard {
    /// Adds a new session and lets its protocol begin.
    pub(super) fn add_session(&mut self, mut newcomer: NewSession) {
        let slot = self.sessions.vacant_key();
        self.lives = self.lives.wrapping_add(1);
        let at = self.at(slot as u32, self.lives);
        let is_there = match &mut newcomer.transport {
            Transport::Stream(writer) => writer.set_session(at),
            transport => transport.register(&self.registry, Token(slot)).is_ok(),
        };
        if !is_there {
            self.connection_closed();
            return;
        }
        let (session, opening) = Session::new(newcomer, at.life, self.now);
        if let Some(permit) = &session.permit {
            permit.traffic.connects.inc();
        }
        self.sessions.insert(session);
        self.index.add(&self.sessions, at.slot);
        self.metrics.sessions.inc();
        self.metrics.slots.inc();
        self.act(at.slot, |protocol, cx| {
            // In one call, so that the head leaves together with the protocol's first bytes.
            if let Opening::Stream(head) = &opening
                && !head.is_empty()
            {
                cx.write(head.clone());
            }
            protocol.opened(cx);
        });
        if let Opening::WebSocket(early) = opening
            && !early.is_empty()
        {
            self.receive(at.slot, &mut Vec::from(early));
        }
        // TLS may have read ahead, which no event announces.
        self.again.push(at);
        if let Some(why) = self.stopping.as_ref().map(|stopping| stopping.why) {
            self.close_session(at.slot, why);
        }
    }

    /// Handles an event of a socket.
    pub(super) fn ready(&mut self, event: &Event) {
        let slot = event.token().0 as u32;
        if event.is_writable() {
            self.writable(slot);
        }
        if event.is_readable() || event.is_read_closed() || event.is_error() {
            self.read(slot, event.is_read_closed() || event.is_error());
        }
        self.handle_failed_writes();
    }

    /// Reads on from the sockets that had more than one turn's share.
    pub(super) fn read_again(&mut self) {
        for at in std::mem::take(&mut self.again) {
            if self.session(at).is_some() {
                self.read(at.slot, true);
                self.handle_failed_writes();
            }
        }
    }

    /// Reads a socket until it is empty or its share of the turn is used. `to_the_end`: the peer may have closed, which
    /// stopping at a short read would miss.
    fn read(&mut self, slot: u32, to_the_end: bool) {
        let mut turn = SCRATCH;
        while turn > 0 {
            let Some(session) = self.sessions.get_mut(slot as usize) else { return };
            let (phase, life) = (session.phase, session.life);
            let kept = session.requests.as_ref().map_or(0, |requests| requests.unread.len());
            // More than that is kept only after many early bytes.
            let room = turn.min(if session.has_open_request() { MAX_UNREAD.saturating_sub(kept) } else { SCRATCH });
            if room == 0 {
                session.stalled = true;
                return;
            }
            let Some(queue) = &mut session.write_queue else { return };
            match queue.transport.read(&mut self.scratch[..room]) {
                Ok(0) => return self.finished(slot),
                Ok(count) => {
                    let is_empty = count < room && queue.transport.a_short_read_empties() && !to_the_end;
                    turn -= count;
                    if phase == Phase::Open {
                        session.last_read_at = self.now;
                        if let Some(permit) = &session.permit {
                            permit.traffic.bytes_received.inc_by(count as u64);
                        }
                        let mut scratch = std::mem::take(&mut self.scratch);
                        self.receive(slot, &mut scratch[..count]);
                        self.scratch = scratch;
                    }
                    if is_empty {
                        return;
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(_) => return self.failed_writes.push((slot, WriteOutcome::Broken)),
            }
            if turn == 0 {
                self.again.push(self.at(slot, life));
            }
        }
    }

    /// Decodes received bytes, and keeps those that have to wait for an open request.
    pub(super) fn receive(&mut self, slot: u32, input: &mut [u8]) {
        let left = self.feed(slot, input);
        if left > 0
            && let Some(requests) = self.sessions.get_mut(slot as usize).and_then(|session| session.requests.as_mut())
        {
            requests.unread.append(&input[input.len() - left..]);
        }
    }

    /// Decodes received bytes and hands them to the protocol, message by message, until one of them opens a request.
    /// Returns how many bytes are left for when it ends.
    fn feed(&mut self, slot: u32, mut input: &mut [u8]) -> usize {
        loop {
            let Some(session) = self.sessions.get_mut(slot as usize) else { return 0 };
            if session.decoder.is_none() {
                return 0;
            }
            if session.has_open_request() {
                return input.len();
            }
            let (Some(decoder), Some(protocol)) = (&mut session.decoder, &mut session.protocol) else { return 0 };
            self.effects.next_request_id = session.next_request_id;
            let effects = &mut self.effects;
            let (id, now, last_read_at, last_write_at) =
                (session.id, self.now, session.last_read_at, session.last_write_at);
            let mut cx = Context { session: id, now, last_read_at, last_write_at, effects };
            let permit = &session.permit;
            let count = || permit.as_ref().map(|permit| permit.traffic.messages_received.inc());
            let decoded = self.callbacks.catch(id, || {
                match decoder.next(&mut input) {
                    Ok(None) => return false,
                    Ok(Some(Incoming::Text(text))) => {
                        count();
                        protocol.received(&mut cx, Message::Text(text));
                    }
                    Ok(Some(Incoming::Binary(bytes))) => {
                        count();
                        protocol.received(&mut cx, Message::Binary(bytes));
                    }
                    Ok(Some(Incoming::Ping(bytes))) => cx.write(ws::pong(bytes)),
                    Ok(Some(Incoming::Pong(_))) => {}
                    // Echoes the client's code; without one, closes normally (RFC 6455 § 5.5.1).
                    Ok(Some(Incoming::Close(reason))) => cx.close(reason.map_or(1000, |(code, _)| code), ""),
                    Err(violation) => cx.close(violation.close_code(), violation.to_string()),
                }
                true
            });
            match decoded {
                Ok(true) => {}
                Ok(false) => return 0,
                Err(_) => self.effects.break_off(),
            }
            self.carry_out(slot);
        }
    }

    /// Goes on with the bytes that were kept, if no request is open any more.
    pub(super) fn resume(&mut self, slot: u32) {
        let Some(session) = self.sessions.get_mut(slot as usize) else { return };
        if session.has_open_request() || !session.is_open() {
            return;
        }
        let requests = session.requests.take();
        let mut unread = requests.map(|requests| requests.unread).unwrap_or_default();
        let left = self.feed(slot, unread.bytes());
        let Some(session) = self.sessions.get_mut(slot as usize) else { return };
        if left > 0
            && let Some(requests) = &mut session.requests
        {
            unread.keep_last(left);
            requests.unread = unread;
        }
        if session.finished {
            return self.finished(slot);
        }
        if std::mem::take(&mut session.stalled) {
            let at = SessionRef { shard: self.number, slot, life: session.life };
            self.again.push(at);
        }
    }

    /// The client has closed its sending side. Bytes that it sent before are processed first.
    fn finished(&mut self, slot: u32) {
        let Some(session) = self.sessions.get_mut(slot as usize) else { return };
        session.finished = true;
        match session.phase {
            Phase::Open if session.has_open_request() => {}
            Phase::Open => self.end(slot, &CloseWith::EndOfStream),
            Phase::Ending(_) => self.writable(slot),
            Phase::Gone => {}
        }
    }

    /// Writes queued bytes, now that the socket is writable.
    pub(super) fn writable(&mut self, slot: u32) {
        let Some(session) = self.sessions.get_mut(slot as usize) else { return };
        let Some(queue) = &mut session.write_queue else { return };
        match (queue.flush(&self.metrics), session.phase) {
            (Err(_), _) => self.failed_writes.push((slot, WriteOutcome::Broken)),
            (Ok(true), Phase::Ending(_)) => self.flushed(slot),
            (Ok(_), _) => {}
        }
    }

    /// The body of the session's response was dropped.
    pub(super) fn stream_dropped(&mut self, at: SessionRef) {
        if self.session(at).is_some() {
            self.failed_writes.push((at.slot, WriteOutcome::Broken));
        }
    }
}
