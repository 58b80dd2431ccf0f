//! Claims due deliveries from the store: for destinations whose queue runs low, and for those that the store's query
//! for due work returns.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tidings_model::clock::{Millis, Stopwatch};
use tidings_model::id::DestinationNo;
use tidings_store::StoreError;
use tidings_store::queue::{Leased, Skip, Wanted};

use crate::dispatcher::Dispatcher;
use crate::duty_cycle::{DutyCycle, Pause};
use crate::outlet::DestinationPolicy;
use crate::queued_delivery::QueuedDelivery;
use crate::shared::Inner;
use crate::workers;

/// The pause after each query for due destinations. With thousands of full queues to skip it takes milliseconds.
const DUE_PAUSE: Pause = Pause { factor: 9, max: Duration::from_millis(100) };
/// The most destinations that one query for due work returns.
const DESTINATIONS: usize = 256;
/// The most deliveries claimed in one transaction, and for one destination of it.
const CLAIMED: (usize, usize) = (256, 64);

/// A claim that is being put together.
#[derive(Default)]
struct Claim {
    parts: Vec<Wanted>,
    total: usize,
}

impl Claim {
    /// Adds a destination, with as many deliveries as it has room for. Returns `false` if the claim was full.
    fn add(&mut self, inner: &Inner, dispatcher: &mut Dispatcher, destination: DestinationNo, now: Millis) -> bool {
        let policy = inner.policy(destination);
        let batch = inner.outlet.batch(destination).max(1);
        let left = CLAIMED.0 - self.total;
        // The queue's room counts requests, each of up to `batch` deliveries: a shrunk window means fewer requests, not
        // smaller ones.
        let room = dispatcher.room(destination, policy, now).saturating_mul(batch);
        let room = room.min(CLAIMED.1.max(batch)).min(left);
        if room > 0 {
            self.parts.push(Wanted { destination, most: room, batch });
            self.total += room;
        } else if policy == DestinationPolicy::Disabled {
            dispatcher.pass_over(destination);
        } else {
            dispatcher.set_more(destination, true);
        }
        left > 0
    }
}

/// Claims due deliveries of destinations whose queue runs low, without querying which destinations are due.
pub(crate) async fn claim_low(inner: &Arc<Inner>, now: Millis) -> Result<(), StoreError> {
    let mut wanted = Claim::default();
    {
        let apps = inner.memory.full();
        let mut dispatcher = inner.dispatcher.lock();
        let mut low = dispatcher.take_low(&apps).into_iter();
        while let Some(destination) = low.next() {
            if !wanted.add(inner, &mut dispatcher, destination, now) {
                dispatcher.still_low(std::iter::once(destination).chain(low));
                break;
            }
        }
    }
    if wanted.parts.is_empty() {
        return Ok(());
    }
    let all = claim(inner, &wanted.parts, now).await.inspect_err(|_| {
        inner.dispatcher.lock().still_low(wanted.parts.iter().map(|part| part.destination));
    })?;
    if !all {
        // Some destinations have nothing more that is due now. The query for due work finds when their next one is.
        inner.next_due.fetch_min(now, Ordering::Relaxed);
    }
    Ok(())
}

/// Queries the store for due deliveries and claims them, as far as there is room. Returns when to query again. Apps
/// that hold their share of memory are skipped: the next poll asks for them, or a destination of theirs that runs low.
pub(crate) async fn claim_due(inner: &Arc<Inner>, duty: &mut DutyCycle, now: Millis) -> Result<Millis, StoreError> {
    let apps = inner.memory.full();
    let started = Stopwatch::start();
    let destinations = inner.dispatcher.lock().full(|no| inner.policy(no), &apps, now);
    let due = inner.store.due(now, Skip { destinations, apps }, DESTINATIONS).await?;
    duty.pause_after(&started, DUE_PAUSE);
    *inner.rank.lock() = Some(due.rank);
    inner.metrics.nodes.set(i64::try_from(due.rank.nodes).unwrap_or(i64::MAX));
    let mut wanted = Claim::default();
    {
        let mut dispatcher = inner.dispatcher.lock();
        due.paused.iter().for_each(|(destination, until)| dispatcher.pause(*destination, *until, now));
        for destination in &due.destinations {
            wanted.add(inner, &mut dispatcher, *destination, now);
        }
    }
    if wanted.parts.is_empty() {
        // No due destination has room. Each is claimed for when it runs low.
        return Ok(due.next.unwrap_or(Millis::MAX));
    }
    claim(inner, &wanted.parts, now).await?;
    // There may be more due than was returned or had room.
    Ok(now)
}

/// Leases the wanted deliveries and queues them. Returns `true` if each destination had as many as were wanted, and so
/// may have more.
async fn claim(inner: &Arc<Inner>, wanted: &[Wanted], now: Millis) -> Result<bool, StoreError> {
    let claimed = inner.store.claim(wanted.to_vec(), now, inner.lease()).await?;
    let mut got: HashMap<DestinationNo, usize> = HashMap::new();
    claimed.iter().for_each(|leased| *got.entry(leased.key.destination).or_default() += 1);
    let mut all = true;
    {
        let mut dispatcher = inner.dispatcher.lock();
        for Wanted { destination, most, .. } in wanted {
            let more = got.get(destination) == Some(most);
            dispatcher.set_more(*destination, more);
            all &= more;
        }
    }
    read(inner, claimed, false).await?;
    Ok(all)
}

/// Queues deliveries that are leased to us, and reads those of their events that are not in memory.
pub(crate) async fn read(inner: &Arc<Inner>, leased: Vec<Leased>, front: bool) -> Result<(), StoreError> {
    if leased.is_empty() {
        return Ok(());
    }
    // Keeps the payloads alive until each delivery has its own reference: one that is in memory now could be dropped
    // during the read.
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
            tracing::error!(delivery = leased.key.id(), "delivery dropped: its event is no longer in the log");
            None
        }
    });
    let items = QueuedDelivery::group(items);
    let mut dispatcher = inner.dispatcher.lock();
    items.into_iter().for_each(|item| dispatcher.push(item, false, front));
    drop(dispatcher);
    drop(held);
    workers::dispatch_ready(inner);
    Ok(())
}
