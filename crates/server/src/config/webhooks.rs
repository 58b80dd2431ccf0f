//! `[[apps.webhooks]]`: Pusher's app webhooks.

use std::collections::BTreeMap;

use serde::Deserialize;
use tidings_model::app::App;
use tidings_model::event::MAX_CHANNEL_LEN;
use tidings_model::listener::{MAX_HEADERS, MAX_URL_LEN, check_header};
use tidings_model::transition::Kind;
use tidings_model::webhook::{MAX_BATCH, MAX_WEBHOOKS, Webhook, kind_name, kind_of_name};

use super::check::Check;
use super::secret::RawSecret;
use crate::settings::Settings;

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawWebhook {
    url: Option<String>,
    events: Vec<String>,
    filter: RawFilter,
    batch: Option<u32>,
    headers: BTreeMap<String, RawSecret>,
}

/// A filter on channel names, with the keys that other servers have for it.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct RawFilter {
    channel_name_starts_with: String,
    channel_name_ends_with: String,
}

/// Resolves the webhooks of one app; `path` is `apps[n].webhooks`. `counts`: `subscription_count` is on for some of its
/// channels.
pub(super) fn resolve(path: &str, webhooks: &[RawWebhook], counts: bool, check: &mut Check) -> Vec<Webhook> {
    if webhooks.len() > MAX_WEBHOOKS {
        check.wrong(path, format!("an app has at most {MAX_WEBHOOKS} webhooks"));
    }
    let mut resolved: Vec<Webhook> = Vec::with_capacity(webhooks.len());
    for (n, raw) in webhooks.iter().enumerate() {
        let here = format!("{path}[{n}]");
        let Some(webhook) = raw.resolve(&here, check) else { continue };
        if resolved.iter().any(|other| other.listener_id() == webhook.listener_id()) {
            check.wrong(&here, "this URL with this filter is listed already; merge the events of both");
        }
        if webhook.events.contains(&Kind::SubscriptionCount) && !counts {
            check.warn(
                &format!("{here}.events"),
                "subscription_count events are only sent for channels with subscription_count = true: set it in \
                [apps.channels] or a namespace",
            );
        }
        resolved.push(webhook);
    }
    resolved
}

/// A warning for each webhook whose URL the egress rules refuse, so that nothing is ever sent there. Host names are not
/// looked up.
pub(crate) fn unreachable(settings: &Settings) -> Vec<String> {
    let webhooks = |app: &App| {
        let refused = app.webhooks.iter().enumerate().filter_map(|(n, webhook)| {
            let refusal = settings.egress.check_url(&webhook.url).err()?;
            Some(format!("app {:?}: nothing will be sent to webhooks[{n}]: {refusal}", app.id.as_str()))
        });
        refused.collect::<Vec<_>>()
    };
    settings.apps.iter().flat_map(webhooks).collect()
}

impl RawWebhook {
    fn resolve(&self, here: &str, check: &mut Check) -> Option<Webhook> {
        let given = self.url.as_deref().unwrap_or_default();
        if given.is_empty() {
            check.wrong(here, "a webhook needs a url");
        } else if given.len() > MAX_URL_LEN {
            check.wrong(&format!("{here}.url"), format!("a URL has at most {MAX_URL_LEN} bytes"));
        }
        let mut events = Vec::with_capacity(self.events.len());
        for (m, name) in self.events.iter().enumerate() {
            match kind_of_name(name) {
                Some(kind) => events.push(kind),
                None => {
                    let all: Vec<_> = Kind::ALL.into_iter().map(kind_name).collect();
                    let message = format!("there is no webhook event {name:?}; there are {}", all.join(", "));
                    check.wrong(&format!("{here}.events[{m}]"), message);
                }
            }
        }
        if self.events.is_empty() {
            check.wrong(here, "a webhook needs events, as in events = [\"channel_occupied\", \"channel_vacated\"]");
        }
        for (key, text) in [
            ("channel_name_starts_with", &self.filter.channel_name_starts_with),
            ("channel_name_ends_with", &self.filter.channel_name_ends_with),
        ] {
            if text.len() > MAX_CHANNEL_LEN {
                check.wrong(
                    &format!("{here}.filter.{key}"),
                    format!("a channel's name has at most {MAX_CHANNEL_LEN} bytes"),
                );
            }
        }
        let url = check.http_url(&format!("{here}.url"), Some(given).filter(|url| !url.is_empty()));
        let headers = self.headers(here, check);
        Some(Webhook {
            url: url?,
            events,
            starts_with: self.filter.channel_name_starts_with.clone(),
            ends_with: self.filter.channel_name_ends_with.clone(),
            batch: check.bounded(&format!("{here}.batch"), self.batch, 1, 1, MAX_BATCH),
            headers,
            format: tidings_door_pusher::FORM,
        })
    }

    fn headers(&self, here: &str, check: &mut Check) -> Vec<(String, tidings_model::secret::SecretString)> {
        if self.headers.len() > MAX_HEADERS {
            check.wrong(&format!("{here}.headers"), format!("a webhook has at most {MAX_HEADERS} headers"));
        }
        let mut headers = Vec::with_capacity(self.headers.len());
        for (name, value) in &self.headers {
            let path = format!("{here}.headers.{name}");
            let Some(value) = check.secret(&path, Some(value)) else { continue };
            if let Err(error) = check_header(name, value.expose()) {
                check.wrong(&path, error.to_string());
            }
            headers.push((name.clone(), value));
        }
        headers
    }
}
