//! How sessions close, and how a shard stops.
//!
//! A closing session sends its closing message (`Ending`). Its connection is dropped (`Gone`) when the client has
//! closed its side, or after five seconds. Its slot is freed when the broker has confirmed that it left all its
//! channels.

use std::sync::Arc;
use std::time::Duration;

use tidings_model::channel::ChannelKey;
use tidings_model::clock::{Millis, Stopwatch};
use tidings_wire::ws;

use super::Shard;
use super::session::{Phase, Session};
use super::stopping::Stopping;
use crate::protocol::{CloseReason, CloseWith};
use crate::refusals::Refused;
use crate::transport::{Transport, WriteOutcome};

/// How long the client has to receive the closing message and to close the connection, in milliseconds.
const CLOSE_TIMEOUT: Millis = 5_000;
/// The same while the server stops, so that clients that do not close the connection delay the stop by no more.
const CLOSE_TIMEOUT_AT_STOP: Millis = 1_000;
/// After how many milliseconds a failed leave is tried again.
pub(super) const LEAVE_RETRY: Millis = 1_000;

impl Shard {
    /// Closes a session for a reason of the server's; its protocol informs the client.
    pub(super) fn close_session(&mut self, slot: u32, why: CloseReason) {
        self.act(slot, |protocol, cx| protocol.closing(cx, why));
        // In case the protocol has not closed it.
        self.end(slot, &CloseWith::EndOfStream);
    }

    /// Closes the sessions whose last write failed: the queue was full or the connection broken.
    pub(super) fn handle_failed_writes(&mut self) {
        while let Some((slot, outcome)) = self.failed_writes.pop() {
            match outcome {
                WriteOutcome::Accepted => {}
                WriteOutcome::Broken => self.hang_up(slot),
                WriteOutcome::QueueFull => self.too_slow(slot),
            }
        }
    }

    fn too_slow(&mut self, slot: u32) {
        let Some(session) = self.sessions.get_mut(slot as usize) else { return };
        if !session.is_open() {
            return;
        }
        self.metrics.slow.inc();
        let client = session.permit.as_ref().and_then(|permit| permit.client);
        self.refusals.note(Some(&session.app.id), Refused::Slow, client, self.now);
        if let Some(queue) = &mut session.write_queue {
            queue.discard(&self.metrics);
        }
        self.close_session(slot, CloseReason::Slow);
    }

    /// Closes an open session, after the bytes written so far.
    pub(super) fn end(&mut self, slot: u32, end: &CloseWith) {
        let Some(session) = self.sessions.get_mut(slot as usize) else { return };
        let (true, Some(queue)) = (session.is_open(), &mut session.write_queue) else { return };
        if let (CloseWith::Frame(code, reason), true) = (end, session.decoder.is_some()) {
            // A client that does not read even this is disconnected by the timeout.
            queue.send(&ws::close(*code, reason), usize::MAX, &self.metrics);
        }
        let is_stream = matches!(queue.transport, Transport::Stream(_));
        let until =
            self.now.saturating_add(if self.stopping.is_some() { CLOSE_TIMEOUT_AT_STOP } else { CLOSE_TIMEOUT });
        session.phase = Phase::Ending(until);
        session.protocol = None;
        session.decoder = None;
        if let Some(requests) = &mut session.requests {
            requests.keep_publishes();
        }
        self.arm(slot, until);
        self.leave_all(slot);
        if is_stream {
            // The body still delivers its queued frames, then ends.
            self.hang_up(slot);
        } else {
            self.writable(slot);
        }
    }

    /// The closing message has left.
    pub(super) fn flushed(&mut self, slot: u32) {
        let Some(session) = self.sessions.get_mut(slot as usize) else { return };
        let Some(queue) = &mut session.write_queue else { return };
        match queue.transport.finish() {
            // The client has already closed its side, so there is nothing to wait for.
            Ok(true) if session.finished => self.hang_up(slot),
            Ok(_) => {}
            Err(_) => self.hang_up(slot),
        }
    }

    /// Drops a session's connection.
    pub(super) fn hang_up(&mut self, slot: u32) {
        let Some(session) = self.sessions.get_mut(slot as usize) else { return };
        let Some(queue) = session.write_queue.take() else { return };
        queue.close(&self.metrics);
        session.phase = Phase::Gone;
        session.protocol = None;
        session.decoder = None;
        if let Some(permit) = session.permit.take() {
            permit.traffic.disconnects.inc();
        }
        if let Some(requests) = &mut session.requests {
            requests.keep_publishes();
        }
        self.metrics.sessions.dec();
        self.connection_closed();
        self.leave_all(slot);
        self.free(slot);
    }

    /// The timer of a session that is not open is due: retries leaving, and drops the connection at the timeout.
    pub(super) fn end_is_due(&mut self, slot: u32) {
        self.leave_all(slot);
        let Some(session) = self.sessions.get(slot as usize) else { return };
        match session.phase {
            Phase::Ending(until) if until <= self.now => self.hang_up(slot),
            Phase::Ending(until) => {
                let at = session.wake_at.min(until);
                self.arm(slot, at);
            }
            Phase::Open | Phase::Gone => {}
        }
    }

    /// Requests that a session leaves all its channels.
    fn leave_all(&mut self, slot: u32) {
        let Some(session) = self.sessions.get_mut(slot as usize) else { return };
        let staying = session.subscriptions.iter_mut().filter(|subscription| !subscription.leaving);
        for subscription in staying {
            subscription.leaving = true;
            let name = Arc::clone(&self.channels.key(subscription.channel).name);
            session.requests.get_or_insert_default().leaves.push_back(name);
        }
        self.list_requests(slot);
    }

    /// Requests that a session leaves a channel that it must not be in.
    pub(super) fn leave_one(&mut self, slot: u32, key: &ChannelKey) {
        let index = self.channels.find(key).and_then(|channel| self.subscription(slot, channel));
        let (Some(index), Some(session)) = (index, self.sessions.get_mut(slot as usize)) else { return };
        if let Some(subscription) = session.subscriptions.get_mut(index) {
            subscription.leaving = true;
            session.requests.get_or_insert_default().leaves.push_back(Arc::clone(&key.name));
            self.list_requests(slot);
        }
    }

    /// Frees the slot of a session, if nothing refers to it any more.
    pub(super) fn free(&mut self, slot: u32) {
        if self.sessions.get(slot as usize).is_some_and(Session::is_over) {
            self.index.remove(&self.sessions, slot);
            self.sessions.remove(slot as usize);
            self.metrics.slots.dec();
        }
    }

    /// Counts a connection that has closed, or whose session never began.
    pub(super) fn connection_closed(&self) {
        self.load.fetch_sub(1, std::sync::atomic::Ordering::Relaxed);
    }

    /// Closes the sessions whose bytes leave as a response of an HTTP server.
    pub(super) fn end_streams(&mut self) {
        let is_stream = |session: &Session| {
            session.is_open()
                && session.write_queue.as_ref().is_some_and(|queue| matches!(queue.transport, Transport::Stream(_)))
        };
        let all = self.sessions.iter().filter(|(_, session)| is_stream(session));
        let slots: Vec<_> = all.map(|(slot, _)| slot as u32).collect();
        slots.into_iter().for_each(|slot| self.close_session(slot, CloseReason::Restarting));
    }

    pub(super) fn begin_stopping(&mut self, grace: Duration, why: CloseReason) {
        let spread = if why == CloseReason::GoingAway { grace.mul_f64(0.8) } else { Duration::ZERO };
        // Sessions that are already closing get the shorter timeout too.
        let until = self.now.saturating_add(CLOSE_TIMEOUT_AT_STOP);
        let late = |phase: Phase| matches!(phase, Phase::Ending(end) if end > until);
        let ending = self.sessions.iter().filter(|(_, session)| late(session.phase));
        let slots: Vec<_> = ending.map(|(slot, _)| slot).collect();
        for slot in slots {
            if let Some(session) = self.sessions.get_mut(slot) {
                session.phase = Phase::Ending(until);
                self.arm(slot as u32, until);
            }
        }
        let total = self.sessions.iter().filter(|(_, session)| session.is_open()).count();
        let since = Stopwatch::start();
        self.stopping.get_or_insert(Stopping { since, grace, spread, why, total, closed: 0, next: 0 });
    }

    /// Closes as many sessions as should have been closed by now.
    pub(super) fn go_on_stopping(&mut self) {
        loop {
            let slots = self.slots();
            let Some(stopping) = &mut self.stopping else { return };
            let share = stopping.since.elapsed().as_secs_f64() / stopping.spread.as_secs_f64().max(f64::MIN_POSITIVE);
            let why = stopping.why;
            let is_late = share >= 1.0;
            if !is_late && stopping.closed as f64 >= share * stopping.total as f64 {
                return;
            }
            let slot = stopping.next;
            if slot >= slots {
                return;
            }
            stopping.next += 1;
            if self.sessions.get(slot).is_some_and(Session::is_open) {
                stopping.closed += 1;
                self.close_session(slot as u32, why);
                self.handle_failed_writes();
            }
        }
    }

    /// An upper bound of the slots in use.
    fn slots(&self) -> usize {
        self.sessions.capacity()
    }

    pub(super) fn has_stopped(&self) -> bool {
        let is_over = |stopping: &Stopping| {
            let is_done = self.sessions.is_empty() && self.walk.is_none() && self.batch.is_empty();
            is_done || stopping.since.elapsed() >= stopping.grace && stopping.next >= self.slots()
        };
        self.stopping.as_ref().is_some_and(is_over)
    }

    /// Closes all connections, sends the leaves, and corrects the gauges: the last thing that a shard does.
    pub(super) fn shut_down(&mut self) {
        let slots: Vec<_> = self.sessions.iter().map(|(slot, _)| slot as u32).collect();
        for slot in slots {
            self.hang_up(slot);
        }
        while !self.requesters.is_empty() {
            self.handle_requests();
        }
        let subscriptions: usize = self.sessions.iter().map(|(_, session)| session.subscriptions.len()).sum();
        self.metrics.subscriptions.dec_by(subscriptions as i64);
        self.metrics.channels.dec_by(self.channels.len() as i64);
        self.metrics.slots.dec_by(self.sessions.len() as i64);
    }
}
