//! How the presence journal applies a change.

use tidings_model::clock::Millis;

use crate::presence::{Applied, PresenceChange, PresenceRecord};

/// A suppressed arrival is recorded as a departure this long ago, in milliseconds. It is longer than any window in
/// which an arrival reverts a departure.
const SUPPRESSED_AGE: Millis = 3_600_000;

/// The departure that a change may revert: an announced one. Of any other, the event is not published yet.
pub(crate) fn departure_to_revert<'k>(
    change: &PresenceChange,
    known: Option<&'k PresenceRecord>,
) -> Option<&'k PresenceRecord> {
    known.filter(|known| change.present && !known.present && known.announced && change.number > known.number)
}

/// Whether an arrival reverts a departure whose event made no deliveries: then only the window counts.
pub(crate) fn is_within_window(change: &PresenceChange, departure: &PresenceRecord) -> bool {
    change.wall - departure.since < change.window
}

/// Applies a change to the last known record. Returns the answer to the caller, and the new record if it changes.
/// `is_reverted`: the deliveries of [`departure_to_revert`] were canceled.
pub(crate) fn apply(
    change: &PresenceChange,
    known: Option<&PresenceRecord>,
    is_reverted: bool,
) -> (Applied, Option<PresenceRecord>) {
    if let Some(known) = known {
        if change.number == known.number && change.event == known.event && !known.announced {
            // The node that recorded it may have failed before it published the event.
            return (Applied::Announce, None);
        }
        if change.number <= known.number {
            return (Applied::Known, None);
        }
        if change.present == known.present {
            return (Applied::Known, Some(PresenceRecord { number: change.number, ..known.clone() }));
        }
    }
    let record = PresenceRecord {
        key: change.key.clone(),
        present: change.present,
        number: change.number,
        event: change.event.clone(),
        announced: false,
        since: change.wall,
    };
    if is_reverted {
        return (Applied::Reverted, Some(PresenceRecord { announced: true, ..record }));
    }
    if change.suppress && change.present {
        let since = change.wall - SUPPRESSED_AGE;
        return (Applied::Suppressed, Some(PresenceRecord { present: false, announced: true, since, ..record }));
    }
    (Applied::Announce, Some(record))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use tidings_model::id::AppId;

    use super::*;
    use crate::presence::PresenceKey;

    const WINDOW: Millis = 3_000;
    const WALL: Millis = 10_000_000;

    fn key() -> PresenceKey {
        PresenceKey { app: AppId::from("1"), channel: "c".to_owned(), user: None }
    }

    fn change(number: i64, present: bool, suppress: bool) -> PresenceChange {
        let event = format!("evt_{number}");
        PresenceChange { key: key(), present, number, event, suppress, window: WINDOW, now: WALL, wall: WALL }
    }

    fn known(number: i64, present: bool, announced: bool) -> PresenceRecord {
        PresenceRecord { key: key(), present, number, event: format!("evt_{number}"), announced, since: WALL - 9 }
    }

    /// The caller's answer, and the number, presence and announcement that are written.
    type Outcome = (Applied, Option<(i64, bool, bool)>);

    fn outcome(change: &PresenceChange, known: Option<&PresenceRecord>, is_reverted: bool) -> Outcome {
        let (applied, record) = apply(change, known, is_reverted);
        (applied, record.map(|record| (record.number, record.present, record.announced)))
    }

    #[test]
    fn each_change_has_one_answer() {
        use Applied::{Announce, Known, Reverted, Suppressed};
        let table: [(PresenceChange, Option<PresenceRecord>, bool, Outcome); 11] = [
            (change(5, true, false), None, false, (Announce, Some((5, true, false)))),
            (change(5, false, false), None, false, (Announce, Some((5, false, false)))),
            (change(5, true, true), None, false, (Suppressed, Some((5, false, true)))),
            (change(5, true, false), Some(known(4, false, true)), false, (Announce, Some((5, true, false)))),
            (change(5, true, false), Some(known(4, false, true)), true, (Reverted, Some((5, true, true)))),
            (change(5, true, true), Some(known(4, false, true)), true, (Reverted, Some((5, true, true)))),
            (change(5, true, false), Some(known(4, true, false)), false, (Known, Some((5, true, false)))),
            (change(4, false, false), Some(known(4, false, false)), false, (Announce, None)),
            (change(4, false, false), Some(known(4, false, true)), false, (Known, None)),
            (change(3, true, false), Some(known(4, false, true)), false, (Known, None)),
            (change(5, false, true), Some(known(4, true, true)), false, (Announce, Some((5, false, false)))),
        ];
        for (i, (change, known, is_reverted, expected)) in table.into_iter().enumerate() {
            assert_eq!(outcome(&change, known.as_ref(), is_reverted), expected, "row {i}");
        }
    }

    #[test]
    fn a_window_ends() {
        let departure = PresenceRecord { since: WALL - WINDOW, ..known(4, false, true) };
        assert!(!is_within_window(&change(5, true, false), &departure));
        assert!(is_within_window(&change(5, true, false), &PresenceRecord { since: WALL - WINDOW + 1, ..departure }));
    }

    proptest! {
        /// However changes come, and however often, arrivals and departures are announced in turn, unless one is
        /// reverted.
        #[test]
        fn announcements_alternate(
            changes in prop::collection::vec((0i64..20, any::<bool>(), any::<bool>(), any::<bool>()), 0..40),
        ) {
            let mut record: Option<PresenceRecord> = None;
            for (number, present, can_revert, is_marked) in changes {
                let change = change(number, present, false);
                let is_reverted = can_revert && departure_to_revert(&change, record.as_ref()).is_some();
                let (applied, written) = apply(&change, record.as_ref(), is_reverted);
                let was_present = record.as_ref().is_some_and(|record| record.present);
                match applied {
                    Applied::Announce if written.is_some() => {
                        prop_assert!(record.is_none() || was_present != present, "announced twice");
                    }
                    Applied::Announce => prop_assert!(record.as_ref().is_some_and(|record| !record.announced)),
                    Applied::Reverted => prop_assert!(present && !was_present),
                    Applied::Known => prop_assert!(written.as_ref().is_none_or(|new| new.present == was_present)),
                    Applied::Suppressed => prop_assert!(false, "nothing was to be suppressed"),
                }
                let before = record.as_ref().map(|record| record.number);
                record = written.or(record);
                prop_assert!(record.as_ref().map(|record| record.number) >= before, "an old change came back");
                if let Some(record) = record.as_mut() {
                    record.announced |= is_marked;
                }
            }
        }

        /// What no node could announce in time is not announced, nor is its end.
        #[test]
        fn a_suppressed_arrival_suppresses_its_departure(number in 1i64..9, absent in 0i64..9) {
            let (applied, record) = apply(&change(number, true, true), None, false);
            prop_assert_eq!(applied, Applied::Suppressed);
            let record = record.unwrap();
            prop_assert!(!is_within_window(&change(number + 1, true, false), &record));
            let (applied, _) = apply(&change(number + absent, false, false), Some(&record), false);
            prop_assert_eq!(applied, Applied::Known);
        }
    }
}
