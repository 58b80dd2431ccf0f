//! Deliveries and attempts as they are shown.

use serde::Serialize;
use serde_json::value::RawValue;
use tidings_model::clock::{Clock, Millis, millis, rfc3339};
use tidings_model::delivery::{Attempt, DeliveryState};
use tidings_store::queue::DeliveryRow;

/// A delivery as it is shown.
#[derive(Debug, Serialize)]
pub(crate) struct Shown {
    id: String,
    state: DeliveryState,
    event: String,
    name: String,
    listener: String,
    attempts: u32,
    next_attempt_at: Option<String>,
    closed_at: Option<String>,
    last_error: Option<String>,
}

impl Shown {
    /// Shows a row. `paused`: its listener is disabled, so no attempt is made even if one is due.
    pub(crate) fn of(row: DeliveryRow, clock: &dyn Clock, paused: bool) -> Self {
        // Due times are in steady time, and are shown in wall time.
        let on_the_wall = |due: Millis| clock.wall_ms().saturating_add(due.saturating_sub(clock.steady_ms()));
        Self {
            id: row.key.id(),
            state: row.state,
            event: row.event_id,
            name: row.event_name,
            listener: row.listener,
            attempts: row.attempts,
            next_attempt_at: row.due.filter(|_| !paused).map(|due| rfc3339(on_the_wall(due))),
            closed_at: row.closed_at.map(rfc3339),
            last_error: row.last_error,
        }
    }
}

/// An attempt as it is shown.
#[derive(Debug, Serialize)]
pub(crate) struct ShownAttempt {
    n: u32,
    started_at: String,
    duration_ms: Millis,
    outcome: String,
    status: Option<u16>,
    error: Option<String>,
    remote: Option<String>,
    response_headers: Option<Box<RawValue>>,
    response_body: String,
    next_attempt_at: Option<String>,
}

/// A receiver's bytes as text. Invalid UTF-8, and control characters other than tabs and line ends, are shown as
/// U+FFFD; JSON would write each control character in six bytes.
fn readable(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    let unreadable = |c: char| c.is_control() && !matches!(c, '\t' | '\n' | '\r');
    if text.contains(unreadable) { text.replace(unreadable, "\u{fffd}") } else { text.into_owned() }
}

impl From<Attempt> for ShownAttempt {
    fn from(attempt: Attempt) -> Self {
        Self {
            n: attempt.n,
            started_at: rfc3339(attempt.started_at),
            duration_ms: millis(attempt.duration),
            outcome: attempt.outcome,
            status: attempt.status,
            error: attempt.error,
            remote: attempt.remote,
            // The store has them as a JSON object of strings.
            response_headers: attempt.response_headers.and_then(|json| RawValue::from_string(json).ok()),
            response_body: readable(&attempt.response_body),
            next_attempt_at: attempt.next_at.map(rfc3339),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // covers: G032
    #[test]
    fn what_is_unreadable_takes_no_more_than_thrice_its_size() {
        assert_eq!(readable("a\tb\r\nü€".as_bytes()), "a\tb\r\nü€");
        assert_eq!(readable(b"a\0b\x1b[0m\xff"), "a\u{fffd}b\u{fffd}[0m\u{fffd}");
        for byte in 0..=255 {
            let written = serde_json::to_string(&readable(&[byte; 1_000])).unwrap();
            assert!(written.len() <= 3_002, "{byte:#x}: {} bytes", written.len());
        }
    }
}
