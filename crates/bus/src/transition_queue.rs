//! From the broker to the bus: what becomes of channels, in order, until it is published as channel events.

use std::hash::BuildHasher as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use hashbrown::DefaultHashBuilder;
use tidings_broker::TransitionSink;
use tidings_model::channel::ChannelKey;
use tidings_model::clock::{Millis, SharedClock};
use tidings_model::event::Event;
use tidings_model::id::AppId;
use tidings_model::transition::{Kinds, Transition};
use tokio::sync::{Notify, mpsc};

use crate::catalogue::Catalogue;
use crate::channel_events::{Cause, ChannelEvents};

/// Queues: two channels wait for each other only if they share one.
const QUEUES: usize = 64;
/// How many events may wait in a queue while the store is slow. Above that they are dropped, and reconciliation makes
/// up for arrivals and departures.
const MAX_QUEUED: usize = 4_096;
/// How long an arrival can revert a departure (Pusher Channels, "Webhooks": up to three seconds).
const WINDOW: Duration = Duration::from_secs(3);
/// How often an orderly stop checks whether the queues are empty.
const DRAIN_POLL: Duration = Duration::from_millis(20);

/// What waits in a queue.
#[derive(Debug)]
pub(crate) enum Queued {
    /// What the broker has recorded, when, and which session caused it.
    Transition(Transition, Millis, Option<Cause>),
    /// The channel event of what a client has published.
    ClientEvent(Event),
}

impl Queued {
    /// The channel that it is about, for the log.
    pub(crate) fn channel(&self) -> String {
        match self {
            Self::Transition(transition, ..) => transition.channel.name.as_ref().to_owned(),
            Self::ClientEvent(event) => event.key.clone().unwrap_or_default(),
        }
    }
}

/// Takes transitions from the broker, under a channel's lock, and keeps them in order until the bus publishes them.
pub struct TransitionQueue {
    catalogue: Arc<Catalogue>,
    clock: SharedClock,
    queues: Vec<mpsc::Sender<Queued>>,
    hasher: DefaultHashBuilder,
    /// Taken by the bus when it starts.
    receivers: parking_lot::Mutex<Vec<mpsc::Receiver<Queued>>>,
    queued: AtomicUsize,
    pub(crate) events: ChannelEvents,
    /// The node stops: a session that leaves now is expected back on another node, or here.
    leaving: AtomicBool,
    /// How long reconciliation waits for sessions to come back.
    pub(crate) rejoin_within: Duration,
    /// Events may be missing.
    pub(crate) unsure: Notify,
}

impl TransitionQueue {
    /// An empty queue. `rejoin_within` is how long the sessions of a node that started, stopped or died may take to
    /// come back before they count as gone.
    pub fn new(catalogue: Arc<Catalogue>, clock: SharedClock, rejoin_within: Duration) -> Arc<Self> {
        let (queues, receivers) = (0..QUEUES).map(|_| mpsc::channel(MAX_QUEUED)).unzip();
        let unsure = Notify::new();
        // Sessions may have gone while the node was down.
        unsure.notify_one();
        Arc::new(Self {
            catalogue,
            clock,
            queues,
            hasher: DefaultHashBuilder::default(),
            receivers: parking_lot::Mutex::new(receivers),
            queued: AtomicUsize::new(0),
            events: ChannelEvents::default(),
            leaving: AtomicBool::new(false),
            rejoin_within,
            unsure,
        })
    }

    /// Takes the channel event of what a client has published in a channel.
    pub(crate) fn client_event(&self, channel: &ChannelKey, event: Event) {
        self.append(channel, Queued::ClientEvent(event));
    }

    /// From here on a session that leaves is expected back: the node stops, and its sessions reconnect.
    pub fn leave(&self) {
        self.leaving.store(true, Ordering::Relaxed);
    }

    /// Waits until the queues are empty, for at most `grace`.
    pub async fn drain(&self, grace: Duration) {
        let empty = async {
            while self.queued.load(Ordering::Acquire) > 0 {
                tokio::time::sleep(DRAIN_POLL).await;
            }
        };
        if tokio::time::timeout(grace, empty).await.is_err() {
            tracing::warn!("channel events left unpublished at the stop; the next start reconciles them");
        }
    }

    fn append(&self, channel: &ChannelKey, item: Queued) {
        let queue = self.hasher.hash_one(channel) as usize % QUEUES;
        self.queued.fetch_add(1, Ordering::AcqRel);
        if self.queues[queue].try_send(item).is_err() {
            self.queued.fetch_sub(1, Ordering::AcqRel);
            tracing::warn!(app = %channel.app, channel = %channel.name, "channel event dropped: queue full");
            self.unsure.notify_one();
        }
    }

    /// What the bus takes the events from, once.
    pub(crate) fn take_receivers(&self) -> Vec<mpsc::Receiver<Queued>> {
        std::mem::take(&mut *self.receivers.lock())
    }

    /// An event that was taken from the queue is done with.
    pub(crate) fn done(&self) {
        self.queued.fetch_sub(1, Ordering::AcqRel);
    }

    /// How long a departure can be reverted.
    pub(crate) fn window(&self) -> Duration {
        if self.leaving.load(Ordering::Relaxed) { self.rejoin_within.max(WINDOW) } else { WINDOW }
    }
}

impl TransitionSink for TransitionQueue {
    fn wanted(&self, app: &AppId) -> Kinds {
        self.catalogue.wanted(app)
    }

    fn record(&self, transition: Transition) {
        if transition.channel.name.starts_with(char::is_control) {
            // No client can name such a channel: it is the server's own.
            return;
        }
        let channel = transition.channel.clone();
        let cause = self.events.cause(&channel);
        self.append(&channel, Queued::Transition(transition, self.clock.wall_ms(), cause));
    }

    fn reconcile(&self) {
        self.unsure.notify_one();
    }
}

impl std::fmt::Debug for TransitionQueue {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TransitionQueue").field("queued", &self.queued).finish_non_exhaustive()
    }
}
