//! How many rows one transaction handles.

use super::{fanout, upkeep};
use crate::log::MAX_DIRECT;

/// Upper bounds per transaction; tests lower them to reach every branch with few rows.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sizes {
    /// Destinations up to which a publish writes its deliveries itself.
    pub(super) direct: usize,
    /// Deliveries of one slice of fan-out.
    pub(super) fanout: usize,
    /// Open deliveries that one read of a sweep looks at.
    pub(super) sweep: usize,
}

impl Default for Sizes {
    fn default() -> Self {
        Self { direct: MAX_DIRECT, fanout: fanout::SLICE, sweep: upkeep::SWEEP_SLICE }
    }
}
