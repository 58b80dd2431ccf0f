//! A channel as this node sees it: who of its sessions is in it, and the order in which they are told.
//!
//! What this node's shards are told comes from two sides: messages, which Redis tells every node in one order, each with its
//! number; and the answers to this node's own joins and leaves, which say after which message they belong. So an answer is
//! applied when the message before it has been told, and while joins or leaves are under way messages wait for them. Only one
//! batch of them is under way at a time, in the order in which they were asked for.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use tidings_model::channel::{ChannelKey, ChannelOptions, Member, Position, SessionId};
use tidings_wire::{Prepared, Said};

use super::message::Message;
use super::promise::Promise;
use super::reply::Entry as Kept;
use crate::broker::{BrokerError, Join, Leave};
use crate::subscribers::Subscribers;
use crate::told::{JoinRefused, Joined, Left, Lost, Recovery, SessionRef, Shards, Told, Welcome};

/// Joins and leaves that are sent together at most.
pub(super) const BATCH: usize = 64;

/// Something that this node asks about its own sessions.
#[derive(Debug)]
pub(super) enum Op {
    Join(Box<Join>, Promise),
    /// Without a promise: nobody asked, and nobody is told.
    Leave(Leave, Option<Promise>),
    /// To make Redis know exactly the sessions that are here.
    Resync,
}

/// How an op ended.
#[derive(Debug)]
pub(super) enum Outcome {
    In(Box<Welcome>),
    Full,
    Out,
    Resynced {
        position: Option<Position>,
        recovery: Recovery,
        missed: Vec<Kept>,
    },
    /// Redis would not, and nothing is known to have happened.
    Failed,
}

/// An op that has ended, and the number of the message before it.
#[derive(Debug)]
pub(super) struct Landed {
    pub(super) op: Op,
    pub(super) at: u64,
    pub(super) outcome: Outcome,
    /// Whether the number of subscriptions is still to be told.
    pub(super) owed: bool,
}

/// A session's seat in the channel.
#[derive(Debug)]
pub(super) struct Seat {
    pub(super) session: SessionId,
    pub(super) member: Option<Arc<Member>>,
}

/// What is told with: the channel, and the shards.
#[derive(Clone, Copy)]
pub(super) struct Teller<'a> {
    pub(super) key: &'a ChannelKey,
    pub(super) shards: &'a dyn Shards,
}

impl Teller<'_> {
    fn joined(self, join: &Join, outcome: Result<Welcome, JoinRefused>) {
        let Join { channel, at, request_id, mode, .. } = join;
        let joined = Joined { at: *at, request_id: *request_id, channel: channel.clone(), mode: *mode, outcome };
        self.shards.tell(at.shard, Told::Joined(Box::new(joined)));
    }

    pub(super) fn left(self, leave: &Leave) {
        let left = Left { at: leave.at, request_id: leave.request_id, channel: leave.channel.clone() };
        self.shards.tell(leave.at.shard, Told::Left(left));
    }
}

/// What is to be done next for a channel.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Work {
    /// Send [`Entry::flying`]; subscribe to the channel before, if so.
    Send { subscribe: bool },
    /// Nobody is there any more.
    Unsubscribe,
    /// Nothing.
    Rest,
}

/// A channel as this node sees it.
#[derive(Debug, Default)]
pub(super) struct Entry {
    pub(super) subscribers: Subscribers,
    pub(super) seats: HashMap<SessionRef, Seat>,
    /// What the last session joined with.
    pub(super) options: Option<Arc<ChannelOptions>>,
    /// The number of the last message that was told, while there is somebody who was told and nothing may be missing.
    seen: Option<u64>,
    /// The same from before the connection was lost.
    heard: u64,
    /// Where in the history everybody here is.
    pub(super) position: Option<Position>,
    pub(super) queue: VecDeque<Op>,
    /// Sent, over the connection of this number.
    pub(super) flying: Vec<Op>,
    pub(super) flight: u64,
    line: VecDeque<Landed>,
    held: VecDeque<Message>,
    subscribed: bool,
    /// A task looks after it.
    pub(super) driven: bool,
    /// The number of subscriptions is to be told when it is time.
    pub(super) owed: bool,
}

impl Entry {
    /// Whether everything that was asked has ended and been told.
    pub(super) fn is_quiet(&self) -> bool {
        self.queue.is_empty() && self.flying.is_empty() && self.line.is_empty() && self.held.is_empty() && !self.driven
    }

    /// Whether nothing is left of it.
    pub(super) fn is_over(&self) -> bool {
        self.is_quiet() && self.subscribers.is_empty() && !self.subscribed
    }

    /// Whether sessions here do not hear the channel yet, because the connection is new.
    pub(super) fn is_deaf(&self) -> bool {
        !self.subscribers.is_empty() && self.seen.is_none()
    }

    /// Whether a task is needed that looks after it.
    pub(super) fn wants_driving(&self) -> bool {
        !self.driven && (!self.queue.is_empty() || self.is_deserted())
    }

    fn is_deserted(&self) -> bool {
        self.subscribers.is_empty() && self.subscribed && self.line.is_empty() && self.flying.is_empty()
    }

    /// Takes up what is to be done next, over the connection of this number.
    pub(super) fn work(&mut self, connection: u64) -> Work {
        if !self.queue.is_empty() {
            let count = self.queue.len().min(BATCH);
            self.flying = self.queue.drain(..count).collect();
            self.flight = connection;
            return Work::Send { subscribe: !std::mem::replace(&mut self.subscribed, true) };
        }
        if self.is_deserted() {
            self.subscribed = false;
            self.held.clear();
            return Work::Unsubscribe;
        }
        self.driven = false;
        Work::Rest
    }

    /// What was sent over this connection has ended. False: a message is missing.
    pub(super) fn landed(&mut self, connection: u64, ended: Vec<(u64, Outcome, bool)>, teller: Teller<'_>) -> bool {
        if self.flight != connection || self.flying.len() != ended.len() {
            // The connection is lost, and all of it has been called off.
            return true;
        }
        let ops = std::mem::take(&mut self.flying);
        let is_fine = |(op, (_, outcome, _)): (&Op, &(u64, Outcome, bool))| {
            !matches!((op, outcome), (Op::Resync, Outcome::Failed))
        };
        if !ops.iter().zip(&ended).all(is_fine) {
            // To try that again at once would change nothing.
            self.flying = ops;
            return false;
        }
        let landed = ops.into_iter().zip(ended).map(|(op, (at, outcome, owed))| Landed { op, at, outcome, owed });
        self.line.extend(landed);
        self.advance(teller)
    }

    /// A message has come. False: one before it is missing.
    pub(super) fn hear(&mut self, message: Message, teller: Teller<'_>) -> bool {
        if self.subscribed {
            self.held.push_back(message);
        }
        self.advance(teller)
    }

    /// Tells whatever it is time for.
    fn advance(&mut self, teller: Teller<'_>) -> bool {
        loop {
            let waits_for = self.line.front().map(|landed| landed.at);
            if waits_for.is_some_and(|at| self.seen.is_none_or(|seen| seen >= at)) {
                if let Some(landed) = self.line.pop_front() {
                    self.apply(landed, teller);
                }
                continue;
            }
            if waits_for.is_none() && !self.flying.is_empty() {
                return true;
            }
            let Some(seen) = self.seen else {
                // Nobody is here who could have missed it.
                self.held.clear();
                return true;
            };
            let Some(next) = self.held.pop_front() else { return true };
            if next.number > seen + 1 {
                return false;
            }
            if next.number == seen + 1 {
                self.seen = Some(next.number);
                self.tell(&next.prepared, next.except, teller);
            }
        }
    }

    fn apply(&mut self, landed: Landed, teller: Teller<'_>) {
        let Landed { op, at, outcome, owed } = landed;
        self.owed |= owed;
        match (op, outcome) {
            (Op::Join(join, promise), Outcome::In(welcome)) => self.let_in(*join, promise, at, *welcome, teller),
            (Op::Join(join, promise), Outcome::Full) => {
                if promise.take() {
                    let limit = join.options.max_members;
                    teller.joined(&join, Err(JoinRefused::TooManyMembers { limit }));
                }
                promise.answer(Ok(()));
            }
            (Op::Leave(leave, promise), Outcome::Out) => self.let_out(&leave, promise, teller),
            (Op::Resync, Outcome::Resynced { position, recovery, missed }) => {
                self.resynced(at, position, recovery, missed, teller);
            }
            (op, _) => {
                // What has become of it is not known, so it is called off, and Redis told who is here.
                self.call_off(op, teller);
                self.queue.push_front(Op::Resync);
            }
        }
    }

    fn let_in(&mut self, join: Join, promise: Promise, at: u64, welcome: Welcome, teller: Teller<'_>) {
        let is_new = !self.subscribers.has(join.at);
        if !promise.take() {
            // The session was told that it could not join, so it is not to be there.
            if is_new {
                let Join { channel, session, at, .. } = join;
                self.queue.push_back(Op::Leave(Leave { channel, session, at, request_id: 0 }, None));
            }
            return;
        }
        if self.seen.is_none() {
            self.seen = Some(at);
        }
        self.position = welcome.position.clone();
        self.subscribers.add(join.at);
        self.seats.entry(join.at).or_insert_with(|| Seat { session: join.session, member: join.member.clone() });
        self.options = Some(Arc::clone(&join.options));
        teller.joined(&join, Ok(welcome));
        promise.answer(Ok(()));
    }

    fn let_out(&mut self, leave: &Leave, promise: Option<Promise>, teller: Teller<'_>) {
        self.remove(leave.at);
        if let Some(promise) = promise {
            if promise.take() {
                teller.left(leave);
            }
            promise.answer(Ok(()));
        }
    }

    /// Takes a session out of what is known here.
    pub(super) fn remove(&mut self, at: SessionRef) {
        self.subscribers.remove(at);
        self.seats.remove(&at);
        if self.subscribers.is_empty() {
            (self.seen, self.position, self.owed) = (None, None, false);
        }
    }

    fn resynced(
        &mut self,
        at: u64,
        position: Option<Position>,
        recovery: Recovery,
        missed: Vec<Kept>,
        teller: Teller<'_>,
    ) {
        if self.subscribers.is_empty() {
            return;
        }
        self.seen = Some(at);
        let count = missed.len() as u64;
        let publications = recovery == Recovery::Lost;
        let tells_members = self.options.as_ref().is_some_and(|options| options.presence || options.join_leave);
        // What came and went meanwhile is kept nowhere.
        let members = tells_members && self.heard.checked_add(count) != Some(at);
        // What another life holds follows the news that this one is over; it begins before the first that is left of it.
        let at_loss = missed.first().and_then(|(prepared, _)| before(prepared)).or_else(|| position.clone());
        let lost = |position| Arc::new(Lost { channel: teller.key.clone(), position, publications, members });
        if publications {
            self.tell_lost(&lost(at_loss), teller);
        }
        for (prepared, except) in missed {
            self.tell(&prepared, except, teller);
        }
        self.position = position.clone();
        if members && !publications {
            self.tell_lost(&lost(position), teller);
        }
    }

    fn tell_lost(&self, lost: &Arc<Lost>, teller: Teller<'_>) {
        for shard in self.subscribers.shards() {
            teller.shards.tell(shard, Told::Lost(Arc::clone(lost)));
        }
    }

    /// Tells everybody here.
    pub(super) fn tell(&mut self, prepared: &Arc<Prepared>, except: Option<SessionId>, teller: Teller<'_>) {
        if let Said::Publication(publication) = prepared.said()
            && let Some(position) = &publication.position
        {
            self.position = Some(position.clone());
        }
        for shard in self.subscribers.shards() {
            teller.shards.tell(shard, Told::Said { prepared: Arc::clone(prepared), except });
        }
    }

    /// An op that will not end: whoever joins is told so, whoever leaves is out as far as this node goes.
    fn call_off(&mut self, op: Op, teller: Teller<'_>) {
        match op {
            Op::Join(_, promise) => promise.answer(Err(BrokerError::Unavailable)),
            Op::Leave(leave, promise) => self.let_out(&leave, promise, teller),
            Op::Resync => {}
        }
    }

    /// The connection is lost. What was asked is called off; on return Redis is told who is here.
    pub(super) fn cut_off(&mut self, teller: Teller<'_>) {
        let landed = std::mem::take(&mut self.line).into_iter().map(|landed| landed.op);
        let all: Vec<_> =
            landed.chain(std::mem::take(&mut self.flying)).chain(std::mem::take(&mut self.queue)).collect();
        self.heard = self.seen.take().unwrap_or(self.heard);
        self.held.clear();
        self.subscribed = false;
        for op in all {
            self.call_off(op, teller);
        }
        self.queue.push_back(Op::Resync);
    }

    /// Leaves while Redis is away: it will be told on return.
    pub(super) fn leave_alone(&mut self, leave: Leave, teller: Teller<'_>) {
        self.remove(leave.at);
        teller.left(&leave);
        self.queue.push_back(Op::Leave(leave, None));
    }
}

/// The position of whoever has heard everything before it.
fn before(prepared: &Prepared) -> Option<Position> {
    let Said::Publication(publication) = prepared.said() else { return None };
    let position = publication.position.as_ref()?;
    Some(Position { offset: position.offset.saturating_sub(1), ..position.clone() })
}
