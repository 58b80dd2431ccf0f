//! What the dispatcher's shares are computed from: the permits in use, and the destinations that have answered before.

use std::collections::HashSet;

use tidings_model::id::DestinationNo;

use crate::health::DestinationHealth;

/// How many destinations are remembered as having answered, in each of two generations.
const REMEMBERED: usize = 65_536;

/// An app may use this many times as much as is free, of the permits and of the memory. So an app alone gets three
/// quarters, and an app that has just begun finds room.
pub(crate) const TIMES_FREE: usize = 3;

/// Permits in use.
#[derive(Default, Clone, Copy)]
pub(crate) struct Usage {
    pub(crate) all: usize,
    /// Permits of destinations that are untried or failing.
    pub(crate) unproven: usize,
    /// Permits of destinations that are failing.
    pub(crate) failing: usize,
}

impl Usage {
    pub(crate) fn count(&mut self, health: DestinationHealth, change: impl Fn(&mut usize)) {
        change(&mut self.all);
        if health != DestinationHealth::Healthy {
            change(&mut self.unproven);
        }
        if health == DestinationHealth::Failing {
            change(&mut self.failing);
        }
    }
}

/// The latest destinations that have answered. Kept apart from their queues, which are dropped when idle.
#[derive(Default)]
pub(crate) struct Answered {
    new: HashSet<DestinationNo>,
    old: HashSet<DestinationNo>,
}

impl Answered {
    pub(crate) fn has(&self, destination: DestinationNo) -> bool {
        self.new.contains(&destination) || self.old.contains(&destination)
    }

    pub(crate) fn add(&mut self, destination: DestinationNo) {
        if self.new.len() >= REMEMBERED {
            self.old = std::mem::take(&mut self.new);
        }
        self.new.insert(destination);
    }
}
