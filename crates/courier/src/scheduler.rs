//! The loop that moves work from the store to the dispatcher and back: claims due deliveries, expands fan-out rows
//! slice by slice, releases what could not be attempted, and recovers expired leases.
//!
//! It takes no input. A signal or a timer wakes it; then it looks at the dispatcher and the store, and does what they
//! call for. So a start after a crash takes the same path as normal work.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tidings_model::clock::{Millis, Stopwatch, millis};
use tidings_model::id::{AppId, EventNo};
use tidings_store::StoreError;
use tidings_store::queue::{FanoutTurn, Leased};
use tidings_supervisor::fault;
use tokio_util::sync::CancellationToken;

use crate::claims::{claim_due, claim_low, read};
use crate::duty_cycle::{DutyCycle, Pause};
use crate::shared::Inner;
use crate::workers;

/// The most deliveries of a fan-out slice that are leased at once.
const EXPANDED: usize = 500;
/// How often the store is queried for due work that this node does not know of: another node wrote it, or has failed.
const POLL: Duration = Duration::from_secs(1);
/// How often expired leases, and fan-out rows that another node left, are looked for.
const SWEEP: Duration = Duration::from_secs(10);
/// The pause after a round in which the store failed.
const PAUSE: Duration = Duration::from_millis(500);

/// The pause after each slice of an app's fan-out while other apps publish: the first if all of the slice was leased
/// for immediate attempts, the second if none was. Writing a row may dirty a database page of its own, and there is no
/// hurry to write a delivery that cannot be attempted yet.
const FANOUT_PAUSES: (Pause, Pause) =
    (Pause { factor: 2, max: Duration::from_millis(25) }, Pause { factor: 30, max: Duration::from_millis(150) });

/// When periodic work was last done.
#[derive(Default)]
struct Last {
    polled: Millis,
    swept: Millis,
    due_query: DutyCycle,
    expansion: DutyCycle,
    /// The app whose fan-out was expanded last.
    expanded: Option<AppId>,
    /// The event whose expansion failed last.
    failed: Option<EventNo>,
    /// Events whose expansion failed twice: they are skipped until the next start.
    parked: Vec<EventNo>,
}

/// Runs until it is stopped, then releases deliveries that were leased and not attempted.
pub(crate) async fn run(inner: Arc<Inner>, stop: CancellationToken) {
    let mut last = Last::default();
    loop {
        fault::point("scheduler");
        let round = round(&inner, &mut last).await;
        let wait = match round {
            Ok(wait) => wait,
            Err(StoreError::Closed) => return,
            Err(error) => {
                tracing::error!(%error, "scheduling deliveries failed in the store; retrying");
                PAUSE
            }
        };
        tokio::select! {
            () = stop.cancelled() => break,
            () = inner.wake.notified() => {}
            () = tokio::time::sleep(wait) => {}
        }
    }
    if let Err(error) = release(&inner).await {
        tracing::warn!(%error, "releasing leased deliveries failed; the next start recovers them");
    }
}

/// One round. Returns how long to wait for the next one, if nothing happens.
async fn round(inner: &Arc<Inner>, last: &mut Last) -> Result<Duration, StoreError> {
    release(inner).await?;
    let unread = std::mem::take(&mut *inner.unread.lock());
    read(inner, unread, true).await?;
    let now = inner.clock.steady_ms();
    inner.dispatcher.lock().wake(now);
    if last.expansion.remaining().is_zero() && inner.fanout.swap(false, Ordering::Relaxed) {
        let again = expand(inner, last, now).await.inspect_err(|_| inner.fanout.store(true, Ordering::Relaxed))?;
        inner.fanout.fetch_or(again, Ordering::Relaxed);
    }
    claim_low(inner, now).await?;
    let may_query = last.due_query.remaining().is_zero();
    if may_query && (inner.next_due.load(Ordering::Relaxed) <= now || now - last.polled >= millis(POLL)) {
        last.polled = now;
        let known = inner.next_due.swap(Millis::MAX, Ordering::Relaxed);
        let next = claim_due(inner, &mut last.due_query, now).await.inspect_err(|_| inner.due_at(0))?;
        let later = if known > now { known } else { Millis::MAX };
        inner.next_due.fetch_min(next.min(later), Ordering::Relaxed);
    }
    if inner.orphans.swap(false, Ordering::Relaxed) {
        cancel_orphans(inner).await.inspect_err(|_| inner.orphans.store(true, Ordering::Relaxed))?;
    }
    if now - last.swept >= millis(SWEEP) {
        last.swept = now;
        sweep(inner).await?;
    }
    workers::dispatch_ready(inner);
    Ok(idle_time(inner, last))
}

/// How long to sleep if nothing wakes the scheduler.
fn idle_time(inner: &Inner, last: &Last) -> Duration {
    let now = inner.clock.steady_ms();
    let query = inner.next_due.load(Ordering::Relaxed).min(last.polled + millis(POLL));
    let mut dispatcher = inner.dispatcher.lock();
    let until = dispatcher.plan_wake((last.swept + millis(SWEEP)).min(if query > now { query } else { Millis::MAX }));
    let mut idle = Duration::from_millis(until.saturating_sub(now).clamp(1, millis(SWEEP)) as u64);
    if dispatcher.has_low() {
        idle = Duration::ZERO;
    }
    if query <= now {
        idle = idle.min(last.due_query.remaining());
    }
    if inner.fanout.load(Ordering::Relaxed) {
        idle = idle.min(last.expansion.remaining());
    }
    idle
}

/// Releases deliveries that could not be attempted to the store.
async fn release(inner: &Inner) -> Result<(), StoreError> {
    let mut returns = std::mem::take(&mut inner.dispatcher.lock().returns);
    returns.sort_by_key(|(_, due)| *due);
    while let Some(due) = returns.last().map(|(_, due)| *due) {
        let start = returns.partition_point(|(_, other)| *other < due);
        let batch: Vec<Leased> = returns[start..].iter().map(|(item, _)| item.leased.clone()).collect();
        inner.metrics.released.inc_by(batch.len() as u64);
        if let Err(error) = inner.store.release(batch, due).await {
            inner.dispatcher.lock().returns.append(&mut returns);
            return Err(error);
        }
        returns.truncate(start);
        inner.due_at(due);
    }
    Ok(())
}

/// Expands one slice of a fan-out row. Returns `true` if there is more to expand.
async fn expand(inner: &Arc<Inner>, last: &mut Last, now: Millis) -> Result<bool, StoreError> {
    let full_destinations = inner.dispatcher.lock().without_room(|no| inner.policy(no), now);
    let full_apps = inner.memory.full();
    let (after, parked) = (last.expanded.clone(), last.parked.clone());
    let turn = FanoutTurn { after, fresh: EXPANDED, full_apps, full_destinations, parked };
    let started = Stopwatch::start();
    let expanded = match inner.store.expand(now, turn, inner.lease()).await {
        Err(StoreError::Fanout { event, reason }) => {
            let is_parked = last.failed.replace(event) == Some(event);
            tracing::error!(
                event = event.0,
                reason,
                is_parked,
                "writing the deliveries of an event failed; after a second failure they are skipped until the next \
                start"
            );
            if is_parked {
                last.parked.push(event);
            }
            return Ok(true);
        }
        expanded => expanded?,
    };
    if let Some(app) = &expanded.app
        && inner.recent_publishers.includes_others(app, now)
    {
        let (leased, waiting) = FANOUT_PAUSES;
        let not_leased = expanded.written.saturating_sub(expanded.leased.len());
        last.expansion.pause_after(&started, leased.interpolate(waiting, not_leased, expanded.written));
    }
    last.expanded = expanded.app;
    if expanded.queued {
        inner.next_due.fetch_min(now, Ordering::Relaxed);
    }
    read(inner, expanded.leased, false).await?;
    Ok(expanded.more)
}

async fn sweep(inner: &Inner) -> Result<(), StoreError> {
    // Read anew, not taken from the start of the round: a store may set its clock by it.
    let now = inner.clock.steady_ms();
    inner.forget_payloads();
    inner.memory.forget_empty();
    inner.dispatcher.lock().forget_idle(now);
    inner.health.catch_up(&*inner.outlet, |destination| inner.is_failing(destination), now);
    inner.fanout.store(true, Ordering::Relaxed);
    inner.orphans.store(true, Ordering::Relaxed);
    let recovered = inner.store.sweep(now).await?;
    if recovered > 0 {
        tracing::warn!(deliveries = recovered, "leases expired; their deliveries are attempted again");
        inner.next_due.fetch_min(now, Ordering::Relaxed);
    }
    Ok(())
}

async fn cancel_orphans(inner: &Inner) -> Result<(), StoreError> {
    while inner.store.cancel_orphans(inner.clock.wall_ms()).await? {}
    Ok(())
}
