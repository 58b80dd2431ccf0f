//! How sessions end, and how a shard does.
//!
//! An open session says its last words (`Ending`), hangs up when they have left and the client has heard them, or after
//! five seconds (`Gone`), and gives its slot back when the broker has told that it has left all its channels.

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

/// How long the client has to take the last words and to hang up.
const LAST_WORDS: Millis = 5_000;
/// The same while the server stops: a client that does not hang up holds up its end by no more.
const LAST_WORDS_AT_STOP: Millis = 1_000;
/// When leaving is tried again where it was not possible.
pub(super) const RETRY: Millis = 1_000;

impl Shard {
    /// The server ends a session: its protocol says so.
    pub(super) fn say_goodbye(&mut self, slot: u32, why: CloseReason) {
        self.act(slot, |protocol, cx| protocol.closing(cx, why));
        // If the protocol has not ended it.
        self.end(slot, &CloseWith::EndOfStream);
    }

    /// Deals with sessions that a write has shown to be slow or gone.
    pub(super) fn part_with_doomed(&mut self) {
        while let Some((slot, outcome)) = self.doomed.pop() {
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
        self.say_goodbye(slot, CloseReason::Slow);
    }

    /// Ends an open session, after all that was written to it.
    pub(super) fn end(&mut self, slot: u32, end: &CloseWith) {
        let Some(session) = self.sessions.get_mut(slot as usize) else { return };
        let (true, Some(queue)) = (session.is_open(), &mut session.write_queue) else { return };
        if let (CloseWith::Frame(code, reason), true) = (end, session.decoder.is_some()) {
            // Whoever is too slow for this will be hung up on.
            queue.send(&ws::close(*code, reason), usize::MAX, &self.metrics);
        }
        let is_stream = matches!(queue.transport, Transport::Stream(_));
        let until = self.now.saturating_add(if self.stopping.is_some() { LAST_WORDS_AT_STOP } else { LAST_WORDS });
        session.phase = Phase::Ending(until);
        session.protocol = None;
        session.decoder = None;
        if let Some(requests) = &mut session.requests {
            requests.keep_publishes();
        }
        self.arm(slot, until);
        self.leave_all(slot);
        if is_stream {
            // The body gives out what it holds and ends.
            self.hang_up(slot);
        } else {
            self.writable(slot);
        }
    }

    /// The last words have left.
    pub(super) fn flushed(&mut self, slot: u32) {
        let Some(session) = self.sessions.get_mut(slot as usize) else { return };
        let Some(queue) = &mut session.write_queue else { return };
        match queue.transport.finish() {
            // The client has hung up already, so nothing is waited for.
            Ok(true) if session.finished => self.hang_up(slot),
            Ok(_) => {}
            Err(_) => self.hang_up(slot),
        }
    }

    /// Lets go of a session's connection.
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
        self.lost_one();
        self.leave_all(slot);
        self.free(slot);
    }

    /// It is time for whatever a session that isn't open waits for.
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

    /// Asks to have a session taken out of all its channels.
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

    /// Asks to have a session taken out of a channel that it was not to be in.
    pub(super) fn leave_one(&mut self, slot: u32, key: &ChannelKey) {
        let index = self.channels.find(key).and_then(|channel| self.subscription(slot, channel));
        let (Some(index), Some(session)) = (index, self.sessions.get_mut(slot as usize)) else { return };
        if let Some(subscription) = session.subscriptions.get_mut(index) {
            subscription.leaving = true;
            session.requests.get_or_insert_default().leaves.push_back(Arc::clone(&key.name));
            self.list_requests(slot);
        }
    }

    /// Gives the slot of a session that is over to whoever comes.
    pub(super) fn free(&mut self, slot: u32) {
        if self.sessions.get(slot as usize).is_some_and(Session::is_over) {
            self.index.remove(&self.sessions, slot);
            self.sessions.remove(slot as usize);
            self.metrics.slots.dec();
        }
    }

    /// A connection is gone, or never was.
    pub(super) fn lost_one(&self) {
        self.load.fetch_sub(1, std::sync::atomic::Ordering::Relaxed);
    }

    /// Ends sessions that are part of somebody else's response.
    pub(super) fn end_streams(&mut self) {
        let is_stream = |session: &Session| {
            session.is_open()
                && session.write_queue.as_ref().is_some_and(|queue| matches!(queue.transport, Transport::Stream(_)))
        };
        let all = self.sessions.iter().filter(|(_, session)| is_stream(session));
        let slots: Vec<_> = all.map(|(slot, _)| slot as u32).collect();
        slots.into_iter().for_each(|slot| self.say_goodbye(slot, CloseReason::Restarting));
    }

    pub(super) fn begin_stopping(&mut self, grace: Duration, why: CloseReason) {
        let spread = if why == CloseReason::GoingAway { grace.mul_f64(0.8) } else { Duration::ZERO };
        // Those that are ending already have no longer either.
        let until = self.now.saturating_add(LAST_WORDS_AT_STOP);
        let late = |phase: Phase| matches!(phase, Phase::Ending(end) if end > until);
        let ending = self.sessions.iter().filter(|(_, session)| late(session.phase));
        let slots: Vec<_> = ending.map(|(slot, _)| slot).collect();
        for slot in slots {
            if let Some(session) = self.sessions.get_mut(slot) {
                session.phase = Phase::Ending(until);
                self.arm(slot as u32, until);
            }
        }
        let all = self.sessions.iter().filter(|(_, session)| session.is_open()).count();
        let since = Stopwatch::start();
        self.stopping.get_or_insert(Stopping { since, grace, spread, why, all, told: 0, next: 0 });
    }

    /// Ends as many sessions as should have been ended by now.
    pub(super) fn go_on_stopping(&mut self) {
        loop {
            let slots = self.slots();
            let Some(stopping) = &mut self.stopping else { return };
            let share = stopping.since.elapsed().as_secs_f64() / stopping.spread.as_secs_f64().max(f64::MIN_POSITIVE);
            let why = stopping.why;
            let is_late = share >= 1.0;
            if !is_late && stopping.told as f64 >= share * stopping.all as f64 {
                return;
            }
            let slot = stopping.next;
            if slot >= slots {
                return;
            }
            stopping.next += 1;
            if self.sessions.get(slot).is_some_and(Session::is_open) {
                stopping.told += 1;
                self.say_goodbye(slot as u32, why);
                self.part_with_doomed();
            }
        }
    }

    /// No slot is higher.
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

    /// The last thing that a shard does.
    pub(super) fn leave_nothing(&mut self) {
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
