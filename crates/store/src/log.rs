//! The event log, and the publish transaction that writes events with their deliveries.

use std::ops::Range;

use async_trait::async_trait;
use tidings_model::clock::Millis;
use tidings_model::event::Event;
use tidings_model::id::{AppId, DestinationNo, EventNo};

use crate::error::StoreError;
use crate::page::Page;

/// The most deliveries that the publish transaction itself writes. An event with more gets a fan-out row, which is
/// expanded afterwards. So a publish to ten thousand listeners answers as fast as one to a single listener.
pub const MAX_DIRECT: usize = 64;

/// The fencing token of a lease. A result is accepted only with the delivery's current token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct LeaseToken(pub i64);

/// The right to attempt a delivery until a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lease {
    /// The fencing token.
    pub token: LeaseToken,
    /// When it ends, in steady milliseconds.
    pub until: Millis,
}

/// How a destination orders its deliveries of an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lane {
    /// No order: each delivery by itself.
    Own,
    /// One lane for all deliveries of the destination: one after the other.
    Whole,
    /// One lane for each ordering key: deliveries with the same key go one after the other.
    Key,
}

impl Lane {
    /// The name of the lane of a delivery whose event has `key`; `None` if it is in no lane.
    pub(crate) fn name(self, key: Option<&str>) -> Option<&str> {
        match self {
            Self::Own => None,
            Self::Whole => Some(""),
            Self::Key => Some(key.unwrap_or("")),
        }
    }
}

/// A destination of an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Destination {
    /// The destination's number.
    pub no: DestinationNo,
    /// How its deliveries are ordered.
    pub lane: Lane,
    /// Whether this node attempts it at once. Then it is written with a lease, and need not be read back.
    pub fresh: bool,
}

/// An idempotency key, and the request that it was used for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Idempotency {
    /// The caller's key.
    pub key: String,
    /// A digest of the request that it came with.
    pub digest: [u8; 32],
    /// Keys stored before this time have expired.
    pub forget_before: Millis,
}

/// One publish to write.
#[derive(Debug, Clone)]
pub struct Publish {
    /// The event.
    pub event: Event,
    /// The version of the event's hook, if its name is in the catalogue.
    pub hook_version: Option<i64>,
    /// Its destinations, each once, in ascending order of their numbers.
    pub destinations: Vec<Destination>,
    /// No delivery is attempted before this steady time.
    pub not_before: Option<Millis>,
    /// The catalogue version that `destinations` was computed from.
    pub catalogue_version: i64,
    /// The caller's idempotency key.
    pub idempotency: Option<Idempotency>,
    /// The lease of the destinations that are `fresh`.
    pub lease: Lease,
    /// The current steady time; it decides when deliveries are due.
    pub now: Millis,
    /// The current wall time; it is recorded as the time at which the event was stored.
    pub received_at: Millis,
}

/// The outcome of a publish.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Published {
    /// The event is on disk.
    Stored {
        /// The event's number in the log.
        no: EventNo,
        /// The destinations whose deliveries are leased to the caller, who now has to attempt them.
        leased: Vec<DestinationNo>,
        /// Whether the store has more of its deliveries: unleased ones that are due, or a fan-out row.
        queued: bool,
    },
    /// The same event id, or the same idempotency key with the same request, was published before.
    Repeated {
        /// The event id of the first publish.
        id: String,
        /// How many deliveries the first publish made.
        deliveries: u64,
    },
    /// The event id was used for another event.
    IdTaken,
    /// The idempotency key was used for another request.
    KeyTaken,
    /// The app's hooks or listeners have changed: match the event again.
    StaleCatalogue,
}

/// An event in the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Logged {
    /// The event's number in the log.
    pub no: EventNo,
    /// The event.
    pub event: Event,
    /// The version of its hook when it was published.
    pub hook_version: Option<i64>,
    /// When it was stored (wall time).
    pub received_at: Millis,
    /// How many deliveries it made.
    pub deliveries: u64,
}

/// Which events to list, newest first. `name` and `channel` exclude each other.
#[derive(Debug, Clone, Default)]
pub struct EventFilter {
    /// Only events of this name.
    pub name: Option<String>,
    /// Only events to this channel.
    pub channel: Option<String>,
    /// Only events stored at or after this time.
    pub since: Option<Millis>,
    /// Only events stored before this time.
    pub until: Option<Millis>,
    /// Only events older than this one: the last event of the page before.
    pub before: Option<EventNo>,
    /// The most events of a page.
    pub limit: usize,
    /// The most bytes of a page; it has one event at least.
    pub bytes: Option<usize>,
}

impl EventFilter {
    /// The numbers of the events that can be on the page.
    pub(crate) fn range(&self) -> Range<EventNo> {
        let start = self.since.map_or(EventNo(0), EventNo::first_of);
        let end = self.until.map_or(EventNo(i64::MAX), EventNo::first_of);
        start..self.before.map_or(end, |no| no.min(end))
    }
}

/// Writes and reads the event log.
#[async_trait]
pub trait Log: Send + Sync {
    /// Writes an event with its deliveries, or finds that it was written before. Returns after the sync.
    /// Publishes that share a transaction succeed or fail each alone.
    async fn publish(&self, publish: Publish) -> Result<Published, StoreError>;

    /// One event by its id.
    async fn event(&self, app: &AppId, id: &str) -> Result<Option<Logged>, StoreError>;

    /// A page of the log, newest first.
    async fn events(&self, app: &AppId, filter: EventFilter) -> Result<Page<Logged>, StoreError>;

    /// Events by their numbers, in any order. Deleted events are left out.
    async fn events_at(&self, places: Vec<EventNo>) -> Result<Vec<Logged>, StoreError>;
}
