//! What follows an attempt: for its delivery, for its destination, and for the caller.

use tidings_model::clock::Millis;
use tidings_model::delivery::{Attempt, DeliveryState};

use super::lane::Advance;
use crate::queue::{Finished, Next, Recorded};

/// What follows the end of an attempt, as long as the lease was not lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct AfterAttempt<'a> {
    pub(crate) delivery: DeliveryChange<'a>,
    /// Not to be made when the destination turns out to be gone.
    pub(crate) destination: DestinationChange,
    /// Attempts made so far.
    pub(crate) attempts: u32,
}

/// What happens to the delivery.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum DeliveryChange<'a> {
    /// It stays open, and is due at this time.
    Reopen(Millis),
    /// It ends.
    Close {
        state: DeliveryState,
        /// The only attempt, when it delivered it: most do, and one row then tells both.
        first: Option<&'a Attempt>,
    },
}

/// What happens to what is known of the destination.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum DestinationChange {
    Nothing,
    /// It works again.
    ClearFailures,
    /// It failed, and is disabled if that goes on for too long, or at once if it said so.
    NoteFailure,
}

/// Decides what follows.
pub(crate) fn after(end: &Finished) -> AfterAttempt<'_> {
    let attempts = end.attempt.as_ref().map_or(end.delivery.attempts, |attempt| attempt.n);
    let close = |state| DeliveryChange::Close { state, first: None };
    let (delivery, destination) = match end.next {
        Next::Retry(due) => (DeliveryChange::Reopen(due), DestinationChange::NoteFailure),
        Next::Undelivered => (close(DeliveryState::Undelivered), DestinationChange::NoteFailure),
        // No attempt was made, so nothing is known of the destination.
        Next::Canceled => (close(DeliveryState::Canceled), DestinationChange::Nothing),
        Next::Delivered => {
            let first = end.attempt.as_ref().filter(|attempt| attempt.n == 1);
            let delivery = DeliveryChange::Close { state: DeliveryState::Delivered, first };
            // Most destinations have not failed, and then there is nothing to write.
            let was_failing = end.was_failing;
            (delivery, if was_failing { DestinationChange::ClearFailures } else { DestinationChange::Nothing })
        }
    };
    AfterAttempt { delivery, destination, attempts }
}

/// Why a destination that has done nothing but fail since a time is disabled, if it is: that was before `limit`.
pub(crate) fn failing_reason(since: Millis, limit: Millis) -> Option<&'static str> {
    (since < limit).then_some("failing")
}

/// Whether an event tells that its destination was disabled by it. An event about a listener does not: the event that
/// tells that could disable the next destination, and so on for ever.
pub(crate) fn is_announced(event_name: Option<&str>) -> bool {
    event_name.is_none_or(|name| !name.starts_with("tidings.listener."))
}

/// What an attempt's end left of the destination.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum DestinationStatus {
    Enabled,
    /// By this end.
    DisabledNow,
    /// Or it is gone.
    DisabledBefore,
}

/// What the caller learns of an end that was recorded.
pub(crate) fn recorded(status: DestinationStatus, advance: Advance) -> Recorded {
    let recorded = Recorded { disabled: status == DestinationStatus::DisabledNow, ..Recorded::default() };
    match advance {
        Advance::Nothing => recorded,
        Advance::Lease(next_in_lane) => Recorded { next_in_lane, ..recorded },
        Advance::Schedule(_, due) => Recorded { lane_due: Some(due), ..recorded },
    }
}

/// What the caller learns of an end whose lease was lost: somebody else attempts the delivery, or has ended it.
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
            assert_eq!(is_announced(Some(name)), expected, "{name}");
        }
        // The event is gone, and its name with it.
        assert!(is_announced(None));
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
