//! A shard: one thread, its sockets, and the loop that serves them.
//!
//! Each turn of the loop: events of sockets, reads that were cut short, timers, then a slice of the sessions' requests
//! and one of the inbox. A session's protocol is called through [`Shard::act`] only; what it did is carried out before
//! anything else happens to the session, except that its requests wait for their turn.
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
mod session;
mod subscriber_walk;
mod write_queue;

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::Duration;

use mio::{Events, Poll, Registry};
use parking_lot::{Mutex, MutexGuard};
use slab::Slab;
use tidings_broker::SessionRef;
use tidings_model::clock::{Millis, SharedClock};
use tidings_supervisor::{Units, fault};

use self::channels::Channels;
use self::closing::Stopping;
use self::index::SessionIndex;
use self::session::Session;
pub(crate) use self::session::{NewSession, Opening};
use self::subscriber_walk::SubscriberWalk;
use crate::inbox::{InboxMessage, Inboxes, QueuedMessage, WAKER};
use crate::metrics::Metrics;
use crate::protocol::Effects;
use crate::refusals::Refusals;
use crate::requests::RequestHandler;
use crate::settings::Settings;
use crate::transport::WriteOutcome;
use crate::wheel::{Timer, TimerSlot, Wheel};

/// Subscribers, or other items of the inbox, that are served before it is the turn of reads and timers.
const SLICE: usize = 512;
/// Events taken at once.
const EVENTS: usize = 1_024;
/// Bytes read at once.
const SCRATCH: usize = 64 << 10;
/// While sessions are being ended, how long the loop waits at most.
const STOP_STEP: Duration = Duration::from_millis(20);

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

/// Closes a shard's inbox however its thread ends.
struct Ending {
    inboxes: Inboxes,
    number: u16,
}

impl Drop for Ending {
    fn drop(&mut self) {
        if let Some(inbox) = self.inboxes.of(self.number) {
            inbox.close();
        }
    }
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

    /// Serves until it is told to stop. While it waits for events, publishers may [write inline](inline_write).
    pub(crate) fn run(shard: &Mutex<Self>, mut poll: Poll) {
        let mut shard = shard.lock();
        // Also where this thread panics: the broker then passes the shard over, and nobody waits for it.
        let _ending = Ending { inboxes: shard.inboxes.clone(), number: shard.number };
        let point = format!("shard-{}", shard.number);
        let runtime = shard.runtime.clone();
        // What answers requests may use timers and spawn.
        let _inside = runtime.enter();
        let mut events = Events::with_capacity(EVENTS);
        while !shard.has_stopped() {
            let wait = shard.wait();
            match MutexGuard::unlocked(&mut shard, || poll.poll(&mut events, wait)) {
                Err(error) if error.kind() != std::io::ErrorKind::Interrupted => {
                    tracing::error!(shard = shard.number, %error, "shard ends: waiting for its sockets failed");
                    break;
                }
                _ => shard.now = shard.clock.steady_ms(),
            }
            fault::point(&point);
            assert!(!shard.is_broken, "a publisher that wrote inline panicked");
            for event in &events {
                if event.token() != WAKER {
                    shard.ready(event);
                }
            }
            shard.read_again();
            shard.wake_due();
            shard.handle_requests();
            shard.work();
            shard.go_on_stopping();
        }
        shard.leave_nothing();
    }

    /// How long to wait for events; `None`: until there is one.
    fn wait(&self) -> Option<Duration> {
        let has_more = !self.again.is_empty() || !self.requesters.is_empty();
        let is_busy = self.walk.is_some() || !self.batch.is_empty() || has_more;
        if is_busy || !self.inboxes.of(self.number).is_some_and(|inbox| inbox.fall_asleep()) {
            return Some(Duration::ZERO);
        }
        let rest = self.wheel.rest(self.now).map(Duration::from_millis);
        if self.stopping.is_some() { Some(rest.map_or(STOP_STEP, |rest| rest.min(STOP_STEP))) } else { rest }
    }

    /// Works off a slice of the inbox.
    fn work(&mut self) {
        // An inline write may have left these.
        self.part_with_doomed();
        let mut left = SLICE;
        while left > 0 {
            if let Some(walk) = self.walk.take() {
                left = left.saturating_sub(self.continue_walk(walk, left).max(1));
                self.part_with_doomed();
                continue;
            }
            if self.batch.is_empty()
                && let Some(inbox) = self.inboxes.of(self.number)
            {
                inbox.take(&mut self.batch);
            }
            let Some(QueuedMessage { item, weight, .. }) = self.batch.pop_front() else { return };
            left -= 1;
            self.apply(item, weight);
        }
    }

    /// Says that items of this weight, the oldest of those that were taken, are done.
    fn done(&mut self, weight: usize) {
        if let Some(inbox) = self.inboxes.of(self.number) {
            inbox.done(weight, self.batch.front().map(|entry| entry.told));
        }
    }

    fn apply(&mut self, item: InboxMessage, weight: usize) {
        match item {
            InboxMessage::Broker(tidings_broker::ShardMessage::Message { message: prepared, except }) => {
                return self.begin_walk(prepared, except, weight);
            }
            InboxMessage::Broker(told) => self.told(told),
            InboxMessage::NewSession(new) => self.welcome(*new),
            InboxMessage::Response { at, request_id, response } => self.response_arrived(at, request_id, response),
            InboxMessage::Gone(at) => self.unread(at),
            InboxMessage::EndStreams => self.end_streams(),
            InboxMessage::Stop(grace, why) => self.begin_stopping(grace, why),
        }
        self.part_with_doomed();
        self.done(weight);
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
