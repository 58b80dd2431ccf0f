//! The state that the courier's parts share: [`Inner`].

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicUsize, Ordering};
use std::sync::{Arc, Weak};

use parking_lot::Mutex;
use tidings_model::clock::{Millis, SharedClock, millis};
use tidings_model::id::{DeliveryKey, DestinationNo, EventNo};
use tidings_store::Store;
use tidings_store::log::{Lease, Logged};
use tidings_store::queue::{Finished, Leased, NodeRank};
use tidings_supervisor::{Supervisor, Units};
use tokio::sync::{Notify, mpsc, oneshot};
use tokio_util::task::TaskTracker;

use crate::dispatcher::{Dispatch, Dispatcher};
use crate::egress::Egress;
use crate::health_log::HealthLog;
use crate::memory::Memory;
use crate::metrics::Metrics;
use crate::outlet::{DestinationPolicy, Outlet};
use crate::queued_delivery::QueuedDelivery;
use crate::recent_publishers::RecentPublishers;
use crate::settings::Settings;
use crate::shared_payload::SharedPayload;

/// The most results that may be unwritten. At the bound no new attempt starts: after a crash their attempts are
/// repeated, and that number has to be bounded.
pub(crate) const MAX_UNWRITTEN: usize = 512;

/// What the courier reports to the bus.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Notice {
    /// The outcome of its deliveries disabled a destination: the catalogue has changed.
    Disabled,
}

/// A result, and the delivery whose memory stays reserved until it is written.
pub(crate) struct UnwrittenResult {
    pub(crate) finished: Finished,
    pub(crate) item: QueuedDelivery,
}

/// The state that the courier's parts share.
pub(crate) struct Inner {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) outlet: Arc<dyn Outlet>,
    pub(crate) egress: Egress,
    pub(crate) clock: SharedClock,
    pub(crate) settings: Settings,
    pub(crate) metrics: Metrics,
    pub(crate) dispatcher: Mutex<Dispatcher>,
    /// Wakes the scheduler.
    pub(crate) wake: Notify,
    /// The earliest time at which the store has something due, as far as is known.
    pub(crate) next_due: AtomicI64,
    /// Whether there may be fan-out rows to expand.
    pub(crate) fanout: AtomicBool,
    /// Whether deleted listeners may have pending deliveries.
    pub(crate) orphans: AtomicBool,
    /// This node's rank among those that share the store; `None` before the first query for due work.
    pub(crate) rank: Mutex<Option<NodeRank>>,
    /// Deliveries leased to us whose events have to be read first.
    pub(crate) unread: Mutex<Vec<Leased>>,
    /// The payloads that deliveries in memory share, by event.
    pub(crate) payloads: Mutex<HashMap<EventNo, Weak<SharedPayload>>>,
    pub(crate) memory: Memory,
    /// Destinations with a failed attempt and no success since.
    pub(crate) failing: Mutex<HashSet<DestinationNo>>,
    pub(crate) recent_publishers: RecentPublishers,
    pub(crate) health: HealthLog,
    pub(crate) results: Mutex<Option<mpsc::UnboundedSender<UnwrittenResult>>>,
    /// Results that were submitted and are not yet written.
    pub(crate) unwritten: AtomicUsize,
    pub(crate) notices: Mutex<Option<mpsc::UnboundedSender<Notice>>>,
    pub(crate) workers: TaskTracker,
    /// Owns the workers.
    pub(crate) supervisor: Supervisor,
    /// Runs attempts as units: a panic fails only the attempt's own deliveries.
    pub(crate) attempts: Units,
    /// Deliveries whose attempt has panicked once.
    pub(crate) panicked: Mutex<HashSet<DeliveryKey>>,
    /// Senders to idle workers, the latest to become idle last; `None` once nothing more is dispatched.
    pub(crate) idle: Mutex<Option<Vec<oneshot::Sender<Dispatch>>>>,
}

impl Inner {
    /// A new lease that begins now.
    pub(crate) fn lease(&self) -> Lease {
        Lease { token: self.store.new_token(), until: self.clock.steady_ms() + millis(self.settings.lease) }
    }

    /// The event's payload: the one that other deliveries hold already, or a new one.
    pub(crate) fn payload(&self, logged: Logged) -> Arc<SharedPayload> {
        let mut payloads = self.payloads.lock();
        if let Some(payload) = payloads.get(&logged.no).and_then(Weak::upgrade) {
            return payload;
        }
        let account = self.memory.account(&logged.event.app);
        let payload = SharedPayload::new(logged, &account);
        payloads.insert(payload.logged.no, Arc::downgrade(&payload));
        payload
    }

    /// The event's payload, if it is in memory.
    pub(crate) fn known_payload(&self, event: EventNo) -> Option<Arc<SharedPayload>> {
        self.payloads.lock().get(&event).and_then(Weak::upgrade)
    }

    /// Drops the entries of payloads that no delivery holds any more.
    pub(crate) fn forget_payloads(&self) {
        self.payloads.lock().retain(|_, payload| payload.strong_count() > 0);
    }

    /// Hands a result to the result writer.
    pub(crate) fn submit(&self, finished: Finished, item: QueuedDelivery) {
        // The receiver ends only after every worker has.
        if let Some(results) = self.results.lock().as_ref() {
            self.unwritten.fetch_add(1, Ordering::AcqRel);
            drop(results.send(UnwrittenResult { finished, item }));
        }
    }

    /// Makes the scheduler query the store at this steady time, if it would not query earlier anyway.
    pub(crate) fn due_at(&self, due: Millis) {
        if self.next_due.fetch_min(due, Ordering::Relaxed) > due {
            self.wake.notify_one();
        }
    }

    /// Takes over deliveries that the store has leased to us, whose events have to be read.
    pub(crate) fn fetch(&self, leased: Vec<Leased>) {
        self.unread.lock().extend(leased);
        self.wake.notify_one();
    }

    pub(crate) fn is_failing(&self, destination: DestinationNo) -> bool {
        self.failing.lock().contains(&destination)
    }

    /// Records whether a destination is failing. Returns whether that is a change.
    pub(crate) fn set_failing(&self, destination: DestinationNo, failing: bool) -> bool {
        let mut all = self.failing.lock();
        if failing { all.insert(destination) } else { all.remove(&destination) }
    }

    pub(crate) fn notify(&self, notice: Notice) {
        // Without a receiver the engine is stopping. The change is in the store, so nothing is lost.
        if let Some(notices) = self.notices.lock().as_ref() {
            drop(notices.send(notice));
        }
    }

    /// A random number for jitter. It need not be unpredictable; callers only have to get different ones.
    pub(crate) fn random(&self) -> u32 {
        use std::hash::{BuildHasher, RandomState};
        RandomState::new().hash_one(self.clock.wall_ms()) as u32
    }

    /// A destination's policy on this node. A destination with a rate or concurrency of its own is served by one node
    /// only, or each node would apply the limits anew. On the other nodes it counts as disabled: its deliveries stay
    /// pending.
    pub(crate) fn policy(&self, destination: DestinationNo) -> DestinationPolicy {
        match self.outlet.policy(destination) {
            policy @ DestinationPolicy::Open { concurrency, rate, .. } if concurrency.is_some() || rate.is_some() => {
                let is_here = self.rank.lock().is_some_and(|rank| rank.owns(destination));
                if is_here { policy } else { DestinationPolicy::Disabled }
            }
            policy => policy,
        }
    }
}
