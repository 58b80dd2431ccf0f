//! A share of the time: work that is begun anew only after a rest, so that what nobody waits for leaves room to what somebody does.

use std::time::Duration;

use tidings_model::clock::Stopwatch;

/// How long work rests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Rest {
    /// So many times as long as it took.
    pub(crate) times: u32,
    /// At most so long.
    pub(crate) most: Duration,
}

impl Rest {
    /// A rest between this one and a longer one, by how many of `all` ask for the longer one.
    pub(crate) fn towards(self, longer: Self, some: usize, all: usize) -> Self {
        let share = |from: u128, to: u128| from + (to - from) * some as u128 / all.max(1) as u128;
        Self {
            times: share(self.times.into(), longer.times.into()) as u32,
            most: Duration::from_micros(share(self.most.as_micros(), longer.most.as_micros()) as u64),
        }
    }
}

/// Work with rests. It goes by the time that the work really took: on a busy machine, or behind a busy store, the rests grow
/// with it.
#[derive(Default)]
pub(crate) struct Duty(Option<(Stopwatch, Duration)>);

impl Duty {
    /// How long it still rests; zero when it may begin.
    pub(crate) fn left(&self) -> Duration {
        self.0.as_ref().map_or(Duration::ZERO, |(since, rest)| rest.saturating_sub(since.elapsed()))
    }

    /// Notes that it has worked since `begun`, and rests.
    pub(crate) fn worked(&mut self, begun: &Stopwatch, Rest { times, most }: Rest) {
        self.0 = Some((Stopwatch::start(), begun.elapsed().saturating_mul(times).min(most)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHORT: Rest = Rest { times: 2, most: Duration::from_millis(20) };
    const LONG: Rest = Rest { times: 10, most: Duration::from_millis(100) };

    #[test]
    fn it_rests_in_proportion_to_its_work_and_no_longer_than_it_may() {
        let mut duty = Duty::default();
        assert_eq!(duty.left(), Duration::ZERO);
        let begun = Stopwatch::start();
        while begun.elapsed() < Duration::from_millis(2) {}
        duty.worked(&begun, Rest { times: 2, most: Duration::from_hours(1) });
        assert!(duty.0.as_ref().is_some_and(|(_, rest)| *rest >= Duration::from_millis(4)));
        assert!(duty.left() <= 2 * begun.elapsed());
        duty.worked(&begun, Rest { times: 2, most: Duration::ZERO });
        assert_eq!(duty.left(), Duration::ZERO);
    }

    #[test]
    fn a_rest_grows_with_the_share_that_asks_for_it() {
        assert_eq!((SHORT.towards(LONG, 0, 5), SHORT.towards(LONG, 5, 5)), (SHORT, LONG));
        assert_eq!(SHORT.towards(LONG, 1, 2), Rest { times: 6, most: Duration::from_millis(60) });
        assert_eq!(SHORT.towards(LONG, 0, 0), SHORT);
    }
}
