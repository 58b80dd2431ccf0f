//! One slice of a fan-out row: which deliveries it writes, and which of them are leased to the caller.

use tidings_model::clock::Millis;
use tidings_model::id::{AppId, DeliveryKey, DestinationNo, EventNo};

use super::placement::{NewDelivery, Placement};
use crate::destinations;
use crate::error::StoreError;
use crate::log::{Lane, Lease};
use crate::queue::{Expanded, FanoutTurn, Leased};

/// A row that stands for the deliveries of an event with many destinations.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct FanoutRow {
    pub(crate) event: EventNo,
    pub(crate) app: AppId,
    /// The event's ordering key.
    pub(crate) key: Option<String>,
    pub(crate) not_before: Option<Millis>,
    /// How many of its deliveries are written already.
    pub(crate) cursor: usize,
    /// All destinations, encoded.
    pub(crate) destinations: Vec<u8>,
}

/// The app ids after which to search for the next app with a fan-out row, in the order of the search. The turn goes
/// round the apps, so that an app with much to write delays no other.
pub(crate) fn starting_points(turn: &FanoutTurn) -> impl Iterator<Item = &str> {
    let after = turn.after.as_ref().map_or("", AppId::as_str);
    std::iter::once(after).chain((!after.is_empty()).then_some(""))
}

/// The next slice of a row's deliveries.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Slice {
    pub(crate) part: Vec<(DestinationNo, Lane)>,
    /// The cursor of the slice after it; `None` if this is the last.
    pub(crate) next: Option<usize>,
}

impl Slice {
    /// The next slice of a row, of at most `most` deliveries.
    pub(crate) fn of(row: &FanoutRow, most: usize) -> Result<Self, StoreError> {
        let mut part = destinations::decode(&row.destinations)?;
        // With a cursor beyond the end the slice is empty, and the row is deleted.
        let from = row.cursor.min(part.len());
        let to = from.saturating_add(most).min(part.len());
        let next = (to < part.len()).then_some(to);
        part.truncate(to);
        part.drain(..from);
        Ok(Self { part, next })
    }
}

/// The state of writing a slice.
#[derive(Debug)]
pub(crate) struct Expansion<'a> {
    row: &'a FanoutRow,
    turn: &'a FanoutTurn,
    /// The caller's lease.
    lease: Lease,
    expanded: Expanded,
}

impl<'a> Expansion<'a> {
    pub(crate) fn new(row: &'a FanoutRow, turn: &'a FanoutTurn, lease: Lease, slice: &Slice) -> Self {
        let expanded = Expanded { app: Some(row.app.clone()), written: slice.part.len(), ..Expanded::default() };
        Self { row, turn, lease, expanded }
    }

    /// How many of the next deliveries can be written in one statement. Each may use one of the leases that are left;
    /// those that wait in their lanes use none. So the placements have to be known before more can be leased.
    pub(crate) fn run(&self, left: usize) -> usize {
        match self.fresh_left() {
            0 => left,
            fresh => fresh.min(left),
        }
    }

    /// The next delivery. It is to be leased if the caller has room for it.
    pub(crate) fn delivery(&self, (destination, lane): (DestinationNo, Lane), now: Millis) -> NewDelivery<'a> {
        let is_fresh = self.fresh_left() > 0 && self.turn.has_room(&self.row.app, destination);
        NewDelivery {
            app: &self.row.app,
            event: self.row.event,
            destination,
            lane: lane.name(self.row.key.as_deref()),
            not_before: self.row.not_before,
            lease: is_fresh.then_some(self.lease),
            now,
        }
    }

    /// Records where a delivery was placed.
    pub(crate) fn placed(&mut self, (destination, lane): (DestinationNo, Lane), placement: Placement) {
        match placement {
            Placement::Leased(_) => self.expanded.leased.push(Leased {
                key: DeliveryKey { app: self.row.app.clone(), event: self.row.event, destination },
                attempts: 0,
                forgiven: 0,
                ordered: lane != Lane::Own,
                follows: false,
                in_batch: false,
                lease: self.lease,
            }),
            // A delivery without room does not count as queued: its destination is claimed for when it has room.
            Placement::Scheduled(_) => self.expanded.queued |= self.turn.has_room(&self.row.app, destination),
            Placement::Waiting => {}
        }
    }

    /// The result, after the slice is written. `more`: something is left to expand.
    pub(crate) fn end(self, more: bool) -> Expanded {
        Expanded { more, ..self.expanded }
    }

    fn fresh_left(&self) -> usize {
        self.turn.fresh.saturating_sub(self.expanded.leased.len())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::log::LeaseToken;

    const LEASE: Lease = Lease { token: LeaseToken(7), until: 30_100 };

    fn row(set: &[(DestinationNo, Lane)], cursor: usize, not_before: Option<Millis>) -> FanoutRow {
        let destinations = destinations::encode(set.iter().copied());
        FanoutRow { event: EventNo(5), app: AppId::from("1"), key: None, not_before, cursor, destinations }
    }

    fn set() -> impl Strategy<Value = Vec<(DestinationNo, Lane)>> {
        let lane = prop_oneof![Just(Lane::Own), Just(Lane::Whole)];
        prop::collection::btree_map(1i64..60, lane, 0..30)
            .prop_map(|all| all.into_iter().map(|(no, lane)| (DestinationNo(no), lane)).collect())
    }

    /// Writes a slice in runs as long as they may be, but `longest`. Deliveries in lanes for which `is_behind` holds
    /// wait.
    fn expand(
        row: &FanoutRow,
        turn: &FanoutTurn,
        longest: usize,
        is_behind: impl Fn(DestinationNo) -> bool,
    ) -> Expanded {
        let slice = Slice::of(row, usize::MAX).unwrap();
        let mut expansion = Expansion::new(row, turn, LEASE, &slice);
        let mut part = &slice.part[..];
        while !part.is_empty() {
            let (run, rest) = part.split_at(expansion.run(part.len()).min(longest));
            let new: Vec<NewDelivery<'_>> = run.iter().map(|one| expansion.delivery(*one, 100)).collect();
            for (one, new) in run.iter().zip(new) {
                expansion.placed(*one, new.place(one.1 != Lane::Own && is_behind(one.0)));
            }
            part = rest;
        }
        expansion.end(false)
    }

    #[test]
    fn turns_go_round() {
        let points = |after: Option<&str>| {
            let turn = FanoutTurn { after: after.map(AppId::from), ..FanoutTurn::default() };
            starting_points(&turn).map(str::to_owned).collect::<Vec<_>>()
        };
        assert_eq!(points(None), [""]);
        assert_eq!(points(Some("b")), ["b", ""]);
    }

    #[test]
    fn a_set_that_is_none_is_an_error() {
        let row = FanoutRow { destinations: vec![0x80], ..row(&[], 0, None) };
        assert!(matches!(Slice::of(&row, 9), Err(StoreError::Corrupt(_))));
    }

    proptest! {
        #[test]
        fn slices_have_each_destination_once_and_in_order(set in set(), most in 1usize..9) {
            let (mut row, mut all) = (row(&set, 0, None), Vec::new());
            loop {
                let slice = Slice::of(&row, most).unwrap();
                prop_assert!(slice.part.len() <= most);
                all.extend(slice.part);
                let Some(next) = slice.next else { break };
                prop_assert!(next > row.cursor);
                row.cursor = next;
            }
            prop_assert_eq!(all, set);
        }

        #[test]
        fn a_cursor_beyond_the_end_ends_the_row(set in set(), beyond in 0usize..9, most in 1usize..9) {
            let slice = Slice::of(&row(&set, set.len() + beyond, None), most).unwrap();
            prop_assert_eq!(slice, Slice { part: Vec::new(), next: None });
        }

        /// SQLite writes one after the other, PostgreSQL as many as it may in one statement.
        #[test]
        fn it_makes_no_difference_how_many_are_written_at_once(
            set in set(), fresh in 0usize..9, full in prop::collection::hash_set(1i64..60, 0..30), behind: u64,
            longest in 1usize..9,
        ) {
            let full_destinations = full.into_iter().map(DestinationNo).collect();
            let turn = FanoutTurn { fresh, full_destinations, ..FanoutTurn::default() };
            let is_behind = |no: DestinationNo| behind >> no.0 & 1 == 1;
            let row = row(&set, 0, None);
            let expanded = expand(&row, &turn, usize::MAX, is_behind);
            prop_assert_eq!(&expand(&row, &turn, longest, is_behind), &expanded);
            prop_assert_eq!((expanded.written, expanded.app), (set.len(), Some(row.app.clone())));
            // The first that can go and that there is room for are leased; others that there is room for are queued.
            let can_go: Vec<_> = set.iter().filter(|(no, lane)| {
                turn.has_room(&row.app, *no) && !(*lane != Lane::Own && is_behind(*no))
            }).collect();
            let leased: Vec<_> =
                expanded.leased.iter().map(|leased| (leased.key.destination, leased.ordered)).collect();
            let expected: Vec<_> = can_go.iter().take(fresh).map(|(no, lane)| (*no, *lane != Lane::Own)).collect();
            prop_assert_eq!(leased, expected);
            prop_assert_eq!(expanded.queued, can_go.len() > fresh);
        }

        #[test]
        fn what_is_early_is_left_to_the_queue(set in set(), fresh in 0usize..9) {
            let turn = FanoutTurn { fresh, ..FanoutTurn::default() };
            let expanded = expand(&row(&set, 0, Some(101)), &turn, usize::MAX, |_| false);
            prop_assert_eq!((expanded.leased, expanded.queued), (Vec::new(), !set.is_empty()));
        }
    }

    #[test]
    fn a_full_app_gets_none() {
        let turn = FanoutTurn { fresh: 9, full_apps: vec![AppId::from("1")], ..FanoutTurn::default() };
        let expanded = expand(&row(&[(DestinationNo(1), Lane::Own)], 0, None), &turn, 9, |_| false);
        assert_eq!((expanded.written, expanded.leased, expanded.queued), (1, Vec::new(), false));
    }
}
