//! The presence journal: whether each channel is occupied and each user in it, as last announced. It announces each
//! change once, whichever node reports it and whatever crashes.
//!
//! A change is recorded before its event is published, and marked as announced afterwards. A node that dies in between
//! leaves a record that is not announced; the node that finds it publishes the event under the same id, which the log
//! accepts once.

use async_trait::async_trait;
use tidings_model::clock::Millis;
use tidings_model::id::AppId;

use crate::error::StoreError;

/// What can be present: a channel (occupied or not), or a user in it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PresenceKey {
    /// The channel's app.
    pub app: AppId,
    /// The channel.
    pub channel: String,
    /// The user; `None` for the channel itself.
    pub user: Option<String>,
}

/// A channel became occupied or vacated, or a user joined or left it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PresenceChange {
    /// What changed.
    pub key: PresenceKey,
    /// Whether it is present now.
    pub present: bool,
    /// The change's sequence number. It grows with each change of the key: a number that is not above the last known
    /// one is old.
    pub number: i64,
    /// The id of the event that announces it.
    pub event: String,
    /// Suppresses an arrival that would be announced: it is recorded as an announced departure. So neither the arrival
    /// nor the departure after it is announced.
    pub suppress: bool,
    /// For how long after a departure an arrival reverts it, in milliseconds.
    pub window: Millis,
    /// The current steady time.
    pub now: Millis,
    /// The current wall time.
    pub wall: Millis,
}

/// What the journal did with a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Applied {
    /// It is recorded; the caller publishes its event, then calls [`PresenceJournal::mark_announced`].
    Announce,
    /// It is known, or older than the last known change. There is nothing to announce.
    Known,
    /// It is new, and was recorded as [`PresenceChange::suppress`] says.
    Suppressed,
    /// It reverted a departure whose deliveries were all still pending: they are canceled, and nothing is announced.
    Reverted,
}

/// The last known state of a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PresenceRecord {
    /// The channel, or the user in it.
    pub key: PresenceKey,
    /// Whether it is present.
    pub present: bool,
    /// The number of its last change.
    pub number: i64,
    /// The id of the event that announces that change.
    pub event: String,
    /// Whether that event has been published.
    pub announced: bool,
    /// When it changed (wall time).
    pub since: Millis,
}

/// Keeps the last announced presence of channels and their members.
#[async_trait]
pub trait PresenceJournal: Send + Sync {
    /// Records a change. Concurrent changes of one key are applied one after the other.
    async fn apply_change(&self, change: PresenceChange) -> Result<Applied, StoreError>;

    /// Marks the change of this number as announced.
    async fn mark_announced(&self, key: &PresenceKey, number: i64) -> Result<(), StoreError>;

    /// A page of the records that are present or not announced, in the order of their keys.
    async fn presence_records(
        &self,
        after: Option<PresenceKey>,
        limit: usize,
    ) -> Result<Vec<PresenceRecord>, StoreError>;

    /// The highest number of any change; 0 if there is none.
    async fn last_presence_number(&self) -> Result<i64, StoreError>;

    /// Deletes a slice of the records that are absent and announced, and changed before a wall time. Returns `true` if
    /// there may be more.
    async fn forget_absent(&self, before: Millis) -> Result<bool, StoreError>;
}

/// How many records one call of [`PresenceJournal::forget_absent`] deletes at most.
pub(crate) const SLICE: usize = 500;
