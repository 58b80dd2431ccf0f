//! Limits a log line that clients can cause as often as they like to one per second.

use parking_lot::Mutex;
use tidings_model::clock::{Clock, Millis, SystemClock};

/// The shortest time between two lines, in milliseconds.
const INTERVAL: Millis = 1_000;

/// When the line was last written, and how many have been suppressed since.
#[derive(Debug)]
pub(super) struct LogThrottle {
    clock: SystemClock,
    state: Mutex<(Option<Millis>, u64)>,
}

impl Default for LogThrottle {
    fn default() -> Self {
        Self { clock: SystemClock::new(), state: Mutex::default() }
    }
}

impl LogThrottle {
    /// `Some` if the line is to be written now, with the number of lines that were suppressed before it.
    pub(super) fn due(&self) -> Option<u64> {
        self.due_at(self.clock.steady_ms())
    }

    fn due_at(&self, now: Millis) -> Option<u64> {
        let mut state = self.state.lock();
        if state.0.is_some_and(|last| now - last < INTERVAL) {
            state.1 += 1;
            return None;
        }
        state.0 = Some(now);
        Some(std::mem::take(&mut state.1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_line_a_second_says_how_many_there_were() {
        let throttle = LogThrottle::default();
        assert_eq!(throttle.due_at(5), Some(0));
        assert_eq!((0..1_000).filter_map(|n| throttle.due_at(5 + n % INTERVAL)).count(), 0);
        assert_eq!(throttle.due_at(5 + INTERVAL), Some(1_000));
        assert_eq!(throttle.due_at(5 + INTERVAL), None);
    }
}
