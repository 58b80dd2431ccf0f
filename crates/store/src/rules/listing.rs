//! Lists of deliveries: those with rows of their own, those in leased batches, and the closed ones, merged into one
//! page.

use std::cmp::Reverse;

use tidings_model::delivery::DeliveryState;
use tidings_model::id::{AppId, DeliveryKey, DestinationNo, EventNo};

use crate::queue::{DeliveryFilter, DeliveryRow};

/// Whether a page can have open deliveries.
pub(crate) fn has_open(filter: &DeliveryFilter) -> bool {
    filter.state.is_none_or(|state| state == DeliveryState::Pending)
}

/// Whether a page can have closed deliveries.
pub(crate) fn has_ended(filter: &DeliveryFilter) -> bool {
    filter.state != Some(DeliveryState::Pending)
}

/// Where a page begins: all its deliveries are before this one.
pub(crate) fn before(filter: &DeliveryFilter) -> (EventNo, DestinationNo) {
    filter.before.unwrap_or((EventNo(i64::MAX), DestinationNo(i64::MAX)))
}

/// Merges the pages of the three kinds into one.
pub(crate) fn merge(mut all: Vec<DeliveryRow>, limit: usize) -> Vec<DeliveryRow> {
    all.sort_by_key(|row| Reverse((row.key.event, row.key.destination)));
    all.truncate(limit);
    all
}

/// A page of the deliveries in leased batches, filled from the newest event on.
#[derive(Debug)]
pub(crate) struct BatchPage<'a> {
    app: &'a AppId,
    filter: &'a DeliveryFilter,
    rows: Vec<DeliveryRow>,
}

impl<'a> BatchPage<'a> {
    /// An empty page of an app's deliveries.
    pub(crate) fn new(app: &'a AppId, filter: &'a DeliveryFilter) -> Self {
        Self { app, filter, rows: Vec::new() }
    }

    /// The oldest and the newest event whose batches can be on it.
    pub(crate) fn events(&self) -> (EventNo, EventNo) {
        let (before, _) = before(self.filter);
        match self.filter.event {
            Some(event) => (event, event.min(before)),
            None => (EventNo(i64::MIN), before),
        }
    }

    /// The most batches that have to be read.
    pub(crate) fn batches(&self) -> usize {
        // Unless the filter has a destination, each batch has at least one delivery on the page. One more is read,
        // since the page before may have ended within the first batch.
        if self.filter.destination.is_some() { usize::MAX } else { self.filter.limit.saturating_add(1) }
    }

    /// Adds the deliveries of an event's batch that belong on the page. The caller fills in their listeners' ids.
    pub(crate) fn add(&mut self, event: EventNo, id: &str, name: &str, batch: &[DestinationNo]) {
        let is_wanted = |destination: &DestinationNo| {
            self.filter.destination.is_none_or(|only| only == *destination)
                && (event, *destination) < before(self.filter)
        };
        let room = self.filter.limit - self.rows.len();
        let row = |destination: &DestinationNo| DeliveryRow {
            key: DeliveryKey { app: self.app.clone(), event, destination: *destination },
            state: DeliveryState::Pending,
            // A delivery leaves its batch after its first attempt. Until then it is leased, so it has no due time.
            attempts: 0,
            due: None,
            closed_at: None,
            event_id: id.to_owned(),
            event_name: name.to_owned(),
            listener: String::new(),
            last_error: None,
        };
        let more: Vec<DeliveryRow> = batch.iter().rev().filter(|no| is_wanted(no)).take(room).map(row).collect();
        self.rows.extend(more);
    }

    /// Whether the page is full.
    pub(crate) fn is_full(&self) -> bool {
        self.rows.len() == self.filter.limit
    }

    /// The deliveries of the page.
    pub(crate) fn rows(self) -> Vec<DeliveryRow> {
        self.rows
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use proptest::prelude::*;

    use super::*;

    type Batches = BTreeMap<i64, BTreeSet<i64>>;

    fn page(all: &Batches, filter: &DeliveryFilter) -> Vec<(i64, i64)> {
        let app = AppId::from("1");
        let mut page = BatchPage::new(&app, filter);
        let (oldest, newest) = page.events();
        let events = all.iter().rev().filter(|(event, _)| (oldest.0..=newest.0).contains(event));
        for (event, batch) in events.take(page.batches()) {
            let batch: Vec<DestinationNo> = batch.iter().map(|no| DestinationNo(*no)).collect();
            page.add(EventNo(*event), "id", "name", &batch);
            if page.is_full() {
                break;
            }
        }
        page.rows().into_iter().map(|row| (row.key.event.0, row.key.destination.0)).collect()
    }

    #[test]
    fn a_state_says_which_tables_are_read() {
        let of = |state| {
            let filter = DeliveryFilter { state, ..DeliveryFilter::default() };
            (has_open(&filter), has_ended(&filter))
        };
        assert_eq!(of(None), (true, true));
        assert_eq!(of(Some(DeliveryState::Pending)), (true, false));
        assert_eq!(of(Some(DeliveryState::Canceled)), (false, true));
    }

    proptest! {
        #[test]
        fn pages_have_each_delivery_once(
            all in prop::collection::btree_map(0i64..9, prop::collection::btree_set(0i64..9, 1..6), 0..9),
            destination in prop::option::of(0i64..9), event in prop::option::of(0i64..9), limit in 1usize..5,
        ) {
            let expected: Vec<_> = all.iter().rev()
                .flat_map(|(event, batch)| batch.iter().rev().map(|no| (*event, *no)))
                .filter(|(of, no)| event.is_none_or(|only| only == *of) && destination.is_none_or(|only| only == *no))
                .collect();
            let mut filter = DeliveryFilter {
                destination: destination.map(DestinationNo), event: event.map(EventNo), limit,
                ..DeliveryFilter::default()
            };
            let mut found = Vec::new();
            loop {
                let page = page(&all, &filter);
                prop_assert!(page.len() <= limit);
                let Some(&(event, no)) = page.last() else { break };
                filter.before = Some((EventNo(event), DestinationNo(no)));
                found.extend(page);
            }
            prop_assert_eq!(found, expected);
        }
    }
}
