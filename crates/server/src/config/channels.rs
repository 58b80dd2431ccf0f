//! `[apps.channels]` and `[[apps.namespaces]]`: how an app's channels behave.

use serde::Deserialize;
use tidings_model::channel::ChannelOptions;
use tidings_model::policy::{Namespace, Namespaces};

use super::check::Check;
use super::value::RawDuration;

/// The largest history of one channel, in events: a larger one would be slow to send to a session that joins. The bytes
/// of an app's histories have a limit of their own (`limits.history`).
const MOST_HISTORY: u32 = 1_000_000;
/// The most events that a joining session is sent from the history: they have to fit into its write queue.
const MOST_REPLAY: u32 = 1_000;
const MOST_MEMBERS: usize = 1_000_000;
const MAX_EVENT_NAME: usize = 200;

/// Options of channels outside any namespace.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawChannels {
    public: Option<bool>,
    history_size: Option<u32>,
    history_ttl: Option<RawDuration>,
    replay: Option<u32>,
    presence: Option<bool>,
    join_leave: Option<bool>,
    event_name: Option<String>,
    cache_ttl: Option<RawDuration>,
    subscription_count: Option<bool>,
    max_members: Option<usize>,
}

/// A namespace: options for channels whose names begin alike. Options that it does not set have their defaults, not the
/// values of `[apps.channels]`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawNamespace {
    name: Option<String>,
    r#match: Vec<String>,
    public: Option<bool>,
    history_size: Option<u32>,
    history_ttl: Option<RawDuration>,
    replay: Option<u32>,
    presence: Option<bool>,
    join_leave: Option<bool>,
    event_name: Option<String>,
    cache_ttl: Option<RawDuration>,
    subscription_count: Option<bool>,
    max_members: Option<usize>,
}

/// Resolves the options of one app's channels; `app` is its path, `apps[n]`.
pub(super) fn resolve(app: &str, rest: &RawChannels, namespaces: &[RawNamespace], check: &mut Check) -> Namespaces {
    let rest = rest.resolve(&format!("{app}.channels"), check);
    let path = format!("{app}.namespaces");
    let mut resolved: Vec<Namespace> = Vec::with_capacity(namespaces.len());
    for (n, raw) in namespaces.iter().enumerate() {
        let here = format!("{path}[{n}]");
        let namespace = raw.resolve(&here, check);
        if resolved.iter().any(|other| other.name == namespace.name) && !namespace.name.is_empty() {
            check
                .wrong(&format!("{here}.name"), format!("there are two namespaces \"{}\" in this app", namespace.name));
        }
        for (m, prefix) in namespace.prefixes.iter().enumerate() {
            let others = resolved.iter().flat_map(|other| &other.prefixes);
            if others.chain(&namespace.prefixes[..m]).any(|other| other == prefix) {
                let message =
                    format!("the prefix {prefix:?} is listed already; each prefix can belong to one namespace");
                check.wrong(&format!("{here}.match[{m}]"), message);
            }
        }
        resolved.push(namespace);
    }
    Namespaces::new(&rest, &resolved)
}

impl RawNamespace {
    /// Whether `subscription_count` is on.
    pub(super) fn counts_subscriptions(&self) -> bool {
        self.subscription_count.unwrap_or_default()
    }

    fn resolve(&self, path: &str, check: &mut Check) -> Namespace {
        match self.name.as_deref() {
            None => check.wrong(path, "a namespace needs a name"),
            // Centrifugo's rule, so that its namespaces can be migrated unchanged.
            Some(name)
                if name.len() < 2 || !name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_') =>
            {
                check.wrong(
                    &format!("{path}.name"),
                    "a namespace's name has at least 2 characters from A-Z, a-z, 0-9, - and _",
                );
            }
            Some(_) => {}
        }
        if let Some(m) = self.r#match.iter().position(String::is_empty) {
            let message =
                "an empty prefix would match every channel; put options for all other channels in [apps.channels]";
            check.wrong(&format!("{path}.match[{m}]"), message);
        }
        let Self { name, r#match, public, history_size, history_ttl, presence, join_leave, event_name, .. } =
            self.clone();
        let Self { replay, cache_ttl, subscription_count, max_members, .. } = *self;
        let options = RawChannels {
            public,
            history_size,
            history_ttl,
            replay,
            presence,
            join_leave,
            event_name,
            cache_ttl,
            subscription_count,
            max_members,
        };
        Namespace { name: name.unwrap_or_default(), prefixes: r#match, options: options.resolve(path, check) }
    }
}

impl RawChannels {
    /// Whether `subscription_count` is on.
    pub(super) fn counts_subscriptions(&self) -> bool {
        self.subscription_count.unwrap_or_default()
    }

    fn resolve(&self, path: &str, check: &mut Check) -> ChannelOptions {
        let default = ChannelOptions::default();
        let key = |name: &str| format!("{path}.{name}");
        for (name, given) in [("history_ttl", self.history_ttl), ("cache_ttl", self.cache_ttl)] {
            if given.is_some_and(|ttl| ttl.0.is_zero()) {
                check.wrong(&key(name), format!("{name} must be longer than 0s"));
            }
        }
        let event_name = self.event_name.clone().unwrap_or(default.event_name);
        if event_name.is_empty() || event_name.len() > MAX_EVENT_NAME || event_name.contains(char::is_control) {
            check.wrong(&key("event_name"), format!("an event's name has 1 to {MAX_EVENT_NAME} bytes"));
        }
        let history_size =
            check.bounded(&key("history_size"), self.history_size, default.history_size, 0, MOST_HISTORY);
        let replay = check.bounded(&key("replay"), self.replay, default.replay, 0, MOST_REPLAY);
        if replay > history_size {
            check.warn(
                &key("replay"),
                format!("replay is more than history_size = {history_size}, so at most that many events are sent"),
            );
        }
        ChannelOptions {
            public: self.public.unwrap_or(default.public),
            history_size,
            replay,
            history_ttl: self.history_ttl.map_or(default.history_ttl, |raw| raw.0),
            presence: self.presence.unwrap_or(default.presence),
            join_leave: self.join_leave.unwrap_or(default.join_leave),
            event_name,
            cache_ttl: self.cache_ttl.map(|raw| raw.0),
            subscription_count: self.subscription_count.unwrap_or(default.subscription_count),
            max_members: check.bounded(&key("max_members"), self.max_members, default.max_members, 1, MOST_MEMBERS),
        }
    }
}
