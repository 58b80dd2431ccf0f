//! `[broker]`: how nodes tell each other. This version has one node, so the memory broker is the only one.

use serde::Deserialize;

use super::check::Check;

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawBroker {
    url: Option<String>,
}

impl RawBroker {
    pub(super) fn check(&self, check: &mut Check) {
        let Some(url) = self.url.as_deref() else { return };
        match url.split_once("://").map(|(scheme, _)| scheme) {
            Some("memory") => {}
            Some("redis" | "rediss" | "redis+cluster" | "redis+sentinel") => {
                check.wrong("broker.url", "this version has no Redis broker yet; use memory://");
            }
            _ => check.wrong("broker.url", "the broker's URL must be memory://"),
        }
    }
}
