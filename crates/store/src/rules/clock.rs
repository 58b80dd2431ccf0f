//! Detects that the clock was set back while no node ran.
//!
//! Due times in the store come from the clock before it was set back. Without a correction every delivery would wait
//! for the difference.

use tidings_model::clock::Millis;
use tidings_model::id::EventNo;

/// A clock that is this many milliseconds behind an earlier reading was set back; smaller differences are jitter.
const CLOCK_SET_BACK: Millis = 60_000;

/// By how much a clock with an earlier reading of `before` was set back, if it was.
pub(crate) fn set_back(before: Millis, now: Millis) -> Option<Millis> {
    let ahead = before.saturating_sub(now);
    (ahead > CLOCK_SET_BACK).then_some(ahead)
}

/// The latest reading of the clock that the store has: at the start before this one (`clock`), in the number of the
/// newest event, or in the time at which that event was stored. `known` was the newest event at the start before.
///
/// Event numbers never go back. After the clock was set back their time part stands still, so it counts only if it has
/// grown since `known`.
pub(crate) fn latest_reading(clock: Millis, known: EventNo, (newest, received_at): (EventNo, Millis)) -> Millis {
    if newest.millis() > known.millis() {
        clock.max(newest.millis())
    } else if newest > known {
        clock.max(received_at)
    } else {
        clock
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn only_an_event_that_is_new_tells_the_time() {
        let at = EventNo::first_of;
        let next = |no: EventNo| EventNo(no.0 + 1);
        // The clock of the last start, the newest event then, the newest now and when it was stored.
        let table = [
            ((500, at(400), at(400), 400), 500),
            ((500, at(400), at(900), 900), 900),
            ((500, at(400), at(450), 450), 500),
            // The clock went back to 100: numbers stand still, and the time of storing is all there is.
            ((100, at(900), next(at(900)), 130), 130),
            ((500, EventNo(0), at(0), 0), 500),
        ];
        for ((clock, known, newest, received_at), expected) in table {
            assert_eq!(latest_reading(clock, known, (newest, received_at)), expected, "{clock} {known:?} {newest:?}");
        }
    }

    #[test]
    fn jitter_is_not_set_back() {
        assert_eq!(set_back(100_000, 100_000 - CLOCK_SET_BACK), None);
        assert_eq!(set_back(100_000, 100_000 - CLOCK_SET_BACK - 1), Some(CLOCK_SET_BACK + 1));
        assert_eq!(set_back(100_000, 200_000), None);
    }

    proptest! {
        #[test]
        fn the_clock_of_the_last_start_is_a_lower_bound(
            clock in 0i64..1 << 41, known: u32, newest: u32, received_at in 0i64..1 << 41,
        ) {
            let (known, newest) = (EventNo(i64::from(known)), EventNo(i64::from(newest)));
            let said = latest_reading(clock, known, (newest, received_at));
            prop_assert!(said >= clock);
            prop_assert!(newest > known || said == clock);
        }
    }
}
