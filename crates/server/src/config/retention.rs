//! `[retention]`: how long things are kept.

use std::time::Duration;

use serde::Deserialize;

use super::check::Check;
use super::value::{RawDuration, RawSize};
use crate::settings::RetentionSettings;

const DAY: u64 = 24 * 3_600;

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawRetention {
    events: Option<RawDuration>,
    attempts: Option<RawDuration>,
    bytes: Option<RawSize>,
}

impl RawRetention {
    pub(super) fn resolve(&self, check: &mut Check) -> RetentionSettings {
        RetentionSettings {
            events: self.events.map_or(Duration::from_secs(7 * DAY), |raw| raw.0),
            attempts: self.attempts.map_or(Duration::from_secs(30 * DAY), |raw| raw.0),
            bytes: check.bounded("retention.bytes", self.bytes.map(|size| size.0), 10 << 30, 1 << 20, u64::MAX),
        }
    }
}
