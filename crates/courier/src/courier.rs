//! The courier: its public face, and what its parts share.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicUsize, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use parking_lot::Mutex;
use prometheus_client::registry::Registry;
use tidings_model::clock::{Millis, SharedClock, millis};
use tidings_model::id::{AppId, DestinationNo, EventNo};
use tidings_store::log::{Destination, Lane, Lease, Logged, MAX_DIRECT};
use tidings_store::queue::{Finished, Leased, Place};
use tidings_store::{Store, StoreError};
use tokio::sync::{Notify, mpsc, oneshot};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::attempt::{self, Made};
use crate::desk::{Desk, Turn};
use crate::egress::Egress;
use crate::health_log::HealthLog;
use crate::memory::{Charge, Memory};
use crate::metrics::Metrics;
use crate::outlet::{Outlet, Terms};
use crate::parcel::Parcel;
use crate::reporter::{self, Report};
use crate::scheduler;
use crate::settings::Settings;

/// What one delivery in memory is charged with, besides its event.
const ITEM_WEIGHT: usize = 512;

/// Workers without a turn that are kept for the next ones: making one anew costs more than the rest of handing out a turn.
const MAX_IDLE: usize = 1_024;

/// How long a destination rests, in milliseconds, when this machine had no socket for its attempt.
const SHORT_PAUSE: Millis = 250;

/// A delivery in memory, with the right to attempt it.
pub(crate) struct Item {
    pub(crate) leased: Leased,
    pub(crate) parcel: Arc<Parcel>,
    /// The next ones of its lane, which go together with it.
    pub(crate) behind: Vec<Item>,
    _charge: Charge,
}

impl Item {
    pub(crate) fn new(leased: Leased, parcel: Arc<Parcel>) -> Self {
        let _charge = Charge::new(parcel.account(), ITEM_WEIGHT);
        Self { leased, parcel, behind: Vec::new(), _charge }
    }

    /// It and those behind it, one by one.
    pub(crate) fn apart(mut self) -> impl Iterator<Item = Item> {
        let behind = std::mem::take(&mut self.behind);
        std::iter::once(self).chain(behind)
    }

    /// Puts those behind each other that were leased so: the reverse of [`Item::apart`].
    pub(crate) fn together(items: impl IntoIterator<Item = Item>) -> Vec<Item> {
        let mut all: Vec<Item> = Vec::new();
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
    pub(crate) desk: Mutex<Desk>,
    /// Wakes the scheduler.
    pub(crate) wake: Notify,
    /// The earliest time at which the store has something due, as far as is known.
    pub(crate) next_due: AtomicI64,
    /// A destination runs low while the store has more for it.
    pub(crate) low: AtomicBool,
    /// There may be fan-out rows to expand.
    pub(crate) fanout: AtomicBool,
    /// Listeners were deleted that may still be owed something.
    pub(crate) orphans: AtomicBool,
    /// Where this node stands among those that share the store, once it has asked.
    pub(crate) place: Mutex<Option<Place>>,
    /// Deliveries leased to us whose events have to be read first.
    pub(crate) unread: Mutex<Vec<Leased>>,
    parcels: Mutex<HashMap<EventNo, Weak<Parcel>>>,
    pub(crate) memory: Memory,
    failing: Mutex<HashSet<DestinationNo>>,
    pub(crate) health: HealthLog,
    reports: Mutex<Option<mpsc::UnboundedSender<Report>>>,
    /// Results that have been reported and not yet written.
    pub(crate) unwritten: AtomicUsize,
    notices: Mutex<Option<mpsc::UnboundedSender<Notice>>>,
    pub(crate) workers: TaskTracker,
    /// The ways to workers that wait for a turn, the last one to come in front; `None` when no more turns are given.
    idle: Mutex<Option<Vec<oneshot::Sender<Turn>>>>,
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
        let (reports, received) = mpsc::unbounded_channel();
        let (notices, noticed) = mpsc::unbounded_channel();
        let inner = Arc::new(Inner {
            desk: Mutex::new(Desk::new(&settings)),
            wake: Notify::new(),
            next_due: AtomicI64::new(0),
            low: AtomicBool::new(false),
            fanout: AtomicBool::new(true),
            orphans: AtomicBool::new(true),
            place: Mutex::default(),
            unread: Mutex::default(),
            parcels: Mutex::default(),
            memory: Memory::new(settings.queue_bytes),
            failing: Mutex::new(failing),
            health: HealthLog::default(),
            reports: Mutex::new(Some(reports)),
            unwritten: AtomicUsize::new(0),
            notices: Mutex::new(Some(notices)),
            workers: TaskTracker::new(),
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
        parts.spawn(reporter::run(Arc::clone(&inner), received));
        parts.spawn(scheduler::run(Arc::clone(&inner), stop.clone()));
        Ok((Self { inner, stop, parts }, noticed))
    }

    /// Says which of an event's destinations are taken up at once, by setting [`Destination::fresh`]. The others stay in the
    /// store until there is room for them.
    pub fn admit(&self, app: &AppId, destinations: &mut [Destination]) {
        if destinations.len() > MAX_DIRECT {
            // None of them is written at once.
            return;
        }
        let inner = &self.inner;
        let now = inner.clock.steady_ms();
        let full = inner.memory.is_full(app);
        let desk = inner.desk.lock();
        for destination in destinations {
            destination.fresh = !full && desk.room(destination.no, inner.terms(destination.no), now) > 0;
        }
    }

    /// A lease for the deliveries of a publish.
    pub fn lease(&self) -> Lease {
        self.inner.lease()
    }

    /// Takes over the deliveries of a publish that has been committed. `destinations` is what it was published with; those in
    /// `leased` are ours to attempt now. `queued`: there is more in the store.
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
            let parcel = if whole { Parcel::new(logged, &inner.memory.account(&app)) } else { inner.parcel(logged) };
            let ordered = |no: &DestinationNo| destinations.iter().any(|d| d.no == *no && d.lane != Lane::Own);
            let mut desk = inner.desk.lock();
            for destination in leased {
                let key = tidings_model::id::DeliveryKey { app: app.clone(), event, destination: *destination };
                let ordered = ordered(destination);
                let leased = Leased { key, attempts: 0, forgiven: 0, ordered, follows: false, lot: !ordered, lease };
                desk.push(Item::new(leased, Arc::clone(&parcel)), true, false);
            }
            drop(desk);
            inner.go_on();
        }
        if queued {
            inner.fanout.store(true, Ordering::Relaxed);
            self.look();
        }
    }

    /// Has the store asked for due work soon: after a retry by hand, or a listener was enabled or deleted.
    pub fn look(&self) {
        self.inner.due_at(0);
    }

    /// Has what deleted listeners are still owed canceled soon.
    pub fn cancel_orphans(&self) {
        self.inner.orphans.store(true, Ordering::Relaxed);
        self.inner.wake.notify_one();
    }

    /// Attempts under way now, and bytes of deliveries held in memory.
    pub fn load(&self) -> (usize, usize) {
        (self.inner.desk.lock().running(), self.inner.memory.held())
    }

    /// Stops: lets attempts under way end, for at most `grace`, writes their results and gives the rest back.
    pub async fn stop(&self, grace: Duration) {
        let inner = &self.inner;
        inner.desk.lock().stop(inner.clock.steady_ms());
        inner.idle.lock().take();
        inner.workers.close();
        if tokio::time::timeout(grace, inner.workers.wait()).await.is_err() {
            tracing::warn!(
                attempts = inner.desk.lock().running(),
                "attempts were still under way; they are made again after the next start"
            );
        }
        self.stop.cancel();
        inner.reports.lock().take();
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

    /// The event's parcel: the one that is under way already, or a new one.
    pub(crate) fn parcel(&self, logged: Logged) -> Arc<Parcel> {
        let mut parcels = self.parcels.lock();
        if let Some(parcel) = parcels.get(&logged.no).and_then(Weak::upgrade) {
            return parcel;
        }
        let account = self.memory.account(&logged.event.app);
        let parcel = Parcel::new(logged, &account);
        parcels.insert(parcel.logged.no, Arc::downgrade(&parcel));
        parcel
    }

    /// The event's parcel, if it is in memory.
    pub(crate) fn known_parcel(&self, event: EventNo) -> Option<Arc<Parcel>> {
        self.parcels.lock().get(&event).and_then(Weak::upgrade)
    }

    /// Forgets parcels that nobody holds any more.
    pub(crate) fn forget_parcels(&self) {
        self.parcels.lock().retain(|_, parcel| parcel.strong_count() > 0);
    }

    /// Starts workers for whoever's turn it is.
    pub(crate) fn go_on(self: &Arc<Self>) {
        while let Some(turn) = self.turn() {
            if let Some(turn) = self.to_idle(turn) {
                let inner = Arc::clone(self);
                self.workers.spawn(async move { inner.work(turn).await });
            }
        }
        self.metrics.held_bytes.set(self.memory.held() as i64);
    }

    /// Gives a turn to a worker that waits for one; back when there is none.
    fn to_idle(&self, mut turn: Turn) -> Option<Turn> {
        loop {
            let waiting = self.idle.lock().as_mut().and_then(Vec::pop);
            let Some(worker) = waiting else { return Some(turn) };
            match worker.send(turn) {
                Ok(()) => return None,
                Err(back) => turn = back,
            }
        }
    }

    /// Waits for a turn; `None` when enough others do, or when there will be none.
    async fn wait_for_turn(&self) -> Option<Turn> {
        let (sender, turn) = oneshot::channel();
        match self.idle.lock().as_mut() {
            Some(idle) if idle.len() < MAX_IDLE => idle.push(sender),
            _ => return None,
        }
        turn.await.ok()
    }

    fn turn(&self) -> Option<Turn> {
        if self.unwritten.load(Ordering::Acquire) >= reporter::MAX_UNWRITTEN {
            // The reporter goes on when it has written some.
            return None;
        }
        let now = self.clock.steady_ms();
        let mut desk = self.desk.lock();
        let (terms, batch) = (|no| self.terms(no), |no| self.outlet.batch(no));
        let turn = desk.start(terms, batch, now);
        if !desk.returns.is_empty() || desk.is_sooner() {
            self.wake.notify_one();
        }
        turn
    }

    /// A worker: makes attempts as long as there are turns, and waits for more.
    async fn work(self: &Arc<Self>, first: Turn) {
        let mut next = Some(first);
        while let Some(Turn { permit, items }) = next {
            let destination = permit.destination;
            self.metrics.in_flight.inc();
            let made = attempt::make(self, destination, &items).await;
            self.metrics.in_flight.dec();
            let now = self.clock.steady_ms();
            let wanted = {
                let mut desk = self.desk.lock();
                let (mut is_learned, mut short) = (false, Vec::new());
                for (made, item) in made.into_iter().zip(items) {
                    match made {
                        Made::Finished(mut finished, mood) => {
                            // It was one request, whatever it carried.
                            if !std::mem::replace(&mut is_learned, true) {
                                let terms = |destination| self.outlet.terms(destination);
                                finished.pause = desk.learn(destination, mood, terms, now);
                            }
                            self.report(*finished, item);
                        }
                        Made::NotNow => desk.returns.push((item, now)),
                        Made::NotBefore(due) => desk.returns.push((item, due)),
                        Made::Short => short.push(item),
                    }
                }
                if !short.is_empty() {
                    desk.put_back(destination, short, now + SHORT_PAUSE);
                }
                let more = desk.end(permit, now);
                let low = desk.runs_low(destination);
                self.low.fetch_or(low, Ordering::Relaxed);
                low || more || !desk.returns.is_empty()
            };
            if wanted {
                self.wake.notify_one();
            }
            next = match self.turn() {
                Some(turn) => Some(turn),
                None => self.wait_for_turn().await,
            };
        }
    }

    fn report(&self, finished: Finished, item: Item) {
        // The receiver ends only after every worker has.
        if let Some(reports) = self.reports.lock().as_ref() {
            self.unwritten.fetch_add(1, Ordering::AcqRel);
            drop(reports.send(Report { finished, item }));
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

    /// Terms of a destination, to this node. One with a rate or a concurrency of its own is served by one of the nodes, or each
    /// would grant it both; to the others it is as if it were disabled: what is owed stays owed.
    pub(crate) fn terms(&self, destination: DestinationNo) -> Terms {
        match self.outlet.terms(destination) {
            terms @ Terms::Open { concurrency, rate, .. } if concurrency.is_some() || rate.is_some() => {
                let is_here = self.place.lock().is_some_and(|place| place.has(destination));
                if is_here { terms } else { Terms::Disabled }
            }
            terms => terms,
        }
    }
}
