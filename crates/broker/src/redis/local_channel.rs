//! A channel as this node sees it: its sessions in the channel, and the order in which its shards receive messages.
//!
//! The shards' messages come from two sources. Redis publishes numbered messages to all nodes, in one order. And the
//! answers to this node's own joins and leaves say after which message they belong. An answer is applied when the
//! message before it has been delivered; while joins or leaves are in flight, messages are buffered until their answers
//! arrive. Only one batch of joins and leaves is in flight at a time, in the order of the requests.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use tidings_model::channel::{ChannelKey, ChannelOptions, Member, Position, SessionId};
use tidings_wire::{ChannelMessage, EncodedMessage};

use super::promise::Promise;
use super::pubsub_message::{PubsubContent, PubsubMessage};
use super::reply::HistoryEntry;
use crate::broker::{BrokerError, Join, Leave};
use crate::shard_message::{JoinRefused, Joined, Left, Lost, Recovery, SessionRef, ShardMessage, Shards, Welcome};
use crate::subscribers::Subscribers;

/// The largest number of joins and leaves that are sent together.
pub(super) const BATCH: usize = 64;

/// A change that this node requests for its own sessions.
#[derive(Debug)]
pub(super) enum Op {
    Join(Box<Join>, Promise),
    /// Without a promise, no session asked for it and none receives the result.
    Leave(Leave, Option<Promise>),
    /// Makes Redis' list of this node's sessions equal to the sessions that are here.
    Resync,
}

/// How an op ended.
#[derive(Debug)]
pub(super) enum OpOutcome {
    In(Box<Welcome>),
    Full,
    Out,
    Resynced {
        position: Option<Position>,
        recovery: Recovery,
        missed: Vec<HistoryEntry>,
    },
    /// Redis answered with an error.
    Failed,
}

/// An op that Redis has answered, and the number `at` of the message after which it is to be applied.
#[derive(Debug)]
pub(super) struct CompletedOp {
    pub(super) op: Op,
    pub(super) at: u64,
    pub(super) outcome: OpOutcome,
    /// Whether the subscription count has changed and is still to be sent.
    pub(super) count_pending: bool,
}

/// A session of this node in the channel.
#[derive(Debug)]
pub(super) struct LocalSession {
    pub(super) session: SessionId,
    pub(super) member: Option<Arc<Member>>,
}

/// Sends the results of joins and leaves to the shards.
#[derive(Clone, Copy)]
pub(super) struct ShardNotifier<'a> {
    pub(super) key: &'a ChannelKey,
    pub(super) shards: &'a dyn Shards,
}

impl ShardNotifier<'_> {
    fn joined(self, join: &Join, outcome: Result<Welcome, JoinRefused>) {
        let Join { channel, at, request_id, mode, .. } = join;
        let joined = Joined { at: *at, request_id: *request_id, channel: channel.clone(), mode: *mode, outcome };
        self.shards.send(at.shard, ShardMessage::Joined(Box::new(joined)));
    }

    pub(super) fn left(self, leave: &Leave) {
        let left = Left { at: leave.at, request_id: leave.request_id, channel: leave.channel.clone() };
        self.shards.send(leave.at.shard, ShardMessage::Left(left));
    }
}

/// The next step for a channel.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Work {
    /// Send [`LocalChannel::in_flight`], after subscribing to the channel if `subscribe`.
    Send { subscribe: bool },
    /// Unsubscribe: no session of this node is in the channel any more.
    Unsubscribe,
    /// Nothing to do.
    Rest,
}

/// A channel as this node sees it.
#[derive(Debug, Default)]
pub(super) struct LocalChannel {
    pub(super) subscribers: Subscribers,
    pub(super) sessions: HashMap<SessionRef, LocalSession>,
    /// The options of the last join.
    pub(super) options: Option<Arc<ChannelOptions>>,
    /// The number of the last message that was delivered; `None` while no session is here, or messages may be missing.
    delivered: Option<u64>,
    /// The value of `delivered` before the connection was lost.
    delivered_before: u64,
    /// The position of the newest publication that the sessions here have received.
    pub(super) position: Option<Position>,
    pub(super) queue: VecDeque<Op>,
    /// Ops that were sent and not answered yet.
    pub(super) in_flight: Vec<Op>,
    /// The number of the connection over which they were sent.
    pub(super) in_flight_on: u64,
    completed: VecDeque<CompletedOp>,
    buffered: VecDeque<PubsubMessage>,
    subscribed: bool,
    /// A task carries out this channel's work.
    pub(super) has_task: bool,
    /// The subscription count has changed; the sweep sends it when its interval has passed.
    pub(super) count_pending: bool,
}

impl LocalChannel {
    /// Whether all ops have ended, all messages are delivered, and no task runs.
    pub(super) fn is_quiet(&self) -> bool {
        self.queue.is_empty()
            && self.in_flight.is_empty()
            && self.completed.is_empty()
            && self.buffered.is_empty()
            && !self.has_task
    }

    /// Whether the channel can be dropped.
    pub(super) fn is_over(&self) -> bool {
        self.is_quiet() && self.subscribers.is_empty() && !self.subscribed
    }

    /// Whether the sessions here do not receive the channel's messages yet, because the connection is new.
    pub(super) fn is_unsynced(&self) -> bool {
        !self.subscribers.is_empty() && self.delivered.is_none()
    }

    /// Whether a task has to be started for this channel.
    pub(super) fn wants_task(&self) -> bool {
        !self.has_task && (!self.queue.is_empty() || self.is_deserted())
    }

    fn is_deserted(&self) -> bool {
        self.subscribers.is_empty() && self.subscribed && self.completed.is_empty() && self.in_flight.is_empty()
    }

    /// Begins the next step, over the connection with this number.
    pub(super) fn work(&mut self, connection: u64) -> Work {
        if !self.queue.is_empty() {
            let count = self.queue.len().min(BATCH);
            self.in_flight = self.queue.drain(..count).collect();
            self.in_flight_on = connection;
            return Work::Send { subscribe: !std::mem::replace(&mut self.subscribed, true) };
        }
        if self.is_deserted() {
            self.subscribed = false;
            self.buffered.clear();
            return Work::Unsubscribe;
        }
        self.has_task = false;
        Work::Rest
    }

    /// Takes the outcomes of the ops that were sent over this connection. False: the connection must be closed, because
    /// a message is missing or a resync failed.
    pub(super) fn completed(
        &mut self,
        connection: u64,
        ended: Vec<(u64, OpOutcome, bool)>,
        notifier: ShardNotifier<'_>,
    ) -> bool {
        if self.in_flight_on != connection || self.in_flight.len() != ended.len() {
            // The connection was lost meanwhile, and its ops have been cancelled.
            return true;
        }
        let ops = std::mem::take(&mut self.in_flight);
        let is_fine = |(op, (_, outcome, _)): (&Op, &(u64, OpOutcome, bool))| {
            !matches!((op, outcome), (Op::Resync, OpOutcome::Failed))
        };
        if !ops.iter().zip(&ended).all(is_fine) {
            // A resync that failed would fail again at once: the connection is closed instead.
            self.in_flight = ops;
            return false;
        }
        let completed = ops.into_iter().zip(ended).map(|(op, (at, outcome, count_pending))| CompletedOp {
            op,
            at,
            outcome,
            count_pending,
        });
        self.completed.extend(completed);
        self.advance(notifier)
    }

    /// Takes a message from Redis. False: a message before it is missing.
    pub(super) fn receive(&mut self, message: PubsubMessage, notifier: ShardNotifier<'_>) -> bool {
        if self.subscribed {
            self.buffered.push_back(message);
        }
        self.advance(notifier)
    }

    /// Delivers messages and applies outcomes, as far as their order allows. False: a message is missing.
    fn advance(&mut self, notifier: ShardNotifier<'_>) -> bool {
        loop {
            let waits_for = self.completed.front().map(|completed| completed.at);
            if waits_for.is_some_and(|at| self.delivered.is_none_or(|seen| seen >= at)) {
                if let Some(completed) = self.completed.pop_front() {
                    self.apply(completed, notifier);
                }
                continue;
            }
            if waits_for.is_none() && !self.in_flight.is_empty() {
                return true;
            }
            let Some(seen) = self.delivered else {
                // No session is here that could miss the messages.
                self.buffered.clear();
                return true;
            };
            let Some(next) = self.buffered.pop_front() else { return true };
            if next.number > seen + 1 {
                return false;
            }
            if next.number == seen + 1 {
                self.delivered = Some(next.number);
                self.deliver(next.content, notifier);
            }
        }
    }

    fn apply(&mut self, completed: CompletedOp, notifier: ShardNotifier<'_>) {
        let CompletedOp { op, at, outcome, count_pending } = completed;
        self.count_pending |= count_pending;
        match (op, outcome) {
            (Op::Join(join, promise), OpOutcome::In(welcome)) => {
                self.apply_join(*join, promise, at, *welcome, notifier)
            }
            (Op::Join(join, promise), OpOutcome::Full) => {
                if promise.claim() {
                    let limit = join.options.max_members;
                    notifier.joined(&join, Err(JoinRefused::TooManyMembers { limit }));
                }
                promise.answer(Ok(()));
            }
            (Op::Leave(leave, promise), OpOutcome::Out) => self.apply_leave(&leave, promise, notifier),
            (Op::Resync, OpOutcome::Resynced { position, recovery, missed }) => {
                self.apply_resync(at, position, recovery, missed, notifier);
            }
            (op, _) => {
                // It is not known whether the op was executed: cancel it, and resync.
                self.cancel(op, notifier);
                self.queue.push_front(Op::Resync);
            }
        }
    }

    fn apply_join(&mut self, join: Join, promise: Promise, at: u64, welcome: Welcome, notifier: ShardNotifier<'_>) {
        let is_new = !self.subscribers.has(join.at);
        if !promise.claim() {
            // The session has received a refusal because the answer came too late: take it out of the channel again.
            if is_new {
                let Join { channel, session, at, .. } = join;
                self.queue.push_back(Op::Leave(Leave { channel, session, at, request_id: 0 }, None));
            }
            return;
        }
        if self.delivered.is_none() {
            self.delivered = Some(at);
        }
        self.position = welcome.position.clone();
        self.subscribers.add(join.at);
        self.sessions
            .entry(join.at)
            .or_insert_with(|| LocalSession { session: join.session, member: join.member.clone() });
        self.options = Some(Arc::clone(&join.options));
        notifier.joined(&join, Ok(welcome));
        promise.answer(Ok(()));
    }

    fn apply_leave(&mut self, leave: &Leave, promise: Option<Promise>, notifier: ShardNotifier<'_>) {
        self.remove(leave.at);
        if let Some(promise) = promise {
            if promise.claim() {
                notifier.left(leave);
            }
            promise.answer(Ok(()));
        }
    }

    /// Removes a session from this node's view.
    pub(super) fn remove(&mut self, at: SessionRef) {
        self.subscribers.remove(at);
        self.sessions.remove(&at);
        if self.subscribers.is_empty() {
            (self.delivered, self.position, self.count_pending) = (None, None, false);
        }
    }

    fn apply_resync(
        &mut self,
        at: u64,
        position: Option<Position>,
        recovery: Recovery,
        missed: Vec<HistoryEntry>,
        notifier: ShardNotifier<'_>,
    ) {
        if self.subscribers.is_empty() {
            return;
        }
        self.delivered = Some(at);
        let count = missed.len() as u64;
        let publications = recovery == Recovery::Lost;
        let announces_members = self.options.as_ref().is_some_and(|options| options.presence || options.join_leave);
        // Joins and leaves are kept in no history. If more messages than the missed publications were numbered, some of
        // them may have been joins or leaves.
        let members = announces_members && self.delivered_before.checked_add(count) != Some(at);
        // With a new epoch, `Lost` is sent first, then the publications of that epoch. The position in `Lost` is the
        // one before the first of them.
        let at_loss = missed.first().and_then(|(message, _)| before(message)).or_else(|| position.clone());
        let lost = |position| Arc::new(Lost { channel: notifier.key.clone(), position, publications, members });
        if publications {
            self.send_lost(&lost(at_loss), notifier);
        }
        for (message, except) in missed {
            self.send(&message, except, notifier);
        }
        self.position = position.clone();
        if members && !publications {
            self.send_lost(&lost(position), notifier);
        }
    }

    fn send_lost(&self, lost: &Arc<Lost>, notifier: ShardNotifier<'_>) {
        for shard in self.subscribers.shards() {
            notifier.shards.send(shard, ShardMessage::Lost(Arc::clone(lost)));
        }
    }

    /// Sends a message's content to the sessions here, or `Lost` if this version cannot read it.
    fn deliver(&mut self, content: PubsubContent, notifier: ShardNotifier<'_>) {
        let mut lost = Lost {
            channel: notifier.key.clone(),
            position: self.position.clone(),
            publications: false,
            members: false,
        };
        match content {
            PubsubContent::Message(message, except) => return self.send(&message, except, notifier),
            PubsubContent::UnreadableEvent(Some(position)) => {
                self.position = Some(position.clone());
                (lost.position, lost.publications) = (Some(position), true);
            }
            PubsubContent::UnreadableMember => lost.members = true,
            PubsubContent::UnreadableEvent(None) | PubsubContent::UnknownKind => return,
        }
        self.send_lost(&Arc::new(lost), notifier);
    }

    /// Sends a channel message to the shards of all sessions here.
    pub(super) fn send(
        &mut self,
        message: &Arc<EncodedMessage>,
        except: Option<SessionId>,
        notifier: ShardNotifier<'_>,
    ) {
        if let ChannelMessage::Publication(publication) = message.content()
            && let Some(position) = &publication.position
        {
            self.position = Some(position.clone());
        }
        for shard in self.subscribers.shards() {
            notifier.shards.send(shard, ShardMessage::Message { message: Arc::clone(message), except });
        }
    }

    /// Cancels an op: a join is refused, a leave takes effect on this node.
    fn cancel(&mut self, op: Op, notifier: ShardNotifier<'_>) {
        match op {
            Op::Join(_, promise) => promise.answer(Err(BrokerError::Unavailable)),
            Op::Leave(leave, promise) => self.apply_leave(&leave, promise, notifier),
            Op::Resync => {}
        }
    }

    /// The connection is lost: cancels all ops, and queues a resync for the next connection.
    pub(super) fn disconnect(&mut self, notifier: ShardNotifier<'_>) {
        let completed = std::mem::take(&mut self.completed).into_iter().map(|completed| completed.op);
        let all: Vec<_> =
            completed.chain(std::mem::take(&mut self.in_flight)).chain(std::mem::take(&mut self.queue)).collect();
        self.delivered_before = self.delivered.take().unwrap_or(self.delivered_before);
        self.buffered.clear();
        self.subscribed = false;
        for op in all {
            self.cancel(op, notifier);
        }
        self.queue.push_back(Op::Resync);
    }

    /// Lets a session leave while Redis cannot be reached; the leave is sent after the reconnect.
    pub(super) fn leave_offline(&mut self, leave: Leave, notifier: ShardNotifier<'_>) {
        self.remove(leave.at);
        notifier.left(&leave);
        self.queue.push_back(Op::Leave(leave, None));
    }
}

/// The position just before this publication.
fn before(message: &EncodedMessage) -> Option<Position> {
    let ChannelMessage::Publication(publication) = message.content() else { return None };
    let position = publication.position.as_ref()?;
    Some(Position { offset: position.offset.saturating_sub(1), ..position.clone() })
}
