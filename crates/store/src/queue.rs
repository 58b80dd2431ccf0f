//! The queue: pending deliveries, who may attempt them now, and what came of it.
//!
//! A delivery is `(event, destination)`. While it is open it is scheduled (due at a time), leased (somebody attempts
//! it), or waiting behind an older one of its lane. When it ends it moves to the closed ones. Every change of a leased
//! delivery names the lease, so a worker that lost it changes nothing.

use std::collections::HashSet;
use std::sync::Arc;

use async_trait::async_trait;
use tidings_model::clock::Millis;
use tidings_model::delivery::{Attempt, DeliveryState};
use tidings_model::id::{AppId, DeliveryKey, DestinationNo, EventNo};

use crate::error::StoreError;
use crate::log::Lease;
use crate::page::Page;

/// A delivery that its holder now has to attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Leased {
    /// Which.
    pub key: DeliveryKey,
    /// Attempts made before.
    pub attempts: u32,
    /// How many of those do not count against the schedule: a retry by hand starts it anew.
    pub forgiven: u32,
    /// Whether it is one of an ordered lane. The store goes by it: the next of the lane is let go when this one ends.
    pub ordered: bool,
    /// Whether it is the next of its lane after the one before it in the list, and leased to go together with that.
    pub follows: bool,
    /// Whether it is in its event's leased batch: fresh from a publish, and in no lane. The store relies on it too.
    pub in_batch: bool,
    /// The right to attempt it.
    pub lease: Lease,
}

/// What is wanted of a destination's due work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wanted {
    /// Whose.
    pub destination: DestinationNo,
    /// How many deliveries at most.
    pub most: usize,
    /// How many consecutive ones of an ordered lane may go together.
    pub batch: usize,
}

/// Destinations that have work due.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Due {
    /// Those with something due, the longest waiting first.
    pub destinations: Vec<DestinationNo>,
    /// When the next of the others will be due.
    pub next: Option<Millis>,
    /// Those that asked for a pause, at whichever node, and until when.
    pub paused: Vec<(DestinationNo, Millis)>,
    /// This node's rank among those that share the store.
    pub rank: NodeRank,
}

/// A node's rank among those that share a store: each reads the same list. A node that others may not know of yet ranks
/// behind all of them and owns no destination.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NodeRank {
    /// How many nodes rank before it.
    pub rank: u64,
    /// How many nodes there are, itself included.
    pub nodes: u64,
}

impl Default for NodeRank {
    /// That of a single node.
    fn default() -> Self {
        Self { rank: 0, nodes: 1 }
    }
}

impl NodeRank {
    /// Whether this node, of all nodes, serves a destination with a rate or a concurrency of its own.
    pub fn owns(self, destination: DestinationNo) -> bool {
        destination.0.unsigned_abs() % self.nodes.max(1) == self.rank
    }
}

/// What comes after an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// Nothing: it was taken.
    Delivered,
    /// Another attempt at this steady time.
    Retry(Millis),
    /// Nothing: there are no attempts left, or the destination is gone for good.
    Undelivered,
    /// Nothing: nobody wants it any more. No attempt was made.
    Canceled,
}

/// The end of an attempt.
#[derive(Debug, Clone)]
pub struct Finished {
    /// Of which delivery.
    pub delivery: Leased,
    /// What happened; `None` when it was canceled without an attempt.
    pub attempt: Option<Attempt>,
    /// What comes after it.
    pub next: Next,
    /// Disable the destination, for this reason (410 Gone).
    pub disable: Option<&'static str>,
    /// Whether the destination was known to be failing before, so that a success has something to clear.
    pub was_failing: bool,
    /// Until when (steady time) the destination asked for a pause. A store of several nodes tells the others.
    pub pause: Option<Millis>,
    /// How many of its lane's next may be leased to go together.
    pub batch: usize,
}

/// What the store did with the end of an attempt.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Recorded {
    /// The lease was no longer the caller's: nothing was changed.
    pub stale: bool,
    /// The next of the lane, leased to the caller: one, or as many consecutive ones as may go together.
    pub next_in_lane: Vec<Leased>,
    /// When the next of the lane is due (steady time), where it has to wait for its time.
    pub lane_due: Option<Millis>,
    /// The destination was disabled by this.
    pub disabled: bool,
}

/// What a batch of results is recorded with.
#[derive(Debug, Clone, Copy)]
pub struct Recording {
    /// Steady time.
    pub now: Millis,
    /// Wall time.
    pub wall: Millis,
    /// The lease of the lanes' next deliveries.
    pub lease: Lease,
    /// Whether something waits for it: the next of a lane, or more results. Otherwise it may be written a few
    /// milliseconds later, together with others.
    pub soon: bool,
    /// How long (ms) the next of a lane wait for more to go together with, when there are fewer than may.
    pub gather: Millis,
    /// A destination that has done nothing but fail since before this wall time is disabled.
    pub disable_failing_since: Millis,
}

/// Whose fan-out is written next, and which of its deliveries the caller takes up at once.
#[derive(Debug, Clone, Default)]
pub struct FanoutTurn {
    /// The app whose turn it was before: the next one in the order of their ids comes now.
    pub after: Option<AppId>,
    /// How many deliveries are leased to the caller at most.
    pub fresh: usize,
    /// Apps without room: their deliveries are left to the queue.
    pub full_apps: Vec<AppId>,
    /// Destinations without room. A set, because it can be large and the writer looks each delivery up in it.
    pub full_destinations: HashSet<DestinationNo>,
    /// Events whose deliveries cannot be written: they are passed over.
    pub parked: Vec<EventNo>,
}

impl FanoutTurn {
    /// Whether there is room for a delivery.
    pub(crate) fn has_room(&self, app: &AppId, destination: DestinationNo) -> bool {
        !self.full_apps.contains(app) && !self.full_destinations.contains(&destination)
    }
}

/// What a slice of fan-out did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Expanded {
    /// Whose it was; `None` when there is no fan-out.
    pub app: Option<AppId>,
    /// How many deliveries the slice had.
    pub written: usize,
    /// Deliveries leased to the caller.
    pub leased: Vec<Leased>,
    /// Whether any were left for the queue to find, besides those that were to be skipped.
    pub queued: bool,
    /// Whether there is more to expand.
    pub more: bool,
}

/// A delivery as people see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeliveryRow {
    /// Which.
    pub key: DeliveryKey,
    /// How it stands.
    pub state: DeliveryState,
    /// Attempts made.
    pub attempts: u32,
    /// When the next attempt is due, in steady milliseconds; `None` when one is under way or waits for an older
    /// delivery.
    pub due: Option<Millis>,
    /// When it ended.
    pub closed_at: Option<Millis>,
    /// The event's id.
    pub event_id: String,
    /// The event's name.
    pub event_name: String,
    /// The listener's id.
    pub listener: String,
    /// What the last attempt said, when it failed.
    pub last_error: Option<String>,
}

/// Which deliveries to list, newest event first.
#[derive(Debug, Clone, Default)]
pub struct DeliveryFilter {
    /// Only in this state.
    pub state: Option<DeliveryState>,
    /// Only to this destination.
    pub destination: Option<DestinationNo>,
    /// Only of this event.
    pub event: Option<EventNo>,
    /// Only those before this one: where the page before ended.
    pub before: Option<(EventNo, DestinationNo)>,
    /// At most so many.
    pub limit: usize,
}

/// Which attempts of a delivery to list, oldest first.
#[derive(Debug, Clone, Copy)]
pub struct AttemptRange {
    /// Those after this one: where the page before ended.
    pub after: u32,
    /// At most so many.
    pub limit: usize,
    /// At most so many bytes, but one attempt at least.
    pub bytes: usize,
}

impl AttemptRange {
    /// The first ones, however large.
    pub fn first(limit: usize) -> Self {
        Self { after: 0, limit, bytes: usize::MAX }
    }
}

/// What a retry by hand did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Retried {
    /// It is due now.
    Due,
    /// It was under way already.
    UnderWay,
    /// It waits behind an older delivery of its lane.
    Waiting,
}

/// How much open work there is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Depth {
    /// Open deliveries.
    pub deliveries: u64,
    /// Fan-out rows.
    pub fanouts: u64,
    /// Deliveries that ended undelivered and are still kept.
    pub undelivered: u64,
    /// Bytes that all of it takes.
    pub bytes: u64,
}

/// What a slice of retention did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Retired {
    /// Events that were forgotten, with their ended deliveries and attempts.
    pub events: u64,
    /// When the newest of them was stored.
    pub newest: Option<Millis>,
    /// Whether there may be more to forget.
    pub more: bool,
}

impl Retired {
    /// Notes that an event was forgotten.
    pub(crate) fn forgot(&mut self, no: EventNo) {
        self.events += 1;
        self.newest = self.newest.max(Some(no.millis()));
    }
}

/// Whose due deliveries are not asked for: there is no room for them.
#[derive(Debug, Clone, Default)]
pub struct Skip {
    /// These destinations.
    pub destinations: Vec<DestinationNo>,
    /// All destinations of these apps.
    pub apps: Vec<AppId>,
}

/// Claims, records and lists deliveries.
#[async_trait]
pub trait Queue: Send + Sync {
    /// Takes back the leases of earlier incarnations of this node and puts right what a change of the clock has moved.
    /// Called once, before anything is claimed. Returns how many leases were taken back.
    async fn recover(&self, now: Millis) -> Result<u64, StoreError>;

    /// A lease token that nobody has had.
    fn new_token(&self) -> crate::log::LeaseToken;

    /// Which destinations have work due at `now`, but for those that are to be skipped.
    async fn due(&self, now: Millis, skip: Skip, limit: usize) -> Result<Due, StoreError>;

    /// Leases up to so many due deliveries of each destination, the longest due first. Of an ordered lane only the
    /// oldest open delivery can be had, and with it those right behind it that may go together; they come after it in
    /// the list.
    async fn claim(&self, wanted: Vec<Wanted>, now: Millis, lease: Lease) -> Result<Vec<Leased>, StoreError>;

    /// Records the ends of attempts, in one transaction; answers in the same order.
    async fn finish(&self, batch: Arc<Vec<Finished>>, recording: Recording) -> Result<Vec<Recorded>, StoreError>;

    /// Gives leased deliveries back unattempted, due at `due`.
    async fn release(&self, batch: Vec<Leased>, due: Millis) -> Result<(), StoreError>;

    /// Expands the oldest fan-out row of the app whose turn it is by one slice.
    ///
    /// # Errors
    /// [`StoreError::Fanout`] when it lies in the row, so that others can be expanded if this one is
    /// [parked](FanoutTurn::parked).
    async fn expand(&self, now: Millis, turn: FanoutTurn, lease: Lease) -> Result<Expanded, StoreError>;

    /// Makes due what was leased until before `now` and never finished, and mends the list of destinations with work.
    /// Returns how many leases had run out.
    async fn sweep(&self, now: Millis) -> Result<u64, StoreError>;

    /// Cancels a slice of the pending deliveries of deleted listeners; `true` when there may be more.
    async fn cancel_orphans(&self, wall: Millis) -> Result<bool, StoreError>;

    /// Destinations that have done nothing but fail, and since when (wall time).
    async fn failing(&self) -> Result<Vec<(DestinationNo, Millis)>, StoreError>;

    /// Which of these destinations have done nothing but fail, and since when (wall time).
    async fn failing_of(&self, destinations: Vec<DestinationNo>) -> Result<Vec<(DestinationNo, Millis)>, StoreError>;

    /// A page of deliveries, newest event first.
    async fn deliveries(&self, app: &AppId, filter: DeliveryFilter) -> Result<Vec<DeliveryRow>, StoreError>;

    /// One delivery.
    async fn delivery(&self, key: &DeliveryKey) -> Result<Option<DeliveryRow>, StoreError>;

    /// A page of the attempts of a delivery, oldest first.
    async fn attempts(&self, key: &DeliveryKey, range: AttemptRange) -> Result<Page<Attempt>, StoreError>;

    /// Makes a delivery due now, whatever its state. [`StoreError::Missing`] when there is none.
    async fn retry(&self, key: &DeliveryKey, now: Millis) -> Result<Retried, StoreError>;

    /// Forgets a slice of the events stored before a time, with their ended deliveries and attempts, and of the
    /// idempotency keys used before a time (both wall time). Events with open deliveries are kept.
    async fn retire(&self, events_before: Millis, keys_before: Millis) -> Result<Retired, StoreError>;

    /// Forgets a slice of the oldest events, whatever their age, as long as the store holds more than `most` bytes.
    /// Events with open deliveries are kept.
    async fn retire_above(&self, most: u64) -> Result<Retired, StoreError>;

    /// Forgets a slice of what was deleted or replaced before a time (wall time) and that nothing kept names any more:
    /// the marks of deleted records, the earlier fields of hooks. `true` when there may be more.
    async fn forget_deleted(&self, before: Millis) -> Result<bool, StoreError>;

    /// Gives free space back to the file system, for a few milliseconds; `true` when there is more of it.
    async fn shrink(&self) -> Result<bool, StoreError>;

    /// How much open work there is. Never counts: the numbers are kept.
    async fn depth(&self) -> Result<Depth, StoreError>;
}
