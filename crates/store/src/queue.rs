//! The queue: pending deliveries, their leases, and the results of attempts.
//!
//! A delivery is `(event, destination)`. While it is open it is scheduled (due at a time), leased (a node attempts it),
//! or waiting behind an older one of its lane. When it ends it becomes a closed row. Every change of a leased delivery
//! names the lease, so a worker whose lease was lost changes nothing.

use std::collections::HashSet;
use std::sync::Arc;

use async_trait::async_trait;
use tidings_model::clock::Millis;
use tidings_model::delivery::{Attempt, DeliveryState};
use tidings_model::id::{AppId, DeliveryKey, DestinationNo, EventNo};

use crate::error::StoreError;
use crate::log::Lease;
use crate::page::Page;

/// A delivery that the holder of its lease now has to attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Leased {
    /// The delivery.
    pub key: DeliveryKey,
    /// How many attempts were made before.
    pub attempts: u32,
    /// How many of those do not count against the schedule: a retry by hand starts it anew.
    pub forgiven: u32,
    /// Whether it is in an ordered lane. The store relies on it: when this delivery ends, the lane advances.
    pub ordered: bool,
    /// Whether it is the next of its lane after the one before it in the list, and leased to go in the same request.
    pub follows: bool,
    /// Whether it is in its event's leased batch: fresh from a publish, and in no lane. The store relies on it too.
    pub in_batch: bool,
    /// The lease.
    pub lease: Lease,
}

/// How much of a destination's due work to claim.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wanted {
    /// The destination.
    pub destination: DestinationNo,
    /// The most deliveries to claim.
    pub most: usize,
    /// How many consecutive deliveries of an ordered lane may go in one request.
    pub batch: usize,
}

/// Destinations that have work due.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Due {
    /// Destinations with something due, the longest waiting first.
    pub destinations: Vec<DestinationNo>,
    /// When the first of the others will be due.
    pub next: Option<Millis>,
    /// Destinations that asked any node for a pause, and until when.
    pub paused: Vec<(DestinationNo, Millis)>,
    /// This node's rank among those that share the store.
    pub rank: NodeRank,
}

/// A node's rank among those that share a store. All nodes read the same list. A new node, which others may not know of
/// yet, ranks behind all of them and owns no destination.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NodeRank {
    /// How many nodes rank before it.
    pub rank: u64,
    /// How many nodes there are, itself included.
    pub nodes: u64,
}

impl Default for NodeRank {
    /// The rank of a single node.
    fn default() -> Self {
        Self { rank: 0, nodes: 1 }
    }
}

impl NodeRank {
    /// Whether this node is the one that serves a destination with a rate or concurrency of its own.
    pub fn owns(self, destination: DestinationNo) -> bool {
        destination.0.unsigned_abs() % self.nodes.max(1) == self.rank
    }
}

/// What comes after an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// Nothing: the destination accepted it.
    Delivered,
    /// Another attempt at this steady time.
    Retry(Millis),
    /// Nothing: the schedule is exhausted, or the destination wants no more deliveries.
    Undelivered,
    /// Nothing: the destination was deleted. No attempt was made.
    Canceled,
}

/// The result of an attempt.
#[derive(Debug, Clone)]
pub struct Finished {
    /// The delivery that was attempted.
    pub delivery: Leased,
    /// The attempt; `None` if the delivery was canceled without one.
    pub attempt: Option<Attempt>,
    /// What comes after it.
    pub next: Next,
    /// Disables the destination, for this reason (410 Gone).
    pub disable: Option<&'static str>,
    /// Whether the destination was known to be failing before, so that a success has something to clear.
    pub was_failing: bool,
    /// Until when (steady time) the destination asked for a pause. A store of several nodes passes it on to the others.
    pub pause: Option<Millis>,
    /// How many of the next deliveries of its lane may be leased to go in one request.
    pub batch: usize,
}

/// What the store did with the result of an attempt.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Recorded {
    /// The caller's lease was lost: nothing was changed.
    pub stale: bool,
    /// The next deliveries of the lane, leased to the caller: as many consecutive ones as may go in one request.
    pub next_in_lane: Vec<Leased>,
    /// When the next delivery of the lane is due (steady time), if it was scheduled instead of leased.
    pub lane_due: Option<Millis>,
    /// This result disabled the destination.
    pub disabled: bool,
}

/// The parameters with which a batch of results is recorded.
#[derive(Debug, Clone, Copy)]
pub struct Recording {
    /// The current steady time.
    pub now: Millis,
    /// The current wall time.
    pub wall: Millis,
    /// The lease of the lanes' next deliveries.
    pub lease: Lease,
    /// Whether something waits for it: the next of a lane, or more results. Otherwise it may be written a few
    /// milliseconds later, together with others.
    pub soon: bool,
    /// How long (ms) a lane waits for more deliveries, if it has fewer than may go in one request.
    pub gather: Millis,
    /// A destination that has only failed since before this wall time is disabled.
    pub disable_failing_since: Millis,
}

/// Which fan-out row is expanded next, and how many of its deliveries are leased to the caller.
#[derive(Debug, Clone, Default)]
pub struct FanoutTurn {
    /// The app that had the turn before. The next app, in the order of ids, has it now.
    pub after: Option<AppId>,
    /// The most deliveries that are leased to the caller.
    pub fresh: usize,
    /// Apps without room in memory: their deliveries are written unleased.
    pub full_apps: Vec<AppId>,
    /// Destinations without room. A set, because it can be large and the writer looks each delivery up in it.
    pub full_destinations: HashSet<DestinationNo>,
    /// Events whose expansion failed: they are skipped.
    pub parked: Vec<EventNo>,
}

impl FanoutTurn {
    /// Whether the caller has room for a delivery.
    pub(crate) fn has_room(&self, app: &AppId, destination: DestinationNo) -> bool {
        !self.full_apps.contains(app) && !self.full_destinations.contains(&destination)
    }
}

/// The result of expanding one slice of a fan-out row.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Expanded {
    /// The app of the row; `None` if there is no row.
    pub app: Option<AppId>,
    /// How many deliveries the slice had.
    pub written: usize,
    /// Deliveries leased to the caller.
    pub leased: Vec<Leased>,
    /// Whether any delivery was scheduled instead of leased, although the caller has room for it.
    pub queued: bool,
    /// Whether there is more to expand.
    pub more: bool,
}

/// A delivery, as lists show it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeliveryRow {
    /// The delivery.
    pub key: DeliveryKey,
    /// Its state.
    pub state: DeliveryState,
    /// How many attempts were made.
    pub attempts: u32,
    /// When the next attempt is due, in steady milliseconds; `None` if it is leased, waits behind an older delivery, or
    /// has ended.
    pub due: Option<Millis>,
    /// When it ended (wall time).
    pub closed_at: Option<Millis>,
    /// The event's id.
    pub event_id: String,
    /// The event's name.
    pub event_name: String,
    /// The listener's id.
    pub listener: String,
    /// The error of the last attempt that failed.
    pub last_error: Option<String>,
}

/// Which deliveries to list, newest event first.
#[derive(Debug, Clone, Default)]
pub struct DeliveryFilter {
    /// Only deliveries in this state.
    pub state: Option<DeliveryState>,
    /// Only deliveries to this destination.
    pub destination: Option<DestinationNo>,
    /// Only deliveries of this event.
    pub event: Option<EventNo>,
    /// Only deliveries before this one: the last delivery of the page before.
    pub before: Option<(EventNo, DestinationNo)>,
    /// The most deliveries of a page.
    pub limit: usize,
}

/// Which attempts of a delivery to list, oldest first.
#[derive(Debug, Clone, Copy)]
pub struct AttemptRange {
    /// Only attempts after this one: the last attempt of the page before.
    pub after: u32,
    /// The most attempts of a page.
    pub limit: usize,
    /// The most bytes of a page; it has one attempt at least.
    pub bytes: usize,
}

impl AttemptRange {
    /// The first `limit` attempts, without a limit in bytes.
    pub fn first(limit: usize) -> Self {
        Self { after: 0, limit, bytes: usize::MAX }
    }
}

/// The result of a retry by hand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Retried {
    /// The delivery is due now.
    Due,
    /// An attempt was in flight already: nothing was changed.
    UnderWay,
    /// The delivery waits behind an older one of its lane: nothing was changed.
    Waiting,
}

/// How much open work there is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Depth {
    /// Open deliveries.
    pub deliveries: u64,
    /// Fan-out rows.
    pub fanouts: u64,
    /// Undelivered deliveries that are still kept.
    pub undelivered: u64,
    /// The bytes that the store uses.
    pub bytes: u64,
}

/// The result of one slice of retention.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Retired {
    /// Events that were deleted, with their closed deliveries and attempts.
    pub events: u64,
    /// When the newest of them was stored.
    pub newest: Option<Millis>,
    /// Whether there may be more to delete.
    pub more: bool,
}

impl Retired {
    /// Counts a deleted event.
    pub(crate) fn count(&mut self, no: EventNo) {
        self.events += 1;
        self.newest = self.newest.max(Some(no.millis()));
    }
}

/// The destinations and apps that a query for due work skips, because the caller has no room for them.
#[derive(Debug, Clone, Default)]
pub struct Skip {
    /// These destinations.
    pub destinations: Vec<DestinationNo>,
    /// All destinations of these apps.
    pub apps: Vec<AppId>,
}

/// Claims deliveries, records results, and lists deliveries.
#[async_trait]
pub trait Queue: Send + Sync {
    /// Ends the leases of earlier incarnations of this node, and shifts due times if the clock was set back. Called
    /// once, before anything is claimed. Returns how many leases were ended.
    async fn recover(&self, now: Millis) -> Result<u64, StoreError>;

    /// A new, unique lease token.
    fn new_token(&self) -> crate::log::LeaseToken;

    /// Which destinations have work due at `now`, except those to skip.
    async fn due(&self, now: Millis, skip: Skip, limit: usize) -> Result<Due, StoreError>;

    /// Leases due deliveries of each wanted destination, the longest due first. Of an ordered lane only the oldest open
    /// delivery is leased, and with it those right behind it that may go in the same request; they follow it in the
    /// list.
    async fn claim(&self, wanted: Vec<Wanted>, now: Millis, lease: Lease) -> Result<Vec<Leased>, StoreError>;

    /// Records the results of attempts in one transaction. Returns what it did with each, in the same order.
    async fn finish(&self, batch: Arc<Vec<Finished>>, recording: Recording) -> Result<Vec<Recorded>, StoreError>;

    /// Ends the leases of deliveries that were not attempted, and schedules them for `due`.
    async fn release(&self, batch: Vec<Leased>, due: Millis) -> Result<(), StoreError>;

    /// Expands one slice of the oldest fan-out row of the app that has the turn.
    ///
    /// # Errors
    /// [`StoreError::Fanout`] if the cause is in the row: the caller can [park](FanoutTurn::parked) it, so that others
    /// are expanded.
    async fn expand(&self, now: Millis, turn: FanoutTurn, lease: Lease) -> Result<Expanded, StoreError>;

    /// Ends leases that expired before `now`, makes their deliveries due, and removes disabled and deleted destinations
    /// from the list of those with work. Returns how many leases had expired.
    async fn sweep(&self, now: Millis) -> Result<u64, StoreError>;

    /// Cancels a slice of the pending deliveries of deleted listeners. Returns `true` if there may be more.
    async fn cancel_orphans(&self, wall: Millis) -> Result<bool, StoreError>;

    /// Failing destinations, and since when they have only failed (wall time).
    async fn failing(&self) -> Result<Vec<(DestinationNo, Millis)>, StoreError>;

    /// Which of these destinations are failing, and since when they have only failed (wall time).
    async fn failing_of(&self, destinations: Vec<DestinationNo>) -> Result<Vec<(DestinationNo, Millis)>, StoreError>;

    /// A page of deliveries, newest event first.
    async fn deliveries(&self, app: &AppId, filter: DeliveryFilter) -> Result<Vec<DeliveryRow>, StoreError>;

    /// One delivery.
    async fn delivery(&self, key: &DeliveryKey) -> Result<Option<DeliveryRow>, StoreError>;

    /// A page of the attempts of a delivery, oldest first.
    async fn attempts(&self, key: &DeliveryKey, range: AttemptRange) -> Result<Page<Attempt>, StoreError>;

    /// Retries a delivery by hand: a scheduled one becomes due now, one that has ended is opened again.
    /// [`StoreError::Missing`] if there is none, or its listener was deleted.
    async fn retry(&self, key: &DeliveryKey, now: Millis) -> Result<Retried, StoreError>;

    /// Deletes a slice of the events stored before a time, with their closed deliveries and attempts, and of the
    /// idempotency keys used before a time (both wall time). Events with open deliveries are kept.
    async fn retire(&self, events_before: Millis, keys_before: Millis) -> Result<Retired, StoreError>;

    /// Deletes a slice of the oldest events, whatever their age, while the store uses more than `most` bytes. Events
    /// with open deliveries are kept.
    async fn retire_above(&self, most: u64) -> Result<Retired, StoreError>;

    /// Removes a slice of the tombstones of records that were deleted before a wall time, and of hooks' fields that
    /// were replaced before it and that no kept event refers to. Returns `true` if there may be more.
    async fn forget_deleted(&self, before: Millis) -> Result<bool, StoreError>;

    /// Returns free space to the file system, for a few milliseconds. Returns `true` if there is more of it.
    async fn shrink(&self) -> Result<bool, StoreError>;

    /// How much open work there is. Cheap: the numbers are maintained, not counted.
    async fn depth(&self) -> Result<Depth, StoreError>;
}
