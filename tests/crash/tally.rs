//! Counts the deliveries that a receiver's script accepted, to compare them with the publisher's list.

use std::collections::HashMap;

use tidings_testkit::Received;

use crate::common::number;

/// The deliveries of one listener, in order.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    /// The numbers of the events that were accepted (answered with success), in order.
    pub(crate) taken: Vec<u64>,
    /// The ids that each number came with.
    ids: HashMap<u64, String>,
}

impl Tally {
    /// Counts those of the requests that `takes` accepted. Asserts that a number has the same id every time.
    pub(crate) fn of<'r>(requests: impl Iterator<Item = &'r Received>, takes: impl Fn(&Received) -> bool) -> Self {
        let mut tally = Self::default();
        for request in requests {
            let n = number(request);
            let id = request.header("webhook-id").unwrap_or_default().to_owned();
            let first = tally.ids.entry(n).or_insert_with(|| id.clone());
            assert_eq!(*first, id, "event {n} came with two ids");
            if takes(request) {
                tally.taken.push(n);
            }
        }
        tally
    }

    /// The id that an event came with, if it came.
    pub(crate) fn id(&self, n: u64) -> Option<&str> {
        self.ids.get(&n).map(String::as_str)
    }

    /// How many accepted deliveries were repeats.
    pub(crate) fn repeated(&self) -> usize {
        self.taken.len() - self.distinct()
    }

    /// How many different events were accepted.
    pub(crate) fn distinct(&self) -> usize {
        self.first_ones().len()
    }

    /// The events in the order in which each was first accepted.
    pub(crate) fn first_ones(&self) -> Vec<u64> {
        let mut seen = std::collections::HashSet::new();
        self.taken.iter().copied().filter(|n| seen.insert(*n)).collect()
    }

    /// Those of `wanted` that were never accepted.
    pub(crate) fn lost(&self, wanted: impl Iterator<Item = u64>) -> Vec<u64> {
        let taken: std::collections::HashSet<u64> = self.taken.iter().copied().collect();
        wanted.filter(|n| !taken.contains(n)).collect()
    }

    /// Asserts that each repeat came directly after its first: in a lane, only the delivery that was in flight at a
    /// crash is repeated.
    #[track_caller]
    pub(crate) fn assert_repeats_follow(&self, what: &str) {
        let mut seen = std::collections::HashSet::new();
        let mut last = None;
        for (place, n) in self.taken.iter().enumerate() {
            assert!(
                seen.insert(*n) || last == Some(n),
                "{what}: event {n} came again out of its place: … {:?}",
                &self.taken[place.saturating_sub(10)..=place]
            );
            last = Some(n);
        }
    }
}
