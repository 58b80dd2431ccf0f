//! What the dispatcher decides shares by: the turns in use, and who has answered before.

use std::collections::HashSet;

use tidings_model::id::DestinationNo;

use crate::health::DestinationHealth;

/// How many destinations are remembered as having answered, in each of two generations.
const REMEMBERED: usize = 65_536;

/// How many times of what is free an app may use, of the turns and of the memory: one alone gets three quarters, and a
/// newcomer finds room.
pub(crate) const TIMES_FREE: usize = 3;

/// Turns in use.
#[derive(Default, Clone, Copy)]
pub(crate) struct Usage {
    pub(crate) all: usize,
    /// By destinations that have never answered, or did not the last time.
    pub(crate) unproven: usize,
    /// By the latter.
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

/// Destinations that have answered: the latest ones, which outlast their queues.
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
