//! Counts what clients are refused, by app and reason, and logs it with a remedy, at most once a second for each app
//! and reason.

use std::net::IpAddr;

use hashbrown::HashMap;
use parking_lot::Mutex;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;
use tidings_broker::JoinRefused;
use tidings_model::clock::Millis;
use tidings_model::id::AppId;

use crate::traffic::AppValue;

/// The shortest time between two log lines for the same app and reason, in milliseconds.
const LOG_INTERVAL: Millis = 1_000;

/// What a client is refused (to connect, to join …), and why.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Refused {
    /// To connect: no app has this key.
    UnknownKey,
    /// To connect: the app is disabled.
    AppDisabled,
    /// To connect: nothing is at this path.
    WrongPath,
    /// To connect: the server does not support its version of the protocol.
    Version,
    /// To connect: the app does not list the origin of its page.
    Origin,
    /// To connect: the app is at its session limit.
    AppFull,
    /// To connect: the node is at its session limit.
    NodeFull,
    /// To stay connected: it did not authenticate in time.
    NothingProved,
    /// A message: it is not valid in the protocol.
    Malformed,
    /// To join or to sign in: its signature or token is wrong.
    FailedProof,
    /// To join: the channel's name is invalid, or this client may not join it.
    Channel,
    /// To join: the session is at its limit of channels, or the channel at its limit of members.
    Quota,
    /// To send a client event: it sends too many.
    EventRate,
    /// To publish: the app is over its publish rate.
    PublishRate,
    /// To stay connected: it was refused too often.
    Flood,
    /// To stay connected: it reads too slowly.
    Slow,
}

impl Refused {
    /// The refusal to count for a failed join; `None` where a retry may succeed.
    pub fn join(why: &JoinRefused) -> Option<Self> {
        match why {
            JoinRefused::NoProof | JoinRefused::OtherUser => Some(Self::FailedProof),
            JoinRefused::TooManyMembers { .. } => Some(Self::Quota),
            JoinRefused::Unavailable => None,
        }
    }

    /// A word for metrics and logs.
    pub fn reason(self) -> &'static str {
        match self {
            Self::UnknownKey => "unknown_key",
            Self::AppDisabled => "app_disabled",
            Self::WrongPath => "wrong_path",
            Self::Version => "version",
            Self::Origin => "origin",
            Self::AppFull => "app_full",
            Self::NodeFull => "node_full",
            Self::NothingProved => "nothing_proved",
            Self::Malformed => "malformed",
            Self::FailedProof => "failed_proof",
            Self::Channel => "channel",
            Self::Quota => "quota",
            Self::EventRate => "event_rate",
            Self::PublishRate => "publish_rate",
            Self::Flood => "flood",
            Self::Slow => "slow",
        }
    }

    /// What the operator or the app's developer can do about it.
    pub fn remedy(self) -> &'static str {
        match self {
            Self::UnknownKey => "check the key and the host that clients are given; `tidings app list` shows the keys",
            Self::AppDisabled => "`tidings app enable ID`, or `enabled = true` for the app",
            Self::WrongPath => "have clients connect to /app/KEY: set wsHost and wsPort, and no wsPath",
            Self::Version => "update the client library: the server supports protocol versions 4 to 7",
            Self::Origin => "add the page's origin to the app's allowed_origins",
            Self::AppFull => "raise limits.sessions of the app",
            Self::NodeFull => "raise live.sessions and max_connections, or add a node",
            Self::NothingProved => {
                "have clients sign in or join a private channel in time, or raise the app's authorize_within"
            }
            Self::Malformed => "check the client library: its messages are not valid in the protocol",
            Self::FailedProof => {
                "check that the app's auth endpoint signs with the app's key and secret, and this connection's socket \
                id"
            }
            Self::Channel => "check the channel's name, and whether this client may join it",
            Self::Quota => "raise limits.channels_per_session of the app, or max_members of the channel's namespace",
            Self::EventRate => "raise limits.client_events_per_second of the app, or have clients send less",
            Self::PublishRate => "raise limits.publishes_per_second of the app, or have its servers publish less",
            Self::Flood => "find out what this client is: the server disconnects it each time",
            Self::Slow => "raise live.session_queue, or publish less to clients on slow connections",
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Labels {
    app: AppValue,
    reason: &'static str,
}

/// When a refusal was last logged, and how many were not logged since.
#[derive(Debug, Clone, Copy)]
struct LastLine {
    at: Millis,
    suppressed: u64,
}

/// Counts and logs refusals.
#[derive(Debug, Default)]
pub(crate) struct Refusals {
    counted: Family<Labels, Counter>,
    /// By app and reason. Bounded: the apps times the reasons.
    logged: Mutex<HashMap<(AppId, Refused), LastLine>>,
}

impl Refusals {
    pub(crate) fn register(&self, registry: &mut Registry) {
        registry.register("app_refusals", "What clients were refused, by app and reason", self.counted.clone());
    }

    /// Counts a refusal at steady time `now`, and logs it if a line is due. `app` is `None` if the app is unknown.
    pub(crate) fn note(&self, app: Option<&AppId>, why: Refused, client: Option<IpAddr>, now: Millis) {
        let app = app.cloned().unwrap_or_else(|| AppId::from(""));
        let (reason, remedy) = (why.reason(), why.remedy());
        self.counted.get_or_create(&Labels { app: AppValue(app.clone()), reason }).inc();
        let Some(suppressed) = self.due(&app, why, now) else { return };
        let client = client.map(tracing::field::display);
        tracing::warn!(app = app.as_str(), client, reason, suppressed, remedy, "client refused");
    }

    /// The number of refusals that were not logged since the last line, if another line is due.
    fn due(&self, app: &AppId, why: Refused, now: Millis) -> Option<u64> {
        let mut logged = self.logged.lock();
        match logged.get_mut(&(app.clone(), why)) {
            Some(before) if now.saturating_sub(before.at) < LOG_INTERVAL => {
                before.suppressed += 1;
                None
            }
            Some(before) => Some(std::mem::replace(before, LastLine { at: now, suppressed: 0 }).suppressed),
            None => {
                logged.insert((app.clone(), why), LastLine { at: now, suppressed: 0 });
                Some(0)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // covers: G235
    #[test]
    fn each_refusal_is_counted_and_one_line_a_second_says_how_many_there_were() {
        let refusals = Refusals::default();
        let app = AppId::from("1");
        assert_eq!(refusals.due(&app, Refused::FailedProof, 5_000), Some(0));
        for _ in 0..1_000 {
            assert_eq!(refusals.due(&app, Refused::FailedProof, 5_999), None);
        }
        assert_eq!(refusals.due(&app, Refused::Malformed, 5_999), Some(0), "another reason");
        assert_eq!(refusals.due(&AppId::from("2"), Refused::FailedProof, 5_999), Some(0), "another app");
        assert_eq!(refusals.due(&app, Refused::FailedProof, 6_000), Some(1_000));
        assert_eq!(refusals.due(&app, Refused::FailedProof, 6_001), None);

        let mut registry = Registry::default();
        refusals.register(&mut registry);
        refusals.note(Some(&app), Refused::Origin, None, 0);
        refusals.note(Some(&app), Refused::Origin, None, 0);
        refusals.note(None, Refused::UnknownKey, None, 0);
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
        for line in
            [r#"app_refusals_total{app="1",reason="origin"} 2"#, r#"app_refusals_total{app="",reason="unknown_key"} 1"#]
        {
            assert!(text.contains(line), "{text}");
        }
    }
}
