//! `[[apps.webhooks]]`: Pusher's app webhooks. Read and checked; without effect in this version.

use serde::Deserialize;

use super::check::Check;

const EVENTS: [&str; 7] = [
    "channel_occupied",
    "channel_vacated",
    "member_added",
    "member_removed",
    "client_event",
    "cache_miss",
    "subscription_count",
];

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawWebhook {
    url: Option<String>,
    events: Vec<String>,
}

/// Checks the webhooks of one app; `path` is `apps[n].webhooks`.
pub(super) fn check_webhooks(path: &str, webhooks: &[RawWebhook], check: &mut Check) {
    for (n, webhook) in webhooks.iter().enumerate() {
        let here = format!("{path}[{n}]");
        if webhook.url.as_deref().unwrap_or_default().is_empty() {
            check.wrong(&here, "a webhook needs a url");
        }
        check.http_url(&format!("{here}.url"), webhook.url.as_deref());
        for (m, event) in webhook.events.iter().enumerate() {
            if !EVENTS.contains(&event.as_str()) {
                check.wrong(
                    &format!("{here}.events[{m}]"),
                    format!("there is no webhook event {event:?}; there are {}", EVENTS.join(", ")),
                );
            }
        }
    }
    if !webhooks.is_empty() {
        check.warn(path, "[[apps.webhooks]] has no effect yet in this version");
    }
}
