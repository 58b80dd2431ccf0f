//! When the store is asked for what: what is due, the next slice of fan-out, and sweeping up.
//!
//! It takes no input: woken by a signal or by the time, it looks at the dispatcher and the store and does what they
//! say. So the way after a crash is the same as every day's.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tidings_model::clock::{Millis, Stopwatch, millis};
use tidings_model::id::{AppId, EventNo};
use tidings_store::StoreError;
use tidings_store::queue::{FanoutTurn, Leased};
use tidings_supervisor::fault;
use tokio_util::sync::CancellationToken;

use crate::claims::{ask, claim_low, read};
use crate::duty_cycle::{DutyCycle, Pause};
use crate::shared::Inner;
use crate::workers;

/// Deliveries of a fan-out slice that are taken up at once at most.
const EXPANDED: usize = 500;
/// How often the store is asked for due work that nobody here knows of: another node has left it, or is gone.
const POLL: Duration = Duration::from_secs(1);
/// How often leases that ran out, and fan-out that another node has left, are looked for.
const SWEEP: Duration = Duration::from_secs(10);
/// The pause after the store has refused something.
const PAUSE: Duration = Duration::from_millis(500);

/// The pause after each slice of an app's fan-out while other apps publish: the first when all of the slice was leased
/// for immediate attempts, the second when none was. Each row may dirty a database page of its own, and a delivery that
/// cannot be attempted yet does not have to be written yet.
const FANOUT_PAUSES: (Pause, Pause) =
    (Pause { factor: 2, max: Duration::from_millis(25) }, Pause { factor: 30, max: Duration::from_millis(150) });

/// When periodic work was last done.
#[derive(Default)]
struct Last {
    polled: Millis,
    swept: Millis,
    due_query: DutyCycle,
    expansion: DutyCycle,
    /// The app whose fan-out had the last turn.
    expanded: Option<AppId>,
    /// The event whose deliveries could not be written last, and those that are not tried again until the next start.
    failed: Option<EventNo>,
    parked: Vec<EventNo>,
}

/// Runs until it is stopped, then gives back what was leased and not attempted.
pub(crate) async fn run(inner: Arc<Inner>, stop: CancellationToken) {
    let mut last = Last::default();
    loop {
        fault::point("scheduler");
        let round = round(&inner, &mut last).await;
        let wait = match round {
            Ok(wait) => wait,
            Err(StoreError::Closed) => return,
            Err(error) => {
                tracing::error!(%error, "the store could not say what is due; trying again");
                PAUSE
            }
        };
        tokio::select! {
            () = stop.cancelled() => break,
            () = inner.wake.notified() => {}
            () = tokio::time::sleep(wait) => {}
        }
    }
    if let Err(error) = give_back(&inner).await {
        tracing::warn!(%error, "deliveries could not be given back; the next start takes them up");
    }
}

/// One round. Returns how long to wait for the next one, if nothing happens.
async fn round(inner: &Arc<Inner>, last: &mut Last) -> Result<Duration, StoreError> {
    give_back(inner).await?;
    let unread = std::mem::take(&mut *inner.unread.lock());
    read(inner, unread, true).await?;
    let now = inner.clock.steady_ms();
    inner.dispatcher.lock().wake(now);
    if last.expansion.remaining().is_zero() && inner.fanout.swap(false, Ordering::Relaxed) {
        let again = expand(inner, last, now).await.inspect_err(|_| inner.fanout.store(true, Ordering::Relaxed))?;
        inner.fanout.fetch_or(again, Ordering::Relaxed);
    }
    claim_low(inner, now).await?;
    let may_ask = last.due_query.remaining().is_zero();
    if may_ask && (inner.next_due.load(Ordering::Relaxed) <= now || now - last.polled >= millis(POLL)) {
        last.polled = now;
        let known = inner.next_due.swap(Millis::MAX, Ordering::Relaxed);
        let next = ask(inner, &mut last.due_query, now).await.inspect_err(|_| inner.due_at(0))?;
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
    let ask = inner.next_due.load(Ordering::Relaxed).min(last.polled + millis(POLL));
    let mut dispatcher = inner.dispatcher.lock();
    let until = dispatcher.plan_wake((last.swept + millis(SWEEP)).min(if ask > now { ask } else { Millis::MAX }));
    let mut idle = Duration::from_millis(until.saturating_sub(now).clamp(1, millis(SWEEP)) as u64);
    if dispatcher.has_low() {
        idle = Duration::ZERO;
    }
    if ask <= now {
        idle = idle.min(last.due_query.remaining());
    }
    if inner.fanout.load(Ordering::Relaxed) {
        idle = idle.min(last.expansion.remaining());
    }
    idle
}

/// Gives deliveries back that could not be attempted.
async fn give_back(inner: &Inner) -> Result<(), StoreError> {
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

/// Expands one slice of fan-out; `true` when there is more.
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
                "an event's deliveries cannot be written; after a second failure they are left alone until the next \
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
    // The time as it is now, and not when the round began: a store may set its clock by it.
    let now = inner.clock.steady_ms();
    inner.forget_payloads();
    inner.memory.forget_empty();
    inner.dispatcher.lock().forget_idle(now);
    inner.health.catch_up(&*inner.outlet, |destination| inner.is_failing(destination), now);
    inner.fanout.store(true, Ordering::Relaxed);
    inner.orphans.store(true, Ordering::Relaxed);
    let taken_back = inner.store.sweep(now).await?;
    if taken_back > 0 {
        tracing::warn!(deliveries = taken_back, "leases ran out; their deliveries are attempted again");
        inner.next_due.fetch_min(now, Ordering::Relaxed);
    }
    Ok(())
}

async fn cancel_orphans(inner: &Inner) -> Result<(), StoreError> {
    while inner.store.cancel_orphans(inner.clock.wall_ms()).await? {}
    Ok(())
}
