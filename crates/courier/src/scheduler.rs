//! Fetching what is due, expanding fan-out, and sweeping up.
//!
//! It takes no input: woken by a signal or by the time, it looks at the dispatcher and the store and does what they say. So the way
//! after a crash is the same as every day's.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tidings_model::clock::{Millis, millis};
use tidings_store::StoreError;
use tidings_store::queue::{Leased, Skip, Wanted};
use tokio_util::sync::CancellationToken;

use crate::courier::{Inner, QueuedDelivery};
use crate::outlet::DestinationPolicy;

/// Destinations asked for at once.
const DESTINATIONS: usize = 256;
/// Deliveries claimed in one transaction at most, and for one destination.
const CLAIMED: (usize, usize) = (256, 64);
/// Deliveries of a fan-out slice that are taken up at once at most.
const EXPANDED: usize = 500;
/// How often the store is asked for due work that nobody here knows of: another node has left it, or is gone.
const POLL: Duration = Duration::from_secs(1);
/// How often leases that ran out, and fan-out that another node has left, are looked for.
const SWEEP: Duration = Duration::from_secs(10);
/// The pause after the store has refused something.
const PAUSE: Duration = Duration::from_millis(500);

/// When things were last done that are done from time to time.
#[derive(Default)]
struct Last {
    polled: Millis,
    swept: Millis,
}

/// Runs until it is stopped, then gives back what was leased and not attempted.
pub(crate) async fn run(inner: Arc<Inner>, stop: CancellationToken) {
    let mut last = Last::default();
    loop {
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
    let woken = inner.dispatcher.lock().wake(now);
    let asked = inner.next_due.swap(Millis::MAX, Ordering::Relaxed);
    let low = inner.low.swap(false, Ordering::Relaxed) || woken;
    let mut again = false;
    if inner.fanout.swap(false, Ordering::Relaxed) {
        again = expand(inner, now).await.inspect_err(|_| inner.fanout.store(true, Ordering::Relaxed))?;
        inner.fanout.fetch_or(again, Ordering::Relaxed);
    }
    let next = if asked <= now || low || now - last.polled >= millis(POLL) {
        last.polled = now;
        claim(inner, now).await.inspect_err(|_| inner.due_at(0))?
    } else {
        asked
    };
    if inner.orphans.swap(false, Ordering::Relaxed) {
        cancel_orphans(inner).await.inspect_err(|_| inner.orphans.store(true, Ordering::Relaxed))?;
    }
    if now - last.swept >= millis(SWEEP) {
        last.swept = now;
        sweep(inner).await?;
    }
    inner.next_due.fetch_min(next, Ordering::Relaxed);
    inner.go_on();
    if again {
        return Ok(Duration::ZERO);
    }
    let due = inner.next_due.load(Ordering::Relaxed);
    let due = due.min(last.polled + millis(POLL)).min(last.swept + millis(SWEEP));
    let until = inner.dispatcher.lock().plan_wake(due);
    Ok(Duration::from_millis(until.saturating_sub(inner.clock.steady_ms()).clamp(1, millis(SWEEP)) as u64))
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

/// Queues deliveries that are leased to us, reading their events where they are not in memory.
async fn read(inner: &Arc<Inner>, leased: Vec<Leased>, front: bool) -> Result<(), StoreError> {
    if leased.is_empty() {
        return Ok(());
    }
    // Held until each delivery has its own hold: an event that is in memory now may not be after the read.
    let mut held = Vec::new();
    let mut unknown = Vec::new();
    for event in leased.iter().map(|leased| leased.key.event).collect::<HashSet<_>>() {
        match inner.known_payload(event) {
            Some(payload) => held.push(payload),
            None => unknown.push(event),
        }
    }
    if !unknown.is_empty() {
        let read = inner.store.events_at(unknown).await;
        match read {
            Ok(logged) => held.extend(logged.into_iter().map(|logged| inner.payload(logged))),
            Err(error) => {
                inner.unread.lock().extend(leased);
                return Err(error);
            }
        }
    }
    let items = leased.into_iter().filter_map(|leased| match inner.known_payload(leased.key.event) {
        Some(payload) => Some(QueuedDelivery::new(leased, payload)),
        None => {
            tracing::error!(delivery = leased.key.id(), "its event is no longer in the log");
            None
        }
    });
    let items = QueuedDelivery::together(items);
    let mut dispatcher = inner.dispatcher.lock();
    items.into_iter().for_each(|item| dispatcher.push(item, false, front));
    drop(dispatcher);
    drop(held);
    inner.go_on();
    Ok(())
}

/// Expands one slice of fan-out; `true` when there is more.
async fn expand(inner: &Arc<Inner>, now: Millis) -> Result<bool, StoreError> {
    let expanded = inner.store.expand(now, EXPANDED, inner.memory.full(), inner.lease()).await?;
    if expanded.queued {
        inner.next_due.fetch_min(now, Ordering::Relaxed);
    }
    read(inner, expanded.leased, false).await?;
    Ok(expanded.more)
}

/// Claims what is due, as far as there is room. Returns when to ask again; apps that hold their share of memory are asked for
/// after the usual while, or when one of their destinations runs low.
async fn claim(inner: &Arc<Inner>, now: Millis) -> Result<Millis, StoreError> {
    let apps = inner.memory.full();
    let destinations = inner.dispatcher.lock().full(|no| inner.policy(no), &apps, now);
    let skip = Skip { destinations, apps };
    let due = inner.store.due(now, skip, DESTINATIONS).await?;
    *inner.rank.lock() = Some(due.rank);
    inner.metrics.nodes.set(i64::try_from(due.rank.nodes).unwrap_or(i64::MAX));
    let mut wanted: Vec<Wanted> = Vec::new();
    let mut total = 0;
    {
        let mut dispatcher = inner.dispatcher.lock();
        due.paused.iter().for_each(|(destination, until)| dispatcher.rest(*destination, *until, now));
        for destination in &due.destinations {
            let policy = inner.policy(*destination);
            let batch = inner.outlet.batch(*destination).max(1);
            // The room is in requests: a destination whose window has shrunk gets fewer of them, and each as full as ever.
            let room = dispatcher.room(*destination, policy, now).saturating_mul(batch);
            let room = room.min(CLAIMED.1.max(batch)).min(CLAIMED.0 - total);
            if room > 0 {
                wanted.push(Wanted { destination: *destination, most: room, batch });
                total += room;
            } else if policy == DestinationPolicy::Disabled {
                dispatcher.pass_over(*destination);
            } else {
                dispatcher.set_more(*destination, true);
            }
        }
    }
    if wanted.is_empty() {
        // Whoever is due has no room: it says when it runs low.
        return Ok(due.next.unwrap_or(Millis::MAX));
    }
    let claimed = inner.store.claim(wanted.clone(), now, inner.lease()).await?;
    {
        let mut dispatcher = inner.dispatcher.lock();
        for Wanted { destination, most, .. } in &wanted {
            let got = claimed.iter().filter(|leased| leased.key.destination == *destination).count();
            dispatcher.set_more(*destination, got == *most);
        }
    }
    read(inner, claimed, false).await?;
    // There may be more than was asked for or had room.
    Ok(now)
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
