//! Asking, and hearing the answers.
//!
//! An ask is polled here first: where the broker is in memory that is all there is to it. One that is not ready goes on in
//! tokio, and its answer comes through the inbox. What a session asks is asked in order.

use std::task::{Context as TaskContext, Poll, Waker};

use tidings_broker::{JoinRefused, SessionRef};
use tidings_model::channel::ChannelKey;
use tidings_model::policy::canonical;

use super::Shard;
use super::endings::RETRY;
use super::session::Open;
use crate::asks::{Answer, Ask, PublishRefused};
use crate::inbox::{Inboxes, Item};

impl Shard {
    /// Takes up what the session wants to ask, one after the other.
    pub(super) fn ask_next(&mut self, slot: u32) {
        loop {
            let Some(session) = self.sessions.get_mut(slot as usize) else { return };
            let Some(asking) = &mut session.asking else { return };
            if asking.elsewhere || asking.next.is_empty() {
                if asking.is_idle() && asking.unread.is_empty() {
                    session.asking = None;
                }
                return;
            }
            let Some((ask, what)) = asking.next.pop_front() else { return };
            self.open_ask(slot, ask, what);
        }
    }

    fn open_ask(&mut self, slot: u32, ask: u32, what: Ask) {
        let Some(session) = self.sessions.get_mut(slot as usize) else { return };
        let join = match &what {
            Ask::Join(join) => Some(join.channel.clone()),
            _ => None,
        };
        let asking = session.asking.get_or_insert_default();
        asking.open.push_back(Open { ask, join });
        match self.ask(slot, ask, what) {
            Some(answer) => self.answered(slot, ask, answer),
            None => {
                if let Some(asking) = self.sessions.get_mut(slot as usize).and_then(|session| session.asking.as_mut()) {
                    asking.elsewhere = true;
                }
            }
        }
    }

    /// Asks. `None`: the answer will come through the inbox.
    pub(super) fn ask(&mut self, slot: u32, ask: u32, what: Ask) -> Option<Answer> {
        let session = self.sessions.get(slot as usize)?;
        let at = self.at(slot, session.life);
        let promise = Promise::new(self.inboxes.clone(), at, ask, &what);
        let mut asking = self.asks.ask(session.asker(at), ask, what);
        match asking.as_mut().poll(&mut TaskContext::from_waker(Waker::noop())) {
            Poll::Ready(answer) => {
                promise.forget();
                Some(answer)
            }
            Poll::Pending => {
                self.runtime.spawn(async move { promise.keep(asking.await) });
                None
            }
        }
    }

    /// An ask that went on elsewhere has ended.
    pub(super) fn answer_came(&mut self, at: SessionRef, ask: u32, answer: Answer) {
        let Some(session) = self.session(at) else { return };
        if ask != 0
            && let Some(asking) = &mut session.asking
        {
            asking.elsewhere = false;
        }
        self.answered(at.slot, ask, answer);
        self.ask_next(at.slot);
        self.resume(at.slot);
    }

    /// An ask has been answered. Joining and leaving have ended only when the broker tells so.
    fn answered(&mut self, slot: u32, ask: u32, answer: Answer) {
        match answer {
            Answer::Join(Ok(())) | Answer::Leave(Ok(())) => {}
            Answer::Join(Err(refused)) => self.join_refused(slot, ask, refused),
            Answer::Leave(Err(_)) if ask == 0 => self.leave_later(slot),
            Answer::Leave(Err(_)) | Answer::Publish(_) => {
                self.ask_has_ended(slot, ask);
                self.call(slot, |protocol, cx| protocol.answered(cx, ask, answer));
            }
        }
    }

    fn join_refused(&mut self, slot: u32, ask: u32, refused: JoinRefused) {
        let Some(channel) = self.ask_has_ended(slot, ask).and_then(|open| open.join) else { return };
        let Some(session) = self.sessions.get(slot as usize) else { return };
        let key = ChannelKey::new(session.app.id.clone(), canonical(&channel));
        self.call(slot, |protocol, cx| protocol.joined(cx, ask, &key, Err(refused)));
        self.free(slot);
    }

    /// Takes the ask out of those that are open.
    pub(super) fn ask_has_ended(&mut self, slot: u32, ask: u32) -> Option<Open> {
        self.sessions.get_mut(slot as usize)?.asking.as_mut()?.end(ask)
    }

    /// A session that is gone could not be taken out of a channel now.
    pub(super) fn leave_later(&mut self, slot: u32) {
        let Some(session) = self.sessions.get_mut(slot as usize) else { return };
        session.subscriptions.iter_mut().for_each(|subscription| subscription.leaving = false);
        let at = self.now.saturating_add(RETRY).min(session.wake_at);
        self.arm(slot, at);
    }
}

/// The promise that an ask is answered. One that is dropped unkept says that it was not possible: a session must not wait
/// for ever because whoever was to answer has broken down.
pub(super) struct Promise {
    to: Option<(Inboxes, SessionRef)>,
    ask: u32,
    unkept: Answer,
}

impl Promise {
    fn new(inboxes: Inboxes, at: SessionRef, ask: u32, what: &Ask) -> Self {
        let unkept = match what {
            Ask::Join(_) => Answer::Join(Err(JoinRefused::Unavailable)),
            Ask::Leave(_) => Answer::Leave(Err(JoinRefused::Unavailable)),
            Ask::Publish(_) => Answer::Publish(Err(PublishRefused::Unavailable)),
        };
        Self { to: Some((inboxes, at)), ask, unkept }
    }

    fn forget(mut self) {
        self.to = None;
    }

    fn keep(mut self, answer: Answer) {
        self.tell(answer);
    }

    fn tell(&mut self, answer: Answer) {
        if let Some((inboxes, at)) = self.to.take() {
            inboxes.put(at.shard, Item::Answer { at, ask: self.ask, answer });
        }
    }
}

impl Drop for Promise {
    fn drop(&mut self) {
        let unkept = self.unkept.clone();
        self.tell(unkept);
    }
}
