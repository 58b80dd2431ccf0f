//! A shard: its sessions, their channels, and the handling of their events.
//!
//! It lives in one thread, whose [loop](run) calls all of this. A session's protocol is called through [`Shard::act`]
//! only. The effects of a call are carried out before anything else happens to the session, except that its requests
//! wait for their turn.
//!
//! Subscriber lists change only with the broker's messages, in the broker's order. So a session whose connection is
//! gone stays in the lists (and is skipped) until the broker has confirmed that it left all its channels; only then may
//! another session get its slot.

mod broker_messages;
mod callbacks;
mod channels;
mod closing;
mod index;
mod inline_write;
mod reads;
mod requests;
mod run;
mod session;
mod stopping;
mod subscriber_walk;
mod walks;
mod write_queue;

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

use mio::Registry;
use slab::Slab;
use tidings_broker::SessionRef;
use tidings_model::clock::{Millis, SharedClock};
use tidings_supervisor::Units;

use self::channels::Channels;
use self::index::SessionIndex;
use self::session::Session;
use self::stopping::Stopping;
use self::subscriber_walk::SubscriberWalk;
use crate::inbox::{Inboxes, QueuedMessage};
use crate::metrics::Metrics;
use crate::protocol::Effects;
use crate::refusals::Refusals;
use crate::requests::RequestHandler;
use crate::settings::Settings;
use crate::transport::WriteOutcome;
use crate::wheel::{Timer, TimerSlot, Wheel};

/// Bytes of the read buffer, and most bytes read from one session in a turn.
const SCRATCH: usize = 64 << 10;

/// What all shards share.
#[derive(Clone)]
pub(crate) struct ShardDeps {
    pub(crate) inboxes: Inboxes,
    pub(crate) settings: Arc<Settings>,
    pub(crate) clock: SharedClock,
    pub(crate) handler: Arc<dyn RequestHandler>,
    pub(crate) runtime: tokio::runtime::Handle,
    pub(crate) metrics: Metrics,
    pub(crate) refusals: Arc<Refusals>,
    pub(crate) callbacks: Units,
    pub(crate) frames: Units,
    pub(crate) request_units: Units,
}

pub(crate) struct Shard {
    number: u16,
    /// Where its sockets are registered.
    registry: Registry,
    inboxes: Inboxes,
    settings: Arc<Settings>,
    clock: SharedClock,
    handler: Arc<dyn RequestHandler>,
    runtime: tokio::runtime::Handle,
    metrics: Metrics,
    refusals: Arc<Refusals>,
    /// Guards calls of protocols: a panic ends the session, not the shard with all its sessions.
    callbacks: Units,
    /// Guards the encoding of frames: after a panic the message is not sent in that encoding.
    frames: Units,
    /// Guards requests: after a panic the response is that the request is not possible now.
    request_units: Units,
    /// An inline write panicked, so the shard's state may be inconsistent.
    is_broken: bool,
    /// The number of connections, by which the shard of a new session is chosen.
    load: Arc<AtomicUsize>,

    sessions: Slab<Session>,
    index: SessionIndex,
    channels: Channels,
    wheel: Wheel,
    /// The `life` of the newest session; tells apart the sessions that use a slot one after the other.
    lives: u32,
    /// The steady time at which this turn began.
    now: Millis,

    /// Messages that were taken from the inbox and are not processed.
    batch: VecDeque<QueuedMessage>,
    walk: Option<SubscriberWalk>,
    /// Sessions with requests to be handled, in the order of their turns.
    requesters: VecDeque<SessionRef>,
    /// Sessions whose sockets may have more to read.
    again: Vec<SessionRef>,
    /// Sessions whose last write failed, which are to be closed.
    failed_writes: Vec<(u32, WriteOutcome)>,
    stopping: Option<Stopping>,

    // Buffers, kept to be used again.
    effects: Effects,
    scratch: Vec<u8>,
    due: Vec<(Timer, TimerSlot)>,
}

impl Shard {
    pub(crate) fn new(number: u16, registry: Registry, load: Arc<AtomicUsize>, shared: ShardDeps) -> Self {
        let ShardDeps {
            inboxes,
            settings,
            clock,
            handler,
            runtime,
            metrics,
            refusals,
            callbacks,
            frames,
            request_units,
        } = shared;
        let now = clock.steady_ms();
        Self {
            number,
            registry,
            inboxes,
            settings,
            clock,
            handler,
            runtime,
            metrics,
            refusals,
            callbacks,
            frames,
            request_units,
            is_broken: false,
            load,
            sessions: Slab::new(),
            index: SessionIndex::default(),
            channels: Channels::default(),
            wheel: Wheel::new(now),
            lives: 0,
            now,
            batch: VecDeque::new(),
            walk: None,
            requesters: VecDeque::new(),
            again: Vec::new(),
            failed_writes: Vec::new(),
            stopping: None,
            effects: Effects::default(),
            scratch: vec![0; SCRATCH],
            due: Vec::new(),
        }
    }

    /// Notes that messages of this weight, the oldest of those taken from the inbox, are processed.
    fn done(&mut self, weight: usize) {
        if let Some(inbox) = self.inboxes.of(self.number) {
            inbox.done(weight, self.batch.front().map(|entry| entry.queued_at));
        }
    }

    /// The reference to the session in this slot.
    fn at(&self, slot: u32, life: u32) -> SessionRef {
        SessionRef { shard: self.number, slot, life }
    }

    /// The session that this refers to, unless its slot was freed.
    fn session(&mut self, at: SessionRef) -> Option<&mut Session> {
        self.sessions.get_mut(at.slot as usize).filter(|session| session.life == at.life)
    }
}
