//! The courier: its public face, which starts and stops its parts.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use prometheus_client::registry::Registry;
use tidings_model::clock::SharedClock;
use tidings_model::id::{AppId, DeliveryKey, DestinationNo};
use tidings_store::log::{Destination, Lane, Lease, Logged, MAX_DIRECT};
use tidings_store::queue::Leased;
use tidings_store::{Store, StoreError};
use tidings_supervisor::Supervisor;
use tokio::sync::{Notify, mpsc};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::dispatcher::Dispatcher;
use crate::egress::Egress;
use crate::health_log::HealthLog;
use crate::memory::Memory;
use crate::metrics::Metrics;
use crate::outlet::Outlet;
use crate::queued_delivery::QueuedDelivery;
use crate::recent_publishers::RecentPublishers;
use crate::settings::Settings;
use crate::shared::{Inner, Notice};
use crate::shared_payload::SharedPayload;
use crate::{result_writer, scheduler, workers};

/// Attempts each delivery until it is delivered, or its schedule is exhausted. Clones share one courier.
#[derive(Clone)]
pub struct Courier {
    inner: Arc<Inner>,
    stop: CancellationToken,
    parts: TaskTracker,
}

impl Courier {
    /// Recovers deliveries that an earlier run left leased, and starts to deliver. The receiver gets the [`Notice`]s.
    ///
    /// # Errors
    /// The store fails.
    pub async fn start(
        store: Arc<dyn Store>,
        outlet: Arc<dyn Outlet>,
        egress: Egress,
        clock: SharedClock,
        settings: Settings,
        registry: &mut Registry,
        supervisor: &Supervisor,
    ) -> Result<(Self, mpsc::UnboundedReceiver<Notice>), StoreError> {
        let recovered = store.recover(clock.steady_ms()).await?;
        if recovered > 0 {
            tracing::info!(deliveries = recovered, "deliveries that an earlier run left in flight are attempted again");
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

    /// Sets [`Destination::fresh`] of those of an event's destinations that have room in memory: their deliveries are
    /// attempted at once. The others stay in the store until there is room for them.
    pub fn admit(&self, app: &AppId, destinations: &mut [Destination]) {
        let inner = &self.inner;
        let now = inner.clock.steady_ms();
        inner.recent_publishers.record(app, now);
        if destinations.len() > MAX_DIRECT {
            // The event gets a fan-out row: its deliveries are written later, slice by slice.
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

    /// Takes over the deliveries of a committed publish to `destinations`. Those in `leased` are leased to this node
    /// and are attempted now. `queued`: the store has more of them.
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
            // If all deliveries are leased to us and in no lane, no later read needs this payload: it stays out of the
            // shared map.
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
            workers::dispatch_ready(inner);
        }
        if queued {
            inner.fanout.store(true, Ordering::Relaxed);
            self.wake_scheduler();
        }
    }

    /// Wakes the scheduler to query for due work now: after a retry by hand, or when a listener was enabled.
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

    /// Stops: waits at most `grace` for attempts in flight, writes their results, and releases all other deliveries.
    pub async fn stop(&self, grace: Duration) {
        let inner = &self.inner;
        inner.dispatcher.lock().stop(inner.clock.steady_ms());
        inner.idle.lock().take();
        inner.workers.close();
        if tokio::time::timeout(grace, inner.workers.wait()).await.is_err() {
            tracing::warn!(
                attempts = inner.dispatcher.lock().running(),
                "shutdown did not wait for all attempts in flight; they are repeated after the next start"
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
