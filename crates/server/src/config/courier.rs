//! `[courier]`: how deliveries are made.

use std::time::Duration;

use serde::Deserialize;
use tidings_model::schedule::Schedule;

use super::check::Check;
use super::value::{RawDuration, RawSize};
use crate::settings::CourierSettings;

const HOUR: u64 = 3_600;

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawCourier {
    schedule: Option<Vec<RawDuration>>,
    timeout: Option<RawDuration>,
    concurrency: Option<u32>,
    max_in_flight: Option<usize>,
    queue: Option<RawSize>,
    retry_after_max: Option<RawDuration>,
    disable_after: Option<RawDuration>,
    lease: Option<RawDuration>,
}

impl RawCourier {
    pub(super) fn resolve(&self, check: &mut Check) -> CourierSettings {
        let duration = |given: Option<RawDuration>, seconds: u64| given.map_or(Duration::from_secs(seconds), |raw| raw.0);
        let timeout = duration(self.timeout, 15);
        if timeout.is_zero() || timeout > Duration::from_secs(HOUR) {
            check.wrong("courier.timeout", "courier.timeout must be more than nothing and at most 1h");
        }
        // Room for the answer of the slowest attempt to be written down before another worker may take the delivery.
        let lease = self.lease.map_or_else(|| Duration::from_secs(60).max(timeout * 2), |raw| raw.0);
        if lease <= timeout {
            check.wrong("courier.lease", "courier.lease must be longer than courier.timeout, or a slow attempt would be made twice");
        }
        CourierSettings {
            schedule: self.schedule(check),
            timeout,
            concurrency: check.bounded("courier.concurrency", self.concurrency, 10, 1, tidings_model::listener::MAX_CONCURRENCY),
            max_in_flight: check.bounded("courier.max_in_flight", self.max_in_flight, 512, 1, 100_000),
            queue_bytes: check.bounded("courier.queue", self.queue.and_then(|size| usize::try_from(size.0).ok()), 64 << 20, 1 << 20, 1 << 40),
            retry_after_max: duration(self.retry_after_max, HOUR),
            disable_after: duration(self.disable_after, 120 * HOUR),
            lease,
        }
    }

    fn schedule(&self, check: &mut Check) -> Schedule {
        let Some(waits) = &self.schedule else { return Schedule::default() };
        Schedule::new(waits.iter().map(|raw| raw.0).collect()).unwrap_or_else(|error| {
            check.wrong("courier.schedule", error.to_string());
            Schedule::default()
        })
    }
}
