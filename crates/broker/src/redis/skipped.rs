//! Counts data that this node skips because only a newer version can read it, and logs it at most once a minute.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering::Relaxed};

use tidings_model::clock::Millis;

/// The shortest time between two log lines, in milliseconds. During an upgrade every message may be unreadable.
const LOG_EVERY: Millis = 60_000;

#[derive(Debug)]
pub(super) struct SkippedLog {
    count: AtomicU64,
    /// When the next line may be logged, at steady time.
    next_log: AtomicI64,
}

impl Default for SkippedLog {
    fn default() -> Self {
        Self { count: AtomicU64::new(0), next_log: AtomicI64::new(Millis::MIN) }
    }
}

impl SkippedLog {
    /// Counts one piece of skipped data. Returns whether it was logged.
    pub(super) fn count(&self, what: &'static str, now: Millis) -> bool {
        let total = self.count.fetch_add(1, Relaxed) + 1;
        let next = self.next_log.load(Relaxed);
        let logs = now >= next
            && self.next_log.compare_exchange(next, now.saturating_add(LOG_EVERY), Relaxed, Relaxed).is_ok();
        if logs {
            tracing::warn!(what, total, "skipped data in Redis that this version cannot read");
        }
        logs
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_many_one_a_minute_is_logged() {
        let skipped = SkippedLog::default();
        let logged = (0..120_001).step_by(100).filter(|now| skipped.count("message", *now)).count();
        assert_eq!(logged, 3);
    }
}
