//! Rate control for background work: after each unit it pauses in proportion to the time the unit took.
//!
//! The time includes waiting for a busy store or processor, so background work backs off as load grows.

use std::time::Duration;

use tidings_model::clock::Stopwatch;

/// How long to pause after a unit of work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Pause {
    /// The pause as a multiple of the unit's duration.
    pub(crate) factor: u32,
    /// The longest pause.
    pub(crate) max: Duration,
}

impl Pause {
    /// Interpolates linearly towards a longer pause: `part` = 0 is this one, `part` = `whole` the longer one.
    pub(crate) fn interpolate(self, longer: Self, part: usize, whole: usize) -> Self {
        let between = |from: u128, to: u128| from + (to - from) * part as u128 / whole.max(1) as u128;
        Self {
            factor: between(self.factor.into(), longer.factor.into()) as u32,
            max: Duration::from_micros(between(self.max.as_micros(), longer.max.as_micros()) as u64),
        }
    }
}

/// The pause of one kind of work.
#[derive(Default)]
pub(crate) struct DutyCycle(Option<(Stopwatch, Duration)>);

impl DutyCycle {
    /// What is left of the pause; zero when the next unit may start.
    pub(crate) fn remaining(&self) -> Duration {
        self.0.as_ref().map_or(Duration::ZERO, |(since, pause)| pause.saturating_sub(since.elapsed()))
    }

    /// Starts the pause after a unit that started at `started`.
    pub(crate) fn pause_after(&mut self, started: &Stopwatch, Pause { factor, max }: Pause) {
        self.0 = Some((Stopwatch::start(), started.elapsed().saturating_mul(factor).min(max)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHORT: Pause = Pause { factor: 2, max: Duration::from_millis(20) };
    const LONG: Pause = Pause { factor: 10, max: Duration::from_millis(100) };

    #[test]
    fn the_pause_is_proportional_to_the_work_and_bounded() {
        let mut duty = DutyCycle::default();
        assert_eq!(duty.remaining(), Duration::ZERO);
        let started = Stopwatch::start();
        while started.elapsed() < Duration::from_millis(2) {}
        duty.pause_after(&started, Pause { factor: 2, max: Duration::from_hours(1) });
        assert!(duty.0.as_ref().is_some_and(|(_, pause)| *pause >= Duration::from_millis(4)));
        assert!(duty.remaining() <= 2 * started.elapsed());
        duty.pause_after(&started, Pause { factor: 2, max: Duration::ZERO });
        assert_eq!(duty.remaining(), Duration::ZERO);
    }

    #[test]
    fn a_pause_interpolates_between_two() {
        assert_eq!((SHORT.interpolate(LONG, 0, 5), SHORT.interpolate(LONG, 5, 5)), (SHORT, LONG));
        assert_eq!(SHORT.interpolate(LONG, 1, 2), Pause { factor: 6, max: Duration::from_millis(60) });
        assert_eq!(SHORT.interpolate(LONG, 0, 0), SHORT);
    }
}
