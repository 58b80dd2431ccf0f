//! A shard: what it holds, and what follows from what happens to its sessions.
//!
//! It lives in one thread, whose [loop](run) calls all of this. A session's protocol is called through [`Shard::act`]
//! only; what it did is carried out before anything else happens to the session, except that its requests wait for
//! their turn.
//!
//! Who is in which channel changes only with what the broker tells, in the order in which it tells it. So a session
//! whose connection is gone stays in the lists (and is passed over) until it has been told that it has left everywhere;
//! only then does another session get its slot.

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

/// Bytes read at once.
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
    /// Calls of sessions' protocols: one that panics takes its session along, not the shard and everybody on it.
    callbacks: Units,
    /// Making frames: nobody hears a message whose frame panics.
    frames: Units,
    /// Requests: one that panics is answered as one that is not possible now.
    request_units: Units,
    /// An inline write panicked: nobody knows in what state this is.
    is_broken: bool,
    /// How many connections it has, for whoever chooses a shard.
    load: Arc<AtomicUsize>,

    sessions: Slab<Session>,
    index: SessionIndex,
    channels: Channels,
    wheel: Wheel,
    /// Counts tenants of slots.
    lives: u32,
    /// The steady time at which this turn began.
    now: Millis,

    /// What was taken from the inbox and is not done.
    batch: VecDeque<QueuedMessage>,
    walk: Option<SubscriberWalk>,
    /// Sessions that have requests to be handled, in the order of their turns.
    requesters: VecDeque<SessionRef>,
    /// Sessions whose sockets may have more to read.
    again: Vec<SessionRef>,
    /// Sessions that a write has shown to be slow or gone.
    doomed: Vec<(u32, WriteOutcome)>,
    stopping: Option<Stopping>,

    // Kept so that they need not be made anew for each use.
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
            doomed: Vec::new(),
            stopping: None,
            effects: Effects::default(),
            scratch: vec![0; SCRATCH],
            due: Vec::new(),
        }
    }

    /// Says that items of this weight, the oldest of those that were taken, are done.
    fn done(&mut self, weight: usize) {
        if let Some(inbox) = self.inboxes.of(self.number) {
            inbox.done(weight, self.batch.front().map(|entry| entry.told));
        }
    }

    /// Where the session in this slot is.
    fn at(&self, slot: u32, life: u32) -> SessionRef {
        SessionRef { shard: self.number, slot, life }
    }

    /// The session that is meant, unless it is over.
    fn session(&mut self, at: SessionRef) -> Option<&mut Session> {
        self.sessions.get_mut(at.slot as usize).filter(|session| session.life == at.life)
    }
}
