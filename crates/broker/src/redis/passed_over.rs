//! What this node could not read, because a newer version has written it: counted, and logged now and then.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering::Relaxed};

use tidings_model::clock::Millis;

/// The shortest time between two lines of the log, in milliseconds: while nodes are upgraded each message may be one.
const LOG_EVERY: Millis = 60_000;

#[derive(Debug)]
pub(super) struct PassedOver {
    count: AtomicU64,
    /// When the next line may be logged, at steady time.
    next_log: AtomicI64,
}

impl Default for PassedOver {
    fn default() -> Self {
        Self { count: AtomicU64::new(0), next_log: AtomicI64::new(Millis::MIN) }
    }
}

impl PassedOver {
    /// Counts one. Answers whether that was logged.
    pub(super) fn note(&self, what: &'static str, now: Millis) -> bool {
        let total = self.count.fetch_add(1, Relaxed) + 1;
        let next = self.next_log.load(Relaxed);
        let logs = now >= next
            && self.next_log.compare_exchange(next, now.saturating_add(LOG_EVERY), Relaxed, Relaxed).is_ok();
        if logs {
            tracing::warn!(what, total, "passed over what this version cannot read");
        }
        logs
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_many_one_a_minute_is_logged() {
        let passed_over = PassedOver::default();
        let logged = (0..120_001).step_by(100).filter(|now| passed_over.note("message", *now)).count();
        assert_eq!(logged, 3);
    }
}
