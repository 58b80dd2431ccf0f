//! `[apps.limits]`: what an app may use at most.

use serde::Deserialize;
use tidings_model::app::AppLimits;

use super::check::Check;
use super::value::RawSize;

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawLimits {
    payload: Option<RawSize>,
    listeners: Option<usize>,
    hooks: Option<usize>,
    publishes_per_second: Option<u32>,
}

impl RawLimits {
    pub(super) fn resolve(&self, path: &str, check: &mut Check) -> AppLimits {
        let default = AppLimits::default();
        let payload = self.payload.map(|size| usize::try_from(size.0).unwrap_or(usize::MAX));
        AppLimits {
            payload: check.bounded(&format!("{path}.payload"), payload, default.payload, 1, 64 << 20),
            listeners: self.listeners.unwrap_or(default.listeners),
            hooks: self.hooks.unwrap_or(default.hooks),
            publishes_per_second: self.publishes_per_second.unwrap_or(default.publishes_per_second),
            ..default
        }
    }
}
