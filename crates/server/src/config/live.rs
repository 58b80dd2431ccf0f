//! `[live]`: how live sessions are served.

use std::time::Duration;

use serde::Deserialize;

use super::check::Check;
use super::value::{RawDuration, RawSize};
use crate::settings::LiveSettings;

/// The kernel takes no longer one: it counts milliseconds in 31 bits.
const LONGEST_USER_TIMEOUT: Duration = Duration::from_secs(24 * 3_600);

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawLive {
    shards: Option<usize>,
    sessions: Option<usize>,
    session_queue: Option<RawSize>,
    send_buffer: Option<RawSize>,
    user_timeout: Option<RawDuration>,
    inbox: Option<RawSize>,
}

impl RawLive {
    pub(super) fn resolve(&self, check: &mut Check) -> LiveSettings {
        let default = LiveSettings::default();
        let user_timeout = self.user_timeout.map_or(default.user_timeout, |raw| raw.0);
        if user_timeout > LONGEST_USER_TIMEOUT {
            check.wrong("live.user_timeout", "live.user_timeout must be at most 24h; 0s leaves it to the system");
        }
        let kib = 1 << 10;
        LiveSettings {
            shards: check.bounded("live.shards", self.shards, default.shards, 0, 1024),
            sessions: self.sessions.unwrap_or(default.sessions),
            session_queue: size("session_queue", self.session_queue, default.session_queue, (4 * kib, 1 << 30), check),
            send_buffer: size("send_buffer", self.send_buffer, default.send_buffer, (4 * kib, 64 << 20), check),
            user_timeout,
            inbox: size("inbox", self.inbox, default.inbox, (1 << 20, 1 << 40), check),
        }
    }
}

fn size(key: &str, given: Option<RawSize>, default: usize, (least, most): (usize, usize), check: &mut Check) -> usize {
    check.bounded(&format!("live.{key}"), given.map(RawSize::bytes), default, least, most)
}
