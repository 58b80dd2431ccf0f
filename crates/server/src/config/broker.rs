//! `[broker]`: how nodes exchange messages.

use std::time::Duration;

use serde::Deserialize;
use tidings_engine::{BrokerConfig, RedisSettings};

use super::check::Check;
use super::value::RawDuration;

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawBroker {
    url: Option<String>,
    lease: Option<RawDuration>,
    timeout: Option<RawDuration>,
    keep_over_restart: Option<bool>,
}

impl RawBroker {
    pub(super) fn resolve(&self, check: &mut Check) -> BrokerConfig {
        let seconds = Duration::from_secs;
        let mut bounded = |path: &str, given: Option<RawDuration>, least: Duration, most: Duration| {
            let given = given.map(|given| given.0)?;
            if (least..=most).contains(&given) {
                return Some(given);
            }
            check.wrong(path, format!("{path} must be {least:?} to {most:?}"));
            None
        };
        let lease = bounded("broker.lease", self.lease, seconds(3), seconds(600));
        let timeout = bounded("broker.timeout", self.timeout, Duration::from_millis(100), seconds(60));
        let url = self.url.as_deref().unwrap_or("memory://");
        let memory = BrokerConfig::Memory { keep_over_restart: self.keep_over_restart.unwrap_or(true) };
        if url == "memory://" {
            for (path, is_given) in [("broker.lease", self.lease.is_some()), ("broker.timeout", self.timeout.is_some())]
            {
                if is_given {
                    check.warn(path, format!("{path} is used with Redis only; with memory:// there is one node"));
                }
            }
            return memory;
        }
        if self.keep_over_restart.is_some() {
            check.warn(
                "broker.keep_over_restart",
                "broker.keep_over_restart is used with memory:// only; Redis keeps histories anyway",
            );
        }
        match RedisSettings::new(url) {
            Ok(mut settings) => {
                settings.lease = lease.unwrap_or(settings.lease);
                settings.timeout = timeout.unwrap_or(settings.timeout);
                BrokerConfig::Redis(Box::new(settings))
            }
            Err(error) => {
                check.wrong("broker.url", error.to_string());
                memory
            }
        }
    }
}
