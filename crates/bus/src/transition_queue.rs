//! The queue from the broker to the bus: transitions of channels, in order, until they are published as channel events.

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

/// The number of queues. Two channels wait for each other only if they share a queue.
const QUEUES: usize = 64;
/// How many events may wait in a queue while the store is slow. Above that they are dropped, and reconciliation makes
/// up for arrivals and departures.
const MAX_QUEUED: usize = 4_096;
/// How long an arrival can revert a departure (Pusher Channels, "Webhooks": up to three seconds).
const WINDOW: Duration = Duration::from_secs(3);
/// How often an orderly stop checks whether the queues are empty.
const DRAIN_POLL: Duration = Duration::from_millis(20);

/// An item of a queue.
#[derive(Debug)]
pub(crate) enum Queued {
    /// A transition that the broker has recorded, its wall time, and the session that caused it.
    Transition(Transition, Millis, Option<Cause>),
    /// The channel event of a client event.
    ClientEvent(Event),
}

impl Queued {
    /// The channel's name, for the log.
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
    /// The node stops: sessions that leave now are expected back, on another node or after the restart.
    stopping: AtomicBool,
    /// How long reconciliation waits for sessions to come back.
    pub(crate) rejoin_within: Duration,
    /// Notified when events may be missing.
    pub(crate) reconcile_needed: Notify,
}

impl TransitionQueue {
    /// An empty queue. `rejoin_within` is how long the sessions of a node that started, stopped or died may take to
    /// come back before they count as gone.
    pub fn new(catalogue: Arc<Catalogue>, clock: SharedClock, rejoin_within: Duration) -> Arc<Self> {
        let (queues, receivers) = (0..QUEUES).map(|_| mpsc::channel(MAX_QUEUED)).unzip();
        let reconcile_needed = Notify::new();
        // Sessions may have left while the node was down.
        reconcile_needed.notify_one();
        Arc::new(Self {
            catalogue,
            clock,
            queues,
            hasher: DefaultHashBuilder::default(),
            receivers: parking_lot::Mutex::new(receivers),
            queued: AtomicUsize::new(0),
            events: ChannelEvents::default(),
            stopping: AtomicBool::new(false),
            rejoin_within,
            reconcile_needed,
        })
    }

    /// Queues the channel event of a client event.
    pub(crate) fn client_event(&self, channel: &ChannelKey, event: Event) {
        self.append(channel, Queued::ClientEvent(event));
    }

    /// From here on, sessions that leave are expected back, because the node stops and its sessions reconnect.
    pub fn expect_rejoins(&self) {
        self.stopping.store(true, Ordering::Relaxed);
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
            self.reconcile_needed.notify_one();
        }
    }

    /// Takes the receiving ends of the queues; they are there once.
    pub(crate) fn take_receivers(&self) -> Vec<mpsc::Receiver<Queued>> {
        std::mem::take(&mut *self.receivers.lock())
    }

    /// Counts a received item as processed.
    pub(crate) fn done(&self) {
        self.queued.fetch_sub(1, Ordering::AcqRel);
    }

    /// How long a departure can be reverted.
    pub(crate) fn window(&self) -> Duration {
        if self.stopping.load(Ordering::Relaxed) { self.rejoin_within.max(WINDOW) } else { WINDOW }
    }
}

impl TransitionSink for TransitionQueue {
    fn wanted(&self, app: &AppId) -> Kinds {
        self.catalogue.wanted(app)
    }

    fn record(&self, transition: Transition) {
        if transition.channel.name.starts_with(char::is_control) {
            // An internal channel of the server: no client can name it.
            return;
        }
        let channel = transition.channel.clone();
        let cause = self.events.cause(&channel);
        self.append(&channel, Queued::Transition(transition, self.clock.wall_ms(), cause));
    }

    fn reconcile(&self) {
        self.reconcile_needed.notify_one();
    }
}

impl std::fmt::Debug for TransitionQueue {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TransitionQueue").field("queued", &self.queued).finish_non_exhaustive()
    }
}
