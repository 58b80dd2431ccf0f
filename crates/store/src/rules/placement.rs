//! Where an open delivery is placed: leased, scheduled, or waiting behind an older one of its lane.

use tidings_model::clock::Millis;
use tidings_model::id::{AppId, DestinationNo, EventNo};

use crate::log::{Destination, Lane, Lease, Publish};
use crate::queue::Retried;

/// The placement of an open delivery.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Placement {
    /// The holder of the lease attempts it.
    Leased(Lease),
    /// It is due at this time.
    Scheduled(Millis),
    /// It waits behind an older one of its lane, without lease and time. When the older one ends, the lane advances.
    Waiting,
}

impl Placement {
    /// When it is due, if it is scheduled.
    pub(crate) fn due(self) -> Option<Millis> {
        if let Self::Scheduled(due) = self { Some(due) } else { None }
    }

    /// Its lease, if it is leased.
    pub(crate) fn lease(self) -> Option<Lease> {
        if let Self::Leased(lease) = self { Some(lease) } else { None }
    }
}

/// Places a delivery that is due at `due`. The lane comes first: a delivery that has overtaken an older one cannot be
/// called back. Only a delivery that is due already is leased, or it would be attempted too early.
///
/// Statements that schedule leased deliveries again (after a failed attempt, a release, an expired lease) decide as
/// this function does without a lease.
pub(crate) fn place(is_behind: bool, due: Millis, now: Millis, lease: Option<Lease>) -> Placement {
    match lease {
        _ if is_behind => Placement::Waiting,
        Some(lease) if due <= now => Placement::Leased(lease),
        _ => Placement::Scheduled(due),
    }
}

/// When a delivery with this earliest time is due: at that time, or now if it has passed.
pub(crate) fn due_from(not_before: Option<Millis>, now: Millis) -> Millis {
    not_before.map_or(now, |time| time.max(now))
}

/// What a retry by hand does to an open delivery. A scheduled one becomes due now. A waiting one stays as it is, or it
/// would overtake older ones of its lane.
pub(crate) fn retry(is_scheduled: bool, is_leased: bool) -> Retried {
    match (is_scheduled, is_leased) {
        (true, _) => Retried::Due,
        (false, true) => Retried::UnderWay,
        (false, false) => Retried::Waiting,
    }
}

/// A delivery to write.
#[derive(Debug, Clone, Copy)]
pub(crate) struct NewDelivery<'a> {
    pub(crate) app: &'a AppId,
    pub(crate) event: EventNo,
    pub(crate) destination: DestinationNo,
    /// The name of its lane; `None` if it is in no lane.
    pub(crate) lane: Option<&'a str>,
    pub(crate) not_before: Option<Millis>,
    /// The lease that it gets if it is due and not behind another.
    pub(crate) lease: Option<Lease>,
    pub(crate) now: Millis,
}

impl NewDelivery<'_> {
    /// Where it is placed. `is_behind`: its lane has an open delivery.
    pub(crate) fn place(&self, is_behind: bool) -> Placement {
        place(is_behind, due_from(self.not_before, self.now), self.now, self.lease)
    }
}

/// How the deliveries of a publish are written.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct PublishPlan {
    /// Destinations of the event's leased batch.
    pub(crate) batch: Vec<DestinationNo>,
    /// Destinations that get a row of their own.
    pub(crate) rows: Vec<Destination>,
    /// Destinations of the event's fan-out row, whose deliveries are written later.
    pub(crate) later: Vec<(DestinationNo, Lane)>,
}

impl PublishPlan {
    /// Plans a publish. Its destinations are in ascending order, and so are those of each part.
    ///
    /// If there are more than `direct` destinations, all go to the fan-out row: a publish must not take longer the more
    /// there are. `has_fanout`: an earlier event of the app has a fan-out row. Its deliveries may be of the same lanes,
    /// so ordered deliveries of this event go behind them, to a fan-out row of their own.
    pub(crate) fn new(publish: &Publish, direct: usize, has_fanout: bool) -> Self {
        let all_later = publish.destinations.len() > direct;
        let is_early = publish.not_before.is_some_and(|time| time > publish.now);
        let mut plan = Self::default();
        for &destination in &publish.destinations {
            let is_ordered = destination.lane != Lane::Own;
            if all_later || (has_fanout && is_ordered) {
                plan.later.push((destination.no, destination.lane));
            } else if destination.fresh && !is_ordered && !is_early {
                plan.batch.push(destination.no);
            } else {
                plan.rows.push(destination);
            }
        }
        plan
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::log::LeaseToken;
    use crate::suite;

    const LEASE: Lease = Lease { token: LeaseToken(7), until: 30_100 };

    #[test]
    fn a_lane_comes_first_then_the_time_then_the_lease() {
        let table = [
            // Behind, due, leased; at 100.
            ((false, 100, true), Placement::Leased(LEASE)),
            ((false, 99, true), Placement::Leased(LEASE)),
            ((false, 101, true), Placement::Scheduled(101)),
            ((false, 100, false), Placement::Scheduled(100)),
            ((false, 99, false), Placement::Scheduled(99)),
            ((true, 100, true), Placement::Waiting),
            ((true, 101, false), Placement::Waiting),
        ];
        for ((is_behind, due, is_leased), placement) in table {
            assert_eq!(
                place(is_behind, due, 100, is_leased.then_some(LEASE)),
                placement,
                "{is_behind} {due} {is_leased}"
            );
        }
    }

    #[test]
    fn only_what_is_scheduled_is_retried() {
        let of = |placement: Placement| retry(placement.due().is_some(), placement.lease().is_some());
        assert_eq!(of(Placement::Scheduled(1)), Retried::Due);
        assert_eq!(of(Placement::Leased(LEASE)), Retried::UnderWay);
        assert_eq!(of(Placement::Waiting), Retried::Waiting);
    }

    fn publish(destinations: Vec<Destination>, not_before: Option<Millis>) -> Publish {
        Publish {
            event: suite::event(&AppId::from("1"), "e"),
            hook_version: None,
            destinations,
            not_before,
            catalogue_version: 1,
            idempotency: None,
            lease: LEASE,
            now: 100,
            received_at: 100,
        }
    }

    fn destinations() -> impl Strategy<Value = Vec<Destination>> {
        let lane = prop_oneof![Just(Lane::Own), Just(Lane::Whole), Just(Lane::Key)];
        prop::collection::btree_map(1i64..1_000, (lane, any::<bool>()), 0..20).prop_map(|all| {
            all.into_iter().map(|(no, (lane, fresh))| Destination { no: DestinationNo(no), lane, fresh }).collect()
        })
    }

    proptest! {
        #[test]
        fn nothing_new_is_due_before_its_time_or_now(not_before in prop::option::of(0i64..200), now in 0i64..200) {
            let due = due_from(not_before, now);
            prop_assert!(due >= now && not_before.is_none_or(|time| due >= time));
            prop_assert!(due == now || Some(due) == not_before);
        }

        #[test]
        fn an_open_delivery_is_in_one_place(is_behind: bool, due in 0i64..200, now in 0i64..200, is_leased: bool) {
            let placement = place(is_behind, due, now, is_leased.then_some(LEASE));
            prop_assert_eq!(placement == Placement::Waiting, is_behind);
            prop_assert!(placement.due().is_none() || placement.lease().is_none());
            prop_assert!(placement.lease().is_none() || due <= now, "leased before its time");
            prop_assert!(placement.due().is_none_or(|scheduled| scheduled == due));
        }

        #[test]
        fn a_plan_has_each_destination_once_and_in_order(
            all in destinations(), direct in 0usize..25, has_fanout: bool, not_before in prop::option::of(50i64..150),
        ) {
            let plan = PublishPlan::new(&publish(all.clone(), not_before), direct, has_fanout);
            let parts: [Vec<DestinationNo>; 3] = [
                plan.batch.clone(),
                plan.rows.iter().map(|destination| destination.no).collect(),
                plan.later.iter().map(|(no, _)| *no).collect(),
            ];
            prop_assert!(parts.iter().all(|part| part.is_sorted()));
            let mut together = parts.concat();
            together.sort_unstable();
            prop_assert_eq!(together, all.iter().map(|destination| destination.no).collect::<Vec<_>>());
            for destination in all.iter().filter(|one| plan.batch.contains(&one.no)) {
                prop_assert!(destination.fresh && destination.lane == Lane::Own, "a leased batch keeps no order");
            }
            prop_assert!(plan.batch.is_empty() || not_before.is_none_or(|time| time <= 100), "leased before its time");
            prop_assert!(plan.batch.len() + plan.rows.len() <= direct, "written at once beyond the limit");
            prop_assert!(all.len() <= direct || plan.later.len() == all.len());
            if has_fanout {
                prop_assert!(plan.rows.iter().all(|one| one.lane == Lane::Own), "overtakes an earlier fan-out");
            }
        }
    }
}
