//! How far the end of a shard has come.

use std::time::Duration;

use tidings_model::clock::Stopwatch;

use crate::protocol::CloseReason;

/// The end of all sessions, spread over time: their clients come back elsewhere, and not all at once.
#[derive(Debug)]
pub(super) struct Stopping {
    /// How long it may take is about real time, whatever clock sessions live by.
    pub(super) since: Stopwatch,
    pub(super) grace: Duration,
    /// Over how long sessions are told.
    pub(super) spread: Duration,
    pub(super) why: CloseReason,
    /// Sessions that were there, and how many of them were told.
    pub(super) all: usize,
    pub(super) told: usize,
    /// The slot that is looked at next.
    pub(super) next: usize,
}
