//! The log: events that something durable wants, and the publish transaction that writes them.

use std::ops::Range;

use async_trait::async_trait;
use tidings_model::clock::Millis;
use tidings_model::event::Event;
use tidings_model::id::{AppId, DestinationNo, EventNo};

use crate::error::StoreError;
use crate::page::Page;

/// Up to so many deliveries are written in the publish transaction itself; more become a fan-out row that is expanded
/// afterwards, so that a publish to ten thousand listeners answers as fast as one to a single one.
pub const MAX_DIRECT: usize = 64;

/// The fencing token of a lease: a result is taken only from whoever holds the delivery's present one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct LeaseToken(pub i64);

/// The right to make a delivery's attempt, until a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lease {
    /// Proves it.
    pub token: LeaseToken,
    /// When it ends, in steady milliseconds.
    pub until: Millis,
}

/// How a destination orders its deliveries of an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lane {
    /// Each delivery by itself.
    Own,
    /// All of the destination's, one after the other.
    Whole,
    /// Those with the event's key, one after the other.
    Key,
}

impl Lane {
    /// The lane of a delivery of an event with `key`; `None` when it stands alone.
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
    /// Who.
    pub no: DestinationNo,
    /// In which order.
    pub lane: Lane,
    /// Whether this node takes it up at once: then it is written already leased and need not be read back.
    pub fresh: bool,
}

/// An idempotency key and what it was used for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Idempotency {
    /// The caller's key.
    pub key: String,
    /// A digest of the request it came with.
    pub digest: [u8; 32],
    /// Keys stored before this time count as forgotten.
    pub forget_before: Millis,
}

/// One publish to be written.
#[derive(Debug, Clone)]
pub struct Publish {
    /// What happened.
    pub event: Event,
    /// The version of the event's hook, when its name is in the catalogue.
    pub hook_version: Option<i64>,
    /// Its destinations, each once, in ascending order of their numbers.
    pub destinations: Vec<Destination>,
    /// Nothing is attempted before this time.
    pub not_before: Option<Millis>,
    /// The catalogue version that `destinations` was computed from.
    pub catalogue_version: i64,
    /// The caller's idempotency key.
    pub idempotency: Option<Idempotency>,
    /// The lease of the destinations that are `fresh`.
    pub lease: Lease,
    /// Steady time, for when deliveries are due.
    pub now: Millis,
    /// Wall time, for when the event was stored.
    pub received_at: Millis,
}

/// What became of a publish.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Published {
    /// It is on disk.
    Stored {
        /// Its place in the log.
        no: EventNo,
        /// The destinations whose deliveries are leased to the caller, who now has to attempt them.
        leased: Vec<DestinationNo>,
        /// Whether anything was left for the queue to find (unleased deliveries, or a fan-out row).
        queued: bool,
    },
    /// The same event id, or the same idempotency key with the same request, was published before.
    Repeated {
        /// The first one's event id.
        id: String,
        /// How many deliveries the first one made.
        deliveries: u64,
    },
    /// The event id was used for another event.
    IdTaken,
    /// The idempotency key was used for another request.
    KeyTaken,
    /// The catalogue has moved on: match again.
    StaleCatalogue,
}

/// An event in the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Logged {
    /// Its place in the log.
    pub no: EventNo,
    /// What happened.
    pub event: Event,
    /// The version of its hook at the time.
    pub hook_version: Option<i64>,
    /// When it was stored.
    pub received_at: Millis,
    /// How many deliveries it made.
    pub deliveries: u64,
}

/// Which events to list, newest first. `name` and `channel` exclude each other.
#[derive(Debug, Clone, Default)]
pub struct EventFilter {
    /// Only of this name.
    pub name: Option<String>,
    /// Only to this channel.
    pub channel: Option<String>,
    /// Only those stored at or after this time.
    pub since: Option<Millis>,
    /// Only those stored before this time.
    pub until: Option<Millis>,
    /// Only those older than this one: where the page before ended.
    pub before: Option<EventNo>,
    /// At most so many.
    pub limit: usize,
    /// At most so many bytes, but one event at least.
    pub bytes: Option<usize>,
}

impl EventFilter {
    /// The places of the log that can be on the page.
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
    /// Each publish of a group that shares a transaction succeeds or fails alone.
    async fn publish(&self, publish: Publish) -> Result<Published, StoreError>;

    /// One event by its id.
    async fn event(&self, app: &AppId, id: &str) -> Result<Option<Logged>, StoreError>;

    /// A page of the log, newest first.
    async fn events(&self, app: &AppId, filter: EventFilter) -> Result<Page<Logged>, StoreError>;

    /// Events by their places, in any order; those that are gone are left out.
    async fn events_at(&self, places: Vec<EventNo>) -> Result<Vec<Logged>, StoreError>;
}
