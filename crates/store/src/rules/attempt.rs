//! What follows an attempt: for its delivery, its destination, and the caller.

use tidings_model::clock::Millis;
use tidings_model::delivery::{Attempt, DeliveryState};

use super::lane::Advance;
use crate::queue::{Finished, Next, Recorded};

/// The changes that follow the end of an attempt, unless its lease was lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct AfterAttempt<'a> {
    pub(crate) delivery: DeliveryChange<'a>,
    /// Skipped if the destination turns out to be deleted.
    pub(crate) destination: DestinationChange,
    /// Attempts made so far.
    pub(crate) attempts: u32,
}

/// The change of the delivery.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum DeliveryChange<'a> {
    /// It stays open, and is due at this time.
    Reopen(Millis),
    /// It ends.
    Close {
        state: DeliveryState,
        /// The attempt, if the first one delivered it. Most do; then one row holds both delivery and attempt.
        first: Option<&'a Attempt>,
    },
}

/// The change of the destination's record of failures.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum DestinationChange {
    Nothing,
    /// It succeeded.
    ClearFailures,
    /// It failed. It is disabled if it has only failed for too long, or at once if it asked for that (410).
    NoteFailure,
}

/// Decides what follows the end of an attempt.
pub(crate) fn after(end: &Finished) -> AfterAttempt<'_> {
    let attempts = end.attempt.as_ref().map_or(end.delivery.attempts, |attempt| attempt.n);
    let close = |state| DeliveryChange::Close { state, first: None };
    let (delivery, destination) = match end.next {
        Next::Retry(due) => (DeliveryChange::Reopen(due), DestinationChange::NoteFailure),
        Next::Undelivered => (close(DeliveryState::Undelivered), DestinationChange::NoteFailure),
        // No attempt was made, so it says nothing about the destination.
        Next::Canceled => (close(DeliveryState::Canceled), DestinationChange::Nothing),
        Next::Delivered => {
            let first = end.attempt.as_ref().filter(|attempt| attempt.n == 1);
            let delivery = DeliveryChange::Close { state: DeliveryState::Delivered, first };
            // Most destinations were not failing: then nothing has to be written.
            let was_failing = end.was_failing;
            (delivery, if was_failing { DestinationChange::ClearFailures } else { DestinationChange::Nothing })
        }
    };
    AfterAttempt { delivery, destination, attempts }
}

/// The reason to disable a destination that has only failed since `since`: that is before `limit`. Otherwise `None`.
pub(crate) fn failing_reason(since: Millis, limit: Millis) -> Option<&'static str> {
    (since < limit).then_some("failing")
}

/// Whether an event is published when the delivery of an event of this name disables its destination. Not for events
/// about listeners themselves: their deliveries could disable the next destination, and so on without end.
pub(crate) fn announces_disabling(event_name: Option<&str>) -> bool {
    event_name.is_none_or(|name| !name.starts_with("tidings.listener."))
}

/// The state of the destination after an attempt was recorded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum DestinationStatus {
    Enabled,
    /// This attempt disabled it.
    DisabledNow,
    /// It was disabled or deleted before.
    DisabledBefore,
}

/// The answer to the caller for a result that was recorded.
pub(crate) fn recorded(status: DestinationStatus, advance: Advance) -> Recorded {
    let recorded = Recorded { disabled: status == DestinationStatus::DisabledNow, ..Recorded::default() };
    match advance {
        Advance::Nothing => recorded,
        Advance::Lease(next_in_lane) => Recorded { next_in_lane, ..recorded },
        Advance::Schedule(_, due) => Recorded { lane_due: Some(due), ..recorded },
    }
}

/// The answer to the caller for a result whose lease was lost: the delivery has ended, or has another lease.
pub(crate) fn stale() -> Recorded {
    Recorded { stale: true, ..Recorded::default() }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use tidings_model::id::{AppId, DeliveryKey, DestinationNo, EventNo};

    use super::*;
    use crate::log::{Lease, LeaseToken};
    use crate::queue::Leased;
    use crate::suite;

    fn end(attempts: u32, next: Next, was_failing: bool) -> Finished {
        let leased = Leased {
            key: DeliveryKey { app: AppId::from("1"), event: EventNo(1), destination: DestinationNo(1) },
            attempts,
            forgiven: 0,
            ordered: false,
            follows: false,
            in_batch: false,
            lease: Lease { token: LeaseToken(7), until: 30_000 },
        };
        Finished { was_failing, ..suite::finished(&leased, next) }
    }

    #[test]
    fn each_end_has_its_consequence() {
        use DeliveryState::{Canceled, Delivered, Undelivered};
        use DestinationChange::{ClearFailures, NoteFailure, Nothing};
        // Attempts before, next, failing before; the state, whether one row tells both, the destination, attempts.
        let table = [
            ((0, Next::Delivered, false), (Some(Delivered), true, Nothing, 1)),
            ((0, Next::Delivered, true), (Some(Delivered), true, ClearFailures, 1)),
            ((3, Next::Delivered, true), (Some(Delivered), false, ClearFailures, 4)),
            ((3, Next::Delivered, false), (Some(Delivered), false, Nothing, 4)),
            ((0, Next::Undelivered, false), (Some(Undelivered), false, NoteFailure, 1)),
            ((4, Next::Undelivered, true), (Some(Undelivered), false, NoteFailure, 5)),
            ((4, Next::Canceled, true), (Some(Canceled), false, Nothing, 4)),
            ((4, Next::Retry(9), true), (None, false, NoteFailure, 5)),
        ];
        for ((before, next, was_failing), (state, is_first, destination, attempts)) in table {
            let end = end(before, next, was_failing);
            let after = after(&end);
            let found = match after.delivery {
                DeliveryChange::Reopen(due) => {
                    assert_eq!(Next::Retry(due), next);
                    (None, false)
                }
                DeliveryChange::Close { state, first } => (Some(state), first.is_some()),
            };
            assert_eq!(found, (state, is_first), "{before} {next:?}");
            assert_eq!((after.destination, after.attempts), (destination, attempts), "{before} {next:?}");
        }
    }

    #[test]
    fn only_failing_for_too_long_is_a_reason() {
        assert_eq!(failing_reason(99, 100), Some("failing"));
        assert_eq!(failing_reason(100, 100), None);
        assert_eq!(failing_reason(101, 100), None);
    }

    #[test]
    fn what_happens_to_news_about_listeners_is_not_announced() {
        for (name, expected) in [("person.created", true), ("tidings.listener.disabled", false), ("tidings.app", true)]
        {
            assert_eq!(announces_disabling(Some(name)), expected, "{name}");
        }
        // The event is gone, and its name with it.
        assert!(announces_disabling(None));
    }

    proptest! {
        #[test]
        fn an_end_is_never_a_retry_and_a_close(
            attempts in 0u32..9, which in 0u8..4, due in 0i64..99, was_failing: bool,
        ) {
            let next = [Next::Delivered, Next::Retry(due), Next::Undelivered, Next::Canceled][usize::from(which)];
            let end = end(attempts, next, was_failing);
            let after = after(&end);
            let is_open = matches!(after.delivery, DeliveryChange::Reopen(_));
            prop_assert_eq!(is_open, matches!(next, Next::Retry(_)));
            let has_failed = after.destination == DestinationChange::NoteFailure;
            prop_assert_eq!(has_failed, matches!(next, Next::Retry(_) | Next::Undelivered));
            prop_assert_eq!(after.attempts, attempts + u32::from(next != Next::Canceled));
            if let DeliveryChange::Close { state, first } = after.delivery {
                prop_assert!(state != DeliveryState::Pending);
                prop_assert!(first.is_none() || (state == DeliveryState::Delivered && after.attempts == 1));
            }
        }
    }
}
