//! The progress of a shard's stop.

use std::time::Duration;

use tidings_model::clock::Stopwatch;

use crate::protocol::CloseReason;

/// The closing of all sessions, spread over time, so that their clients do not reconnect elsewhere all at once.
#[derive(Debug)]
pub(super) struct Stopping {
    /// Measures real time, whatever clock the sessions use: the grace period is one of real time.
    pub(super) since: Stopwatch,
    pub(super) grace: Duration,
    /// The time over which sessions are closed.
    pub(super) spread: Duration,
    pub(super) why: CloseReason,
    /// Sessions that were open at the start, and how many of them have been closed.
    pub(super) total: usize,
    pub(super) closed: usize,
    /// The next slot to look at.
    pub(super) next: usize,
}
