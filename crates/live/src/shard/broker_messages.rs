//! Handles the broker's messages: joins and leaves, lost messages, and orders to sessions.

use tidings_broker::{Action, DeliveryMode, Joined, Left, Lost, SessionOrder, ShardMessage, Who};
use tidings_model::channel::ChannelKey;
use tidings_model::id::AppId;

use super::Shard;
use super::channels::Subscriber;
use super::session::{Session, Subscription};
use crate::protocol::{CloseReason, CloseWith};

impl Shard {
    pub(super) fn handle_broker_message(&mut self, message: ShardMessage) {
        match message {
            // Channel messages begin a walk instead.
            ShardMessage::Message { .. } => {}
            ShardMessage::Joined(joined) => self.joined(*joined),
            ShardMessage::Left(left) => self.left(&left),
            ShardMessage::Lost(lost) => self.lost(&lost),
            ShardMessage::Order(order) => self.ordered(&order),
        }
    }

    fn ordered(&mut self, order: &SessionOrder) {
        let SessionOrder { app, to, except, action } = order;
        for slot in self.candidates(app, to) {
            let is_addressed =
                |session: &Session| session.is_open() && session.app.id == *app && Some(session.id) != *except;
            if !self.sessions.get(slot as usize).is_some_and(is_addressed) {
                continue;
            }
            match action {
                Action::Shut => self.close_session(slot, CloseReason::Shut),
                Action::Renew => self.close_session(slot, CloseReason::GoingAway),
                _ => self.act(slot, |protocol, cx| protocol.ordered(cx, action)),
            }
            if matches!(action, Action::Disconnect { .. }) {
                // In case the protocol has not closed it.
                self.end(slot, &CloseWith::EndOfStream);
            }
        }
    }

    /// Slots of sessions that the order may be addressed to, including all that it is.
    fn candidates(&self, app: &AppId, who: &Who) -> Vec<u32> {
        match who {
            Who::Session(id) => self.index.by_id(&self.sessions, *id).into_iter().collect(),
            Who::User(user) => self.index.by_user(&self.sessions, app, user).to_vec(),
            // Too rare to keep an index of sessions by app.
            Who::All => self.sessions.iter().map(|(slot, _)| slot as u32).collect(),
        }
    }

    fn joined(&mut self, joined: Joined) {
        let Joined { at, request_id, channel, mode, outcome } = joined;
        if self.session(at).is_none() {
            return;
        }
        let was_requested = self.request_has_ended(at.slot, request_id).is_some();
        if outcome.is_ok() {
            self.subscribe(at.slot, &channel, mode);
        }
        let is_open = self.sessions.get(at.slot as usize).is_some_and(Session::is_open);
        if is_open && was_requested {
            self.act(at.slot, |protocol, cx| protocol.joined(cx, request_id, &channel, outcome));
        } else if outcome.is_ok() {
            // The session is closed, or its request has already been answered with a failure. In both cases it must not
            // stay in the channel.
            self.leave_one(at.slot, &channel);
        }
        self.resume(at.slot);
        self.free(at.slot);
    }

    fn left(&mut self, left: &Left) {
        let Left { at, request_id, channel } = left;
        if self.session(*at).is_none() {
            return;
        }
        self.unsubscribe(at.slot, channel);
        self.request_has_ended(at.slot, *request_id);
        if *request_id != 0 {
            self.act(at.slot, |protocol, cx| protocol.left(cx, *request_id, channel, Ok(())));
        }
        self.resume(at.slot);
        self.free(at.slot);
    }

    fn lost(&mut self, lost: &Lost) {
        let Some(channel) = self.channels.find(&lost.channel) else { return };
        // Collected first: the call may close a session and so change the list.
        let slots: Vec<_> = self.channels.subscribers(channel).iter().map(|subscriber| subscriber.slot).collect();
        slots.into_iter().for_each(|slot| self.act(slot, |protocol, cx| protocol.lost(cx, lost)));
    }

    fn subscribe(&mut self, slot: u32, key: &ChannelKey, mode: DeliveryMode) {
        let known = self.channels.find(key);
        if let Some(channel) = known
            && let Some(index) = self.subscription(slot, channel)
            && let Some(subscription) =
                self.sessions.get(slot as usize).and_then(|session| session.subscriptions.get(index))
        {
            self.channels.subscriber(channel, subscription.index_in_channel).mode = mode;
            return;
        }
        let Some(session) = self.sessions.get_mut(slot as usize) else { return };
        let index_in_session = session.subscriptions.len() as u32;
        let (channel, index_in_channel) = self.channels.add(key, Subscriber { slot, index_in_session, mode });
        if session.subscriptions.is_empty() {
            // Most sessions are in one channel.
            session.subscriptions.reserve_exact(1);
        }
        session.subscriptions.push(Subscription { channel, index_in_channel, leaving: false });
        self.metrics.subscriptions.inc();
        if known.is_none() {
            self.metrics.channels.inc();
        }
    }

    /// The index of a channel in a session's subscriptions. Searches the shorter list, the session's or the channel's:
    /// the list of a session that watches ten thousand users would otherwise be searched ten thousand times.
    pub(super) fn subscription(&self, slot: u32, channel: u32) -> Option<usize> {
        let subscriptions = &self.sessions.get(slot as usize)?.subscriptions;
        let subscribers = self.channels.subscribers(channel);
        if subscriptions.len() <= subscribers.len() {
            subscriptions.iter().position(|subscription| subscription.channel == channel)
        } else {
            let own = subscribers.iter().find(|subscriber| subscriber.slot == slot)?;
            Some(own.index_in_session as usize)
        }
    }

    fn unsubscribe(&mut self, slot: u32, key: &ChannelKey) {
        let Some(channel) = self.channels.find(key) else { return };
        let Some(index) = self.subscription(slot, channel) else { return };
        let Some(session) = self.sessions.get_mut(slot as usize) else { return };
        let gone = session.subscriptions.swap_remove(index);
        if let Some(moved) = session.subscriptions.get(index) {
            self.channels.subscriber(moved.channel, moved.index_in_channel).index_in_session = index as u32;
        }
        let before = self.channels.len();
        if let Some(moved) = self.channels.remove(gone.channel, gone.index_in_channel)
            && let Some(session) = self.sessions.get_mut(moved.slot as usize)
            && let Some(subscription) = session.subscriptions.get_mut(moved.index_in_session as usize)
        {
            subscription.index_in_channel = gone.index_in_channel;
        }
        self.metrics.subscriptions.dec();
        self.metrics.channels.dec_by((before - self.channels.len()) as i64);
    }
}
