//! The only place that reads the time.
//!
//! Everything else takes a [`Clock`]. It has two times, because a wall clock can be set back or forth while the process
//! runs: `wall_ms` is for people and signatures; `steady_ms` is for schedules, leases and limits. A schedule on the
//! wall
//! clock would stop for an hour, or fire at once, when the clock is set.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Unix time in milliseconds.
pub type Millis = i64;

/// Tells the time. Cheap to call; shared as [`SharedClock`].
pub trait Clock: Send + Sync {
    /// Unix milliseconds by the machine's clock; may jump.
    fn wall_ms(&self) -> Millis;

    /// Unix milliseconds that never go back and never jump while the process lives: the wall clock at the start plus
    /// the
    /// time that has passed since.
    fn steady_ms(&self) -> Millis;
}

/// A clock that many parts share.
pub type SharedClock = Arc<dyn Clock>;

/// The machine's clock.
#[derive(Debug)]
pub struct SystemClock {
    started: Instant,
    started_wall_ms: Millis,
}

impl SystemClock {
    /// Anchors the steady time at the present wall time.
    #[expect(clippy::disallowed_methods, reason = "this is the one place that reads the time")]
    pub fn new() -> Self {
        Self { started: Instant::now(), started_wall_ms: wall_now() }
    }

    /// The clock as the parts of an engine share it.
    pub fn shared() -> SharedClock {
        Arc::new(Self::new())
    }
}

impl Default for SystemClock {
    fn default() -> Self {
        Self::new()
    }
}

impl Clock for SystemClock {
    fn wall_ms(&self) -> Millis {
        wall_now()
    }

    fn steady_ms(&self) -> Millis {
        self.started_wall_ms + millis(self.started.elapsed())
    }
}

#[expect(clippy::disallowed_methods, reason = "this is the one place that reads the time")]
fn wall_now() -> Millis {
    // A clock before 1970 counts as 1970.
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, millis)
}

/// A duration as milliseconds, capped at the largest [`Millis`].
pub fn millis(duration: Duration) -> Millis {
    Millis::try_from(duration.as_millis()).unwrap_or(Millis::MAX)
}

/// Measures how long something took, for attempt records and metrics.
#[derive(Debug, Clone, Copy)]
pub struct Stopwatch(Instant);

impl Stopwatch {
    /// Starts measuring.
    #[expect(clippy::disallowed_methods, reason = "this is the one place that reads the time")]
    pub fn start() -> Self {
        Self(Instant::now())
    }

    /// The time since the start.
    pub fn elapsed(&self) -> Duration {
        self.0.elapsed()
    }
}

/// A clock that stands still until a test moves it. Wall and steady time move apart when the test sets the wall alone.
#[derive(Debug)]
pub struct ManualClock {
    wall: AtomicI64,
    steady: AtomicI64,
}

impl ManualClock {
    /// Both times stand at `now_ms`.
    pub fn at(now_ms: Millis) -> Arc<Self> {
        Arc::new(Self { wall: AtomicI64::new(now_ms), steady: AtomicI64::new(now_ms) })
    }

    /// Lets time pass, on both clocks.
    pub fn advance(&self, by: Duration) {
        self.wall.fetch_add(millis(by), Ordering::SeqCst);
        self.steady.fetch_add(millis(by), Ordering::SeqCst);
    }

    /// Sets the wall clock forth or back by `by_ms`, as an operator or NTP would; no time passes.
    pub fn jump_wall(&self, by_ms: Millis) {
        self.wall.fetch_add(by_ms, Ordering::SeqCst);
    }
}

impl Clock for ManualClock {
    fn wall_ms(&self) -> Millis {
        self.wall.load(Ordering::SeqCst)
    }

    fn steady_ms(&self) -> Millis {
        self.steady.load(Ordering::SeqCst)
    }
}

/// RFC 3339 with milliseconds in UTC, as every API of ours writes times (`2026-11-21T09:56:00.000Z`).
pub fn rfc3339(ms: Millis) -> String {
    jiff::Timestamp::from_millisecond(ms).map_or_else(|_| "1970-01-01T00:00:00.000Z".to_owned(), |t| format!("{t:.3}"))
}

/// Reads an RFC 3339 time (any offset) as Unix milliseconds.
pub fn parse_rfc3339(text: &str) -> Option<Millis> {
    text.parse::<jiff::Timestamp>().ok().map(|t| t.as_millisecond())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steady_time_ignores_a_clock_that_is_set_back() {
        let clock = ManualClock::at(1_000_000);
        clock.jump_wall(-3_600_000);
        clock.advance(Duration::from_secs(5));
        assert_eq!(clock.steady_ms(), 1_005_000);
        assert_eq!(clock.wall_ms(), 1_000_000 - 3_600_000 + 5_000);
    }

    #[test]
    fn times_are_written_and_read_back() {
        assert_eq!(rfc3339(1_649_367_553_042), "2022-04-07T21:39:13.042Z");
        assert_eq!(parse_rfc3339("2022-04-07T23:39:13.042+02:00"), Some(1_649_367_553_042));
        assert_eq!(parse_rfc3339("yesterday"), None);
    }
}
