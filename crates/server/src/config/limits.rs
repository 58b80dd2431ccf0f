//! `[apps.limits]`: the limits of an app.

use serde::Deserialize;
use tidings_model::app::AppLimits;

use super::check::Check;
use super::unbuilt::Unbuilt;
use super::value::RawSize;

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawLimits {
    payload: Option<RawSize>,
    batch: Option<usize>,
    listeners: Option<usize>,
    hooks: Option<usize>,
    matches: Option<RawSize>,
    catalogue: Option<RawSize>,
    publishes_per_second: Option<u32>,
    sessions: Option<usize>,
    channels_per_session: Option<usize>,
    message: Option<RawSize>,
    client_events_per_second: Option<u32>,
    channel_events_per_session: Option<u32>,
    channel_events_per_address: Option<u32>,
    channel_events: Option<u32>,
    member_id: Option<usize>,
    member_info: Option<RawSize>,
    watchlist: Option<usize>,
    history: Option<RawSize>,
    subscriptions: Option<Unbuilt>,
    topics: Option<Unbuilt>,
    feeds: Option<Unbuilt>,
    callbacks_per_host: Option<Unbuilt>,
    hub_requests_per_ip: Option<Unbuilt>,
}

impl RawLimits {
    pub(super) fn resolve(&self, path: &str, check: &mut Check) -> AppLimits {
        let default = AppLimits::default();
        let key = |name: &str| format!("{path}.{name}");
        let mut size = |name: &str, given: Option<RawSize>, default: usize, least: usize, most: usize| {
            check.bounded(&key(name), given.map(RawSize::bytes), default, least, most)
        };
        let payload = size("payload", self.payload, default.payload, 1, 64 << 20);
        let message = size("message", self.message, default.message, 1 << 10, 64 << 20);
        let member_info = size("member_info", self.member_info, default.member_info, 1, 1 << 20);
        let history = size("history", self.history, default.history, 0, 1 << 40);
        let matches = size("matches", self.matches, default.matches, 0, 1 << 40);
        let catalogue = size("catalogue", self.catalogue, default.catalogue, 0, 1 << 40);
        let channels_per_session = check.bounded(
            &key("channels_per_session"),
            self.channels_per_session,
            default.channels_per_session,
            1,
            1_000_000,
        );
        let client_events_per_second = check.bounded(
            &key("client_events_per_second"),
            self.client_events_per_second,
            default.client_events_per_second,
            1,
            1_000_000,
        );
        AppLimits {
            payload,
            batch: check.bounded(&key("batch"), self.batch, default.batch, 1, 1_000),
            listeners: self.listeners.unwrap_or(default.listeners),
            hooks: self.hooks.unwrap_or(default.hooks),
            matches,
            catalogue,
            publishes_per_second: self.publishes_per_second.unwrap_or(default.publishes_per_second),
            sessions: self.sessions.unwrap_or(default.sessions),
            channels_per_session,
            message,
            client_events_per_second,
            channel_events_per_session: self.channel_events_per_session.unwrap_or(default.channel_events_per_session),
            channel_events_per_address: self.channel_events_per_address.unwrap_or(default.channel_events_per_address),
            channel_events: self.channel_events.unwrap_or(default.channel_events),
            member_id: check.bounded(&key("member_id"), self.member_id, default.member_id, 1, 200),
            member_info,
            watchlist: check.bounded(&key("watchlist"), self.watchlist, default.watchlist, 0, 10_000),
            history,
        }
    }
}
