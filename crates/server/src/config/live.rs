//! `[live]`: how live sessions are served.

use std::time::Duration;

use serde::Deserialize;

use super::check::Check;
use super::value::{RawDuration, RawSize};
use crate::settings::LiveSettings;

/// A client that has not reconnected by then will not.
const LONGEST_REJOIN: Duration = Duration::from_secs(3_600);
/// The kernel accepts no longer one: it counts milliseconds in 31 bits.
const LONGEST_USER_TIMEOUT: Duration = Duration::from_secs(24 * 3_600);

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawLive {
    shards: Option<usize>,
    sessions: Option<usize>,
    session_queue: Option<RawSize>,
    send_buffer: Option<RawSize>,
    receive_buffer: Option<RawSize>,
    user_timeout: Option<RawDuration>,
    inbox: Option<RawSize>,
    activity_timeout: Option<RawDuration>,
    pong_timeout: Option<RawDuration>,
    rejoin_within: Option<RawDuration>,
}

impl RawLive {
    pub(super) fn resolve(&self, check: &mut Check) -> LiveSettings {
        let LiveSettings { shards, sessions: default, receive_buffer, activity_timeout, pong_timeout, rejoin_within } =
            LiveSettings::default();
        let rejoin_within = self.rejoin_within.map_or(rejoin_within, |raw| raw.0);
        if rejoin_within > LONGEST_REJOIN {
            check.wrong("live.rejoin_within", "live.rejoin_within must be at most 1h");
        }
        let user_timeout = self.user_timeout.map_or(default.user_timeout, |raw| raw.0);
        if user_timeout > LONGEST_USER_TIMEOUT {
            check.wrong("live.user_timeout", "live.user_timeout must be at most 24h; 0s leaves it to the system");
        }
        let kib = 1 << 10;
        let sessions = tidings_live::Settings {
            sessions: self.sessions.unwrap_or(default.sessions),
            session_queue: size("session_queue", self.session_queue, default.session_queue, (4 * kib, 1 << 30), check),
            send_buffer: size("send_buffer", self.send_buffer, default.send_buffer, (4 * kib, 64 << 20), check),
            user_timeout,
            inbox_bytes: size("inbox", self.inbox, default.inbox_bytes, (1 << 20, 1 << 40), check),
            inbox_age: default.inbox_age,
            door_timeout: default.door_timeout,
        };
        let receive_buffer = size("receive_buffer", self.receive_buffer, receive_buffer, (4 * kib, 64 << 20), check);
        LiveSettings {
            receive_buffer,
            shards: check.bounded("live.shards", self.shards, shards, 0, 1024),
            sessions,
            activity_timeout: seconds("activity_timeout", self.activity_timeout, activity_timeout, check),
            pong_timeout: seconds("pong_timeout", self.pong_timeout, pong_timeout, check),
            rejoin_within,
        }
    }
}

/// Reads a time that the protocol sends to clients in whole seconds, at least one.
fn seconds(key: &str, given: Option<RawDuration>, default: u32, check: &mut Check) -> u32 {
    let Some(RawDuration(given)) = given else { return default };
    match u32::try_from(given.as_secs()) {
        Ok(seconds @ 1..=86_400) if given.subsec_nanos() == 0 => seconds,
        _ => {
            check.wrong(&format!("live.{key}"), format!("live.{key} must be whole seconds, from 1s to 24h"));
            default
        }
    }
}

fn size(key: &str, given: Option<RawSize>, default: usize, (least, most): (usize, usize), check: &mut Check) -> usize {
    check.bounded(&format!("live.{key}"), given.map(RawSize::bytes), default, least, most)
}
