//! A line of the log that strangers could have written as often as they like: once a second is enough.

use parking_lot::Mutex;
use tidings_model::clock::{Clock, Millis, SystemClock};

/// In milliseconds.
const EVERY: Millis = 1_000;

/// When it was last written, and how many were left out since.
#[derive(Debug)]
pub(super) struct Notice {
    clock: SystemClock,
    state: Mutex<(Option<Millis>, u64)>,
}

impl Default for Notice {
    fn default() -> Self {
        Self { clock: SystemClock::new(), state: Mutex::default() }
    }
}

impl Notice {
    /// Whether the line is due: then it is to be written now, with how many were left out before.
    pub(super) fn due(&self) -> Option<u64> {
        self.due_at(self.clock.steady_ms())
    }

    fn due_at(&self, now: Millis) -> Option<u64> {
        let mut state = self.state.lock();
        if state.0.is_some_and(|last| now - last < EVERY) {
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
        let notice = Notice::default();
        assert_eq!(notice.due_at(5), Some(0));
        assert_eq!((0..1_000).filter_map(|n| notice.due_at(5 + n % EVERY)).count(), 0);
        assert_eq!(notice.due_at(5 + EVERY), Some(1_000));
        assert_eq!(notice.due_at(5 + EVERY), None);
    }
}
