//! How many rows one transaction handles at most.

use super::{fanout, upkeep};
use crate::log::MAX_DIRECT;

/// Upper bounds per transaction; tests lower them to reach every branch with few rows.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sizes {
    /// The most destinations whose deliveries the publish transaction itself writes.
    pub(super) direct: usize,
    /// Deliveries in one slice of a fan-out row.
    pub(super) fanout: usize,
    /// Open deliveries that one read of a sweep covers.
    pub(super) sweep: usize,
}

impl Default for Sizes {
    fn default() -> Self {
        Self { direct: MAX_DIRECT, fanout: fanout::SLICE, sweep: upkeep::SWEEP_SLICE }
    }
}
