//! `[retention]`: how long events and attempts are kept, and how many bytes.

use std::time::Duration;

use serde::Deserialize;
use tidings_engine::Retention;

use super::check::Check;
use super::value::{RawDuration, RawSize};

const DAY: Duration = Duration::from_secs(24 * 3_600);

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawRetention {
    events: Option<RawDuration>,
    attempts: Option<RawDuration>,
    bytes: Option<RawSize>,
}

impl RawRetention {
    /// The retention. Events, deliveries and attempts are all kept for the longer of the two times, so that no attempt
    /// outlives its event.
    pub(super) fn resolve(&self, check: &mut Check) -> Retention {
        let bytes = check.bounded("retention.bytes", self.bytes.map(|size| size.0), 10 << 30, 1 << 20, u64::MAX);
        let mut kept = |path: &str, given: Option<RawDuration>, default: Duration| match given {
            Some(given) if given.0 < Duration::from_secs(3_600) => {
                check.wrong(path, format!("{path} must be at least 1h"));
                default
            }
            given => given.map_or(default, |given| given.0),
        };
        let age =
            kept("retention.events", self.events, 7 * DAY).max(kept("retention.attempts", self.attempts, 30 * DAY));
        Retention { age, bytes }
    }
}
