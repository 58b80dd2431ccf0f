//! Calls protocols, and carries out the effects of their calls.

use tidings_model::clock::Millis;

use super::Shard;
use super::session::NEVER;
use crate::protocol::{Context, SessionProtocol};
use crate::transport::WriteOutcome;
use crate::wheel::Timer;

/// Capacity that the buffer for the requests of one call keeps.
const KEPT_REQUESTS: usize = 64;

impl Shard {
    /// Calls a session's protocol, if the session is open, and carries out the effects.
    pub(super) fn act(&mut self, slot: u32, call: impl FnOnce(&mut dyn SessionProtocol, &mut Context<'_>)) {
        let Some(session) = self.sessions.get_mut(slot as usize) else { return };
        let (id, now, last_read_at, last_write_at) =
            (session.id, self.now, session.last_read_at, session.last_write_at);
        let Some(protocol) = &mut session.protocol else { return };
        self.effects.next_request_id = session.next_request_id;
        let effects = &mut self.effects;
        let mut cx = Context { session: id, now, last_read_at, last_write_at, effects };
        // State that a panic left half changed is dropped with the session.
        if self.callbacks.catch(id, || call(protocol.as_mut(), &mut cx)).is_err() {
            self.effects.break_off();
        }
        self.carry_out(slot);
    }

    /// Carries out the effects of a call.
    pub(super) fn carry_out(&mut self, slot: u32) {
        let Some(session) = self.sessions.get_mut(slot as usize) else { return };
        session.next_request_id = self.effects.next_request_id;
        if self.effects.user.is_some() {
            self.set_user(slot);
        }
        let Some(session) = self.sessions.get_mut(slot as usize) else { return };
        for why in self.effects.refusals.drain(..) {
            let client = session.permit.as_ref().and_then(|permit| permit.client);
            self.refusals.note(Some(&session.app.id), why, client, self.now);
        }
        if !self.effects.requests.is_empty() {
            session.requests.get_or_insert_default().next.extend(self.effects.requests.drain(..));
            self.effects.requests.shrink_to(KEPT_REQUESTS);
            self.list_requests(slot);
        }
        if !self.effects.writes.is_empty() {
            self.write(slot);
        }
        if let Some(at) = self.effects.wake_at.take() {
            self.arm(slot, at);
        }
        if let Some(end) = self.effects.end.take() {
            self.end(slot, &end);
        }
    }

    fn set_user(&mut self, slot: u32) {
        self.index.remove_user(&self.sessions, slot);
        if let Some(session) = self.sessions.get_mut(slot as usize) {
            session.user = self.effects.user.take();
        }
        self.index.add_user(&self.sessions, slot);
    }

    fn write(&mut self, slot: u32) {
        let Some(session) = self.sessions.get_mut(slot as usize) else { return };
        session.last_write_at = self.now;
        if let Some(permit) = &session.permit {
            permit.traffic.bytes_sent.inc_by(self.effects.writes.iter().map(|piece| piece.bytes.len() as u64).sum());
        }
        let outcome = match &mut session.write_queue {
            Some(queue) => queue.send_all(&mut self.effects.writes, self.settings.session_queue, &self.metrics),
            None => WriteOutcome::Accepted,
        };
        // Bytes that a broken connection did not take must not reach another session.
        self.effects.writes.clear();
        if outcome != WriteOutcome::Accepted {
            self.failed_writes.push((slot, outcome));
        }
    }

    /// Sets the session's timer, which is the only one it has.
    pub(super) fn arm(&mut self, slot: u32, at: Millis) {
        let Some(session) = self.sessions.get_mut(slot as usize) else { return };
        session.wake_at = at;
        // An existing entry that is due earlier suffices: when it is due, it is entered again for the right time.
        if at != NEVER && session.timer_slot.is_none_or(|timer_slot| self.wheel.is_before(at, timer_slot)) {
            session.timer_slot = Some(self.wheel.enter(Timer { slot, life: session.life }, at));
        }
    }

    /// Wakes the sessions whose timers are due.
    pub(super) fn wake_due(&mut self) {
        let mut due = std::mem::take(&mut self.due);
        self.wheel.advance(self.now, &mut due);
        for (Timer { slot, life }, timer_slot) in due.drain(..) {
            let Some(session) = self.sessions.get_mut(slot as usize) else { continue };
            if session.life != life || session.timer_slot != Some(timer_slot) {
                continue;
            }
            session.timer_slot = None;
            if session.wake_at > self.now {
                let at = session.wake_at;
                self.arm(slot, at);
                continue;
            }
            session.wake_at = NEVER;
            if session.is_open() {
                self.act(slot, |protocol, cx| protocol.woken(cx));
            } else {
                self.end_is_due(slot);
            }
        }
        self.due = due;
        self.handle_failed_writes();
    }
}
