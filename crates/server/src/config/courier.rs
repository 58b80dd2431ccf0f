//! `[courier]`: how deliveries are made. The defaults are courier's own.

use std::fmt;
use std::time::Duration;

use serde::de::{self, Visitor};
use serde::{Deserialize, Deserializer};
use tidings_courier::{KeepAnswers, Settings};
use tidings_model::listener::MAX_CONCURRENCY;
use tidings_model::schedule::Schedule;

use super::check::Check;
use super::value::{RawDuration, RawSize};

const LONGEST_TIMEOUT: Duration = Duration::from_secs(3_600);

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawCourier {
    schedule: Option<Vec<RawDuration>>,
    timeout: Option<RawDuration>,
    concurrency: Option<u32>,
    max_in_flight: Option<usize>,
    per_host: Option<usize>,
    queue: Option<RawSize>,
    retry_after_max: Option<RawDuration>,
    disable_after: Option<RawDuration>,
    keep_answers: Option<RawKeep>,
    lease: Option<RawDuration>,
}

/// `"failures"`, `true` for all answers or `false` for none.
#[derive(Debug, Clone, Copy)]
struct RawKeep(KeepAnswers);

impl<'de> Deserialize<'de> for RawKeep {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Keep).map(Self)
    }
}

struct Keep;

impl Visitor<'_> for Keep {
    type Value = KeepAnswers;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("\"failures\", true or false")
    }

    fn visit_bool<E: de::Error>(self, all: bool) -> Result<KeepAnswers, E> {
        Ok(if all { KeepAnswers::All } else { KeepAnswers::None })
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<KeepAnswers, E> {
        match text {
            "failures" => Ok(KeepAnswers::Failures),
            "true" => Ok(KeepAnswers::All),
            "false" => Ok(KeepAnswers::None),
            _ => Err(E::invalid_value(de::Unexpected::Str(text), &self)),
        }
    }
}

impl RawCourier {
    pub(super) fn resolve(&self, check: &mut Check) -> Settings {
        let default = Settings::default();
        let given = |raw: Option<RawDuration>, default: Duration| raw.map_or(default, |raw| raw.0);
        let timeout = given(self.timeout, default.timeout);
        if timeout.is_zero() || timeout > LONGEST_TIMEOUT {
            check.wrong("courier.timeout", "courier.timeout must be longer than 0s and at most 1h");
        }
        let lease = given(self.lease, default.lease);
        if lease < Duration::from_secs(1) {
            check.wrong("courier.lease", "courier.lease must be at least 1s, or slow attempts would be made twice");
        }
        let queue = self.queue.map(|size| usize::try_from(size.0).unwrap_or(usize::MAX));
        Settings {
            schedule: self.schedule(check),
            timeout,
            concurrency: check.bounded(
                "courier.concurrency",
                self.concurrency,
                default.concurrency,
                1,
                MAX_CONCURRENCY,
            ),
            max_in_flight: check.bounded(
                "courier.max_in_flight",
                self.max_in_flight,
                default.max_in_flight,
                1,
                100_000,
            ),
            per_host: check.bounded("courier.per_host", self.per_host, default.per_host, 1, 100_000),
            queue_bytes: check.bounded("courier.queue", queue, default.queue_bytes, 1 << 20, 1 << 40),
            retry_after_max: given(self.retry_after_max, default.retry_after_max),
            disable_after: given(self.disable_after, default.disable_after),
            keep_answers: self.keep_answers.map_or(default.keep_answers, |keep| keep.0),
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
