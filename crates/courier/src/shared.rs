//! What the courier's parts share: [`Inner`].

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

/// With so many results unwritten no new attempt begins: a crash makes their attempts again, and that has to have a
/// bound.
pub(crate) const MAX_UNWRITTEN: usize = 512;

/// Something the bus has to know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Notice {
    /// A destination was disabled by what its deliveries met: the catalogue has changed.
    Disabled,
}

/// A result, and the delivery whose memory stays reserved until it is written.
pub(crate) struct UnwrittenResult {
    pub(crate) finished: Finished,
    pub(crate) item: QueuedDelivery,
}

/// What the courier's parts share.
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
    /// There may be fan-out rows to expand.
    pub(crate) fanout: AtomicBool,
    /// Deleted listeners may have pending deliveries.
    pub(crate) orphans: AtomicBool,
    /// This node's rank among those that share the store, once it has asked.
    pub(crate) rank: Mutex<Option<NodeRank>>,
    /// Deliveries leased to us whose events have to be read first.
    pub(crate) unread: Mutex<Vec<Leased>>,
    pub(crate) payloads: Mutex<HashMap<EventNo, Weak<SharedPayload>>>,
    pub(crate) memory: Memory,
    pub(crate) failing: Mutex<HashSet<DestinationNo>>,
    pub(crate) recent_publishers: RecentPublishers,
    pub(crate) health: HealthLog,
    pub(crate) results: Mutex<Option<mpsc::UnboundedSender<UnwrittenResult>>>,
    /// Results that have been reported and not yet written.
    pub(crate) unwritten: AtomicUsize,
    pub(crate) notices: Mutex<Option<mpsc::UnboundedSender<Notice>>>,
    pub(crate) workers: TaskTracker,
    /// Owns the workers.
    pub(crate) supervisor: Supervisor,
    /// Attempts: one that panics fails its own deliveries alone.
    pub(crate) attempts: Units,
    /// Deliveries whose attempt has panicked once.
    pub(crate) panicked: Mutex<HashSet<DeliveryKey>>,
    /// Senders to idle workers, the one idle for the shortest time last; `None` once nothing more is dispatched.
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

    /// Has the scheduler look at the store at this steady time, if it does not look earlier anyway.
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

    /// Notes whether a destination is failing; answers whether that is new.
    pub(crate) fn set_failing(&self, destination: DestinationNo, failing: bool) -> bool {
        let mut all = self.failing.lock();
        if failing { all.insert(destination) } else { all.remove(&destination) }
    }

    pub(crate) fn notify(&self, notice: Notice) {
        // Nobody listens while the engine stops; the store keeps what was to be told.
        if let Some(notices) = self.notices.lock().as_ref() {
            drop(notices.send(notice));
        }
    }

    /// A random number for jitter; unpredictability does not matter here, only that callers differ.
    pub(crate) fn random(&self) -> u32 {
        use std::hash::{BuildHasher, RandomState};
        RandomState::new().hash_one(self.clock.wall_ms()) as u32
    }

    /// DestinationPolicy of a destination, to this node. One with a rate or a concurrency of its own is served by one
    /// of the nodes, or each would grant it both; to the others it is as if it were disabled: pending deliveries stay
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
