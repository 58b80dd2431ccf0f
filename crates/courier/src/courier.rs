//! The courier: its public face, and what its parts share.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicUsize, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use parking_lot::Mutex;
use prometheus_client::registry::Registry;
use tidings_model::clock::{Millis, SharedClock, millis};
use tidings_model::id::{AppId, DeliveryKey, DestinationNo, EventNo};
use tidings_store::log::{Destination, Lane, Lease, Logged, MAX_DIRECT};
use tidings_store::queue::{Finished, Leased, NodeRank};
use tidings_store::{Store, StoreError};
use tidings_supervisor::{Supervisor, Units};
use tokio::sync::{Notify, mpsc, oneshot};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::attempt::{self, AttemptEnd};
use crate::dispatcher::{Dispatch, Dispatcher};
use crate::egress::Egress;
use crate::health_log::HealthLog;
use crate::memory::{Memory, MemoryReservation};
use crate::metrics::Metrics;
use crate::outlet::{DestinationPolicy, Outlet};
use crate::recent_publishers::RecentPublishers;
use crate::result_writer::{self, UnwrittenResult};
use crate::scheduler;
use crate::settings::Settings;
use crate::shared_payload::SharedPayload;

/// Bytes reserved for one delivery in memory, besides its event.
const QUEUED_WEIGHT: usize = 512;

/// Idle workers kept for the next dispatches: spawning one costs more than the rest of a dispatch.
const MAX_IDLE: usize = 1_024;

/// How long a destination rests, in milliseconds, when this machine had no socket for its attempt.
const SHORT_PAUSE: Millis = 250;

/// A delivery in memory, with the right to attempt it.
pub(crate) struct QueuedDelivery {
    pub(crate) leased: Leased,
    pub(crate) payload: Arc<SharedPayload>,
    /// The next ones of its lane, which go together with it.
    pub(crate) behind: Vec<QueuedDelivery>,
    _reservation: MemoryReservation,
}

impl QueuedDelivery {
    pub(crate) fn new(leased: Leased, payload: Arc<SharedPayload>) -> Self {
        let _reservation = MemoryReservation::new(payload.account(), QUEUED_WEIGHT);
        Self { leased, payload, behind: Vec::new(), _reservation }
    }

    /// It and those behind it, one by one.
    pub(crate) fn apart(mut self) -> impl Iterator<Item = QueuedDelivery> {
        let behind = std::mem::take(&mut self.behind);
        std::iter::once(self).chain(behind)
    }

    /// Puts those behind each other that were leased so: the reverse of [`QueuedDelivery::apart`].
    pub(crate) fn together(items: impl IntoIterator<Item = QueuedDelivery>) -> Vec<QueuedDelivery> {
        let mut all: Vec<QueuedDelivery> = Vec::new();
        for item in items {
            match all.last_mut() {
                Some(head) if item.leased.follows && item.leased.key.destination == head.leased.key.destination => {
                    head.behind.push(item);
                }
                _ => all.push(item),
            }
        }
        all
    }
}

/// Something the bus has to know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Notice {
    /// A destination was disabled by what its deliveries met: the catalogue has changed.
    Disabled,
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
    payloads: Mutex<HashMap<EventNo, Weak<SharedPayload>>>,
    pub(crate) memory: Memory,
    failing: Mutex<HashSet<DestinationNo>>,
    pub(crate) recent_publishers: RecentPublishers,
    pub(crate) health: HealthLog,
    results: Mutex<Option<mpsc::UnboundedSender<UnwrittenResult>>>,
    /// Results that have been reported and not yet written.
    pub(crate) unwritten: AtomicUsize,
    notices: Mutex<Option<mpsc::UnboundedSender<Notice>>>,
    pub(crate) workers: TaskTracker,
    /// Owns the workers.
    supervisor: Supervisor,
    /// Attempts: one that panics fails its own deliveries alone.
    pub(crate) attempts: Units,
    /// Deliveries whose attempt has panicked once.
    pub(crate) panicked: Mutex<HashSet<DeliveryKey>>,
    /// Senders to idle workers, the one idle for the shortest time last; `None` once nothing more is dispatched.
    idle: Mutex<Option<Vec<oneshot::Sender<Dispatch>>>>,
}

/// Attempts deliveries until each has arrived or nothing more can be done. Clones share one courier.
#[derive(Clone)]
pub struct Courier {
    inner: Arc<Inner>,
    stop: CancellationToken,
    parts: TaskTracker,
}

impl Courier {
    /// Takes back what an earlier run left leased, and starts to deliver. The receiver gets the [`Notice`]s.
    ///
    /// # Errors
    /// What the store answers.
    pub async fn start(
        store: Arc<dyn Store>,
        outlet: Arc<dyn Outlet>,
        egress: Egress,
        clock: SharedClock,
        settings: Settings,
        registry: &mut Registry,
        supervisor: &Supervisor,
    ) -> Result<(Self, mpsc::UnboundedReceiver<Notice>), StoreError> {
        let taken_back = store.recover(clock.steady_ms()).await?;
        if taken_back > 0 {
            tracing::info!(deliveries = taken_back, "taking up deliveries that an earlier run left under way");
        }
        let failing: HashSet<_> = store.failing().await?.into_iter().map(|(destination, _)| destination).collect();
        if !failing.is_empty() {
            tracing::warn!(
                listeners = failing.len(),
                "deliveries to some listeners have been failing since before this start; see `tidings delivery list`"
            );
        }
        let metrics = Metrics::default();
        metrics.register(registry.sub_registry_with_prefix("courier"));
        let (results, unwritten) = mpsc::unbounded_channel();
        let (notices, noticed) = mpsc::unbounded_channel();
        let inner = Arc::new(Inner {
            dispatcher: Mutex::new(Dispatcher::new(&settings)),
            wake: Notify::new(),
            next_due: AtomicI64::new(0),
            fanout: AtomicBool::new(true),
            orphans: AtomicBool::new(true),
            rank: Mutex::default(),
            unread: Mutex::default(),
            payloads: Mutex::default(),
            memory: Memory::new(settings.queue_bytes),
            failing: Mutex::new(failing),
            recent_publishers: RecentPublishers::default(),
            health: HealthLog::default(),
            results: Mutex::new(Some(results)),
            unwritten: AtomicUsize::new(0),
            notices: Mutex::new(Some(notices)),
            workers: TaskTracker::new(),
            supervisor: supervisor.clone(),
            attempts: supervisor.units("attempt"),
            panicked: Mutex::default(),
            idle: Mutex::new(Some(Vec::new())),
            store,
            outlet,
            egress,
            clock,
            settings,
            metrics,
        });
        let parts = TaskTracker::new();
        let stop = CancellationToken::new();
        let writer = result_writer::run(Arc::clone(&inner), unwritten);
        supervisor.service("result-writer", parts.track_future(writer));
        let scheduler = scheduler::run(Arc::clone(&inner), stop.clone());
        supervisor.service("scheduler", parts.track_future(scheduler));
        Ok((Self { inner, stop, parts }, noticed))
    }

    /// Says which of an event's destinations are taken up at once, by setting [`Destination::fresh`]. The others stay
    /// in the store until there is room for them.
    pub fn admit(&self, app: &AppId, destinations: &mut [Destination]) {
        let inner = &self.inner;
        let now = inner.clock.steady_ms();
        inner.recent_publishers.record(app, now);
        if destinations.len() > MAX_DIRECT {
            // None of them is written at once.
            return;
        }
        let full = inner.memory.is_full(app);
        let dispatcher = inner.dispatcher.lock();
        for destination in destinations {
            destination.fresh = !full && dispatcher.room(destination.no, inner.policy(destination.no), now) > 0;
        }
    }

    /// A lease for the deliveries of a publish.
    pub fn lease(&self) -> Lease {
        self.inner.lease()
    }

    /// Takes over the deliveries of a publish that has been committed. `destinations` is what it was published with;
    /// those in `leased` are ours to attempt now. `queued`: there is more in the store.
    pub fn take(
        &self,
        logged: Logged,
        destinations: &[Destination],
        leased: &[DestinationNo],
        lease: Lease,
        queued: bool,
    ) {
        let inner = &self.inner;
        if !leased.is_empty() {
            let app = logged.event.app.clone();
            let event = logged.no;
            // When all of it is ours and in no lane, nobody will look for it.
            let whole = !queued && leased.len() == destinations.len();
            let whole = whole && destinations.iter().all(|d| d.lane == Lane::Own);
            let payload =
                if whole { SharedPayload::new(logged, &inner.memory.account(&app)) } else { inner.payload(logged) };
            let ordered = |no: &DestinationNo| destinations.iter().any(|d| d.no == *no && d.lane != Lane::Own);
            let mut dispatcher = inner.dispatcher.lock();
            for destination in leased {
                let key = DeliveryKey { app: app.clone(), event, destination: *destination };
                let ordered = ordered(destination);
                let leased =
                    Leased { key, attempts: 0, forgiven: 0, ordered, follows: false, in_batch: !ordered, lease };
                dispatcher.push(QueuedDelivery::new(leased, Arc::clone(&payload)), true, false);
            }
            drop(dispatcher);
            inner.go_on();
        }
        if queued {
            inner.fanout.store(true, Ordering::Relaxed);
            self.wake_scheduler();
        }
    }

    /// Wakes the scheduler to look for due work now: after a retry by hand, or when a listener was enabled.
    pub fn wake_scheduler(&self) {
        self.inner.due_at(0);
    }

    /// Wakes the scheduler to cancel the pending deliveries of deleted listeners.
    pub fn cancel_orphans(&self) {
        self.inner.orphans.store(true, Ordering::Relaxed);
        self.inner.wake.notify_one();
    }

    /// Attempts under way now, and bytes of deliveries held in memory.
    pub fn load(&self) -> (usize, usize) {
        (self.inner.dispatcher.lock().running(), self.inner.memory.held())
    }

    /// Stops: lets attempts under way end, for at most `grace`, writes their results and gives the rest back.
    pub async fn stop(&self, grace: Duration) {
        let inner = &self.inner;
        inner.dispatcher.lock().stop(inner.clock.steady_ms());
        inner.idle.lock().take();
        inner.workers.close();
        if tokio::time::timeout(grace, inner.workers.wait()).await.is_err() {
            tracing::warn!(
                attempts = inner.dispatcher.lock().running(),
                "attempts were still under way; they are made again after the next start"
            );
        }
        self.stop.cancel();
        inner.results.lock().take();
        inner.notices.lock().take();
        self.parts.close();
        self.parts.wait().await;
    }
}

impl std::fmt::Debug for Courier {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Courier").finish_non_exhaustive()
    }
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

    /// Dispatches all that may be attempted now.
    pub(crate) fn go_on(self: &Arc<Self>) {
        while let Some(dispatch) = self.next_dispatch() {
            if let Some(dispatch) = self.to_idle(dispatch) {
                let inner = Arc::clone(self);
                let work = async move { inner.work(dispatch).await };
                self.supervisor.task("attempt-worker", self.workers.track_future(work));
            }
        }
        self.metrics.held_bytes.set(self.memory.held() as i64);
    }

    /// Hands a dispatch to an idle worker; returns it when there is none.
    fn to_idle(&self, mut dispatch: Dispatch) -> Option<Dispatch> {
        loop {
            let waiting = self.idle.lock().as_mut().and_then(Vec::pop);
            let Some(worker) = waiting else { return Some(dispatch) };
            match worker.send(dispatch) {
                Ok(()) => return None,
                Err(back) => dispatch = back,
            }
        }
    }

    /// Waits idle for a dispatch; `None` when enough workers are idle already, or nothing more is dispatched.
    async fn wait_for_dispatch(&self) -> Option<Dispatch> {
        let (sender, dispatch) = oneshot::channel();
        match self.idle.lock().as_mut() {
            Some(idle) if idle.len() < MAX_IDLE => idle.push(sender),
            _ => return None,
        }
        dispatch.await.ok()
    }

    fn next_dispatch(&self) -> Option<Dispatch> {
        if self.unwritten.load(Ordering::Acquire) >= result_writer::MAX_UNWRITTEN {
            // The result writer goes on when it has written some.
            return None;
        }
        let now = self.clock.steady_ms();
        let mut dispatcher = self.dispatcher.lock();
        let (policy, batch) = (|no| self.policy(no), |no| self.outlet.batch(no));
        let dispatch = dispatcher.start(policy, batch, now);
        if !dispatcher.returns.is_empty() || dispatcher.is_sooner() {
            self.wake.notify_one();
        }
        dispatch
    }

    /// A worker: makes attempts as long as there are dispatches, then waits for more.
    async fn work(self: &Arc<Self>, first: Dispatch) {
        let mut next = Some(first);
        while let Some(Dispatch { permit, items }) = next {
            let destination = permit.destination;
            self.metrics.in_flight.inc();
            let made = attempt::make_guarded(self, destination, &items).await;
            self.metrics.in_flight.dec();
            let now = self.clock.steady_ms();
            let wanted = {
                let mut dispatcher = self.dispatcher.lock();
                let (mut is_learned, mut short) = (false, Vec::new());
                for (made, item) in made.into_iter().zip(items) {
                    match made {
                        AttemptEnd::Finished(mut finished, health) => {
                            // It was one request, whatever it carried.
                            if !std::mem::replace(&mut is_learned, true) {
                                let policy = |destination| self.outlet.policy(destination);
                                finished.pause = dispatcher.learn(destination, health, policy, now);
                            }
                            self.submit(*finished, item);
                        }
                        AttemptEnd::NotNow => dispatcher.returns.push((item, now)),
                        AttemptEnd::NotBefore(due) => dispatcher.returns.push((item, due)),
                        AttemptEnd::Short => short.push(item),
                    }
                }
                if !short.is_empty() {
                    dispatcher.put_back(destination, short, now + SHORT_PAUSE);
                }
                dispatcher.end(permit, now) || !dispatcher.returns.is_empty()
            };
            if wanted {
                self.wake.notify_one();
            }
            next = match self.next_dispatch() {
                Some(dispatch) => Some(dispatch),
                None => self.wait_for_dispatch().await,
            };
        }
    }

    fn submit(&self, finished: Finished, item: QueuedDelivery) {
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
