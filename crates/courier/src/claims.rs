//! Claiming due deliveries from the store: for destinations whose queue runs low, and for those that the store lists as
//! due.

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
/// Destinations asked for at once.
const DESTINATIONS: usize = 256;
/// Deliveries claimed in one transaction at most, and for one destination.
const CLAIMED: (usize, usize) = (256, 64);

/// A claim being put together, as large as memory allows.
#[derive(Default)]
struct Claim {
    parts: Vec<Wanted>,
    total: usize,
}

impl Claim {
    /// Adds a destination, as far as it has room; `false` when the claim is full.
    fn add(&mut self, inner: &Inner, dispatcher: &mut Dispatcher, destination: DestinationNo, now: Millis) -> bool {
        let policy = inner.policy(destination);
        let batch = inner.outlet.batch(destination).max(1);
        let left = CLAIMED.0 - self.total;
        // The room is in requests: a destination whose window has shrunk gets fewer of them, and each as full as ever.
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
        // The query finds out when the next of them is due.
        inner.next_due.fetch_min(now, Ordering::Relaxed);
    }
    Ok(())
}

/// Asks what is due and claims it, as far as there is room. Returns when to ask again; apps that hold their share of
/// memory are asked for after the usual while, or when one of their destinations runs low.
pub(crate) async fn ask(inner: &Arc<Inner>, duty: &mut DutyCycle, now: Millis) -> Result<Millis, StoreError> {
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
        due.paused.iter().for_each(|(destination, until)| dispatcher.rest(*destination, *until, now));
        for destination in &due.destinations {
            wanted.add(inner, &mut dispatcher, *destination, now);
        }
    }
    if wanted.parts.is_empty() {
        // Whoever is due has no room: it says when it runs low.
        return Ok(due.next.unwrap_or(Millis::MAX));
    }
    claim(inner, &wanted.parts, now).await?;
    // There may be more than was asked for or had room.
    Ok(now)
}

/// Leases what is wanted and queues it; `true` when each destination had all that was wanted of it, and so may have
/// more.
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

/// Queues deliveries that are leased to us, reading their events where they are not in memory.
pub(crate) async fn read(inner: &Arc<Inner>, leased: Vec<Leased>, front: bool) -> Result<(), StoreError> {
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
    workers::dispatch_ready(inner);
    Ok(())
}
