//! Apps: reading them from requests, and showing them. Secrets are shown once, in the response that creates the app.

use serde::Serialize;
use serde_json::{Map, Value, json};
use tidings_bus::{Spec, StoredApp};
use tidings_model::app::{App, AppLimits, Doors, UnknownHooks};
use tidings_model::clock::rfc3339;
use tidings_model::webhook::kind_name;

use crate::problem::{Code, Problem};

/// The keys of an app that are secrets.
const SECRETS: [&str; 2] = ["secret", "token_hmac_secret"];

/// Reads an app's settings as JSON; the config's parser validates them.
pub(crate) fn read(body: &[u8]) -> Result<Spec, Problem> {
    let raw = crate::fields::json(body)?;
    match serde_json::from_str(raw.get()) {
        Ok(Value::Object(spec)) => Ok(spec),
        _ => Err(Problem::new(Code::InvalidField, "the body is not an object").remedy("send a JSON object")),
    }
}

/// Adds what a new app needs and the request leaves out: a key, and random secrets.
pub(crate) fn complete(spec: &mut Spec) -> Result<(), Problem> {
    // `null` means the same as leaving the setting out.
    spec.retain(|_, value| !value.is_null());
    for name in ["key", "secret", "token_hmac_secret"] {
        if !spec.contains_key(name) {
            spec.insert(name.to_owned(), random()?.into());
        }
    }
    if !spec.contains_key("api_keys") {
        spec.insert("api_keys".to_owned(), json!([random()?]));
    }
    Ok(())
}

fn random() -> Result<String, Problem> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).map_err(|error| {
        tracing::error!(%error, "generating a key failed: no random bytes");
        Problem::new(Code::Internal, "reading random bytes from the system failed").remedy("try again")
    })?;
    Ok(bytes.iter().fold(String::with_capacity(32), |hex, byte| hex + &format!("{byte:02x}")))
}

/// An app as it is shown.
#[derive(Debug, Serialize)]
pub(crate) struct Shown {
    id: String,
    key: String,
    /// `config`: read-only here; `store`: made over the API.
    source: &'static str,
    enabled: bool,
    default: bool,
    doors: Vec<String>,
    unknown_hooks: UnknownHooks,
    hosts: Vec<String>,
    allowed_origins: Vec<String>,
    client_events: bool,
    limits: Limits,
    #[serde(skip_serializing_if = "Option::is_none")]
    channels: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    namespaces: Option<Value>,
    webhooks: Vec<Value>,
    #[serde(flatten)]
    secrets: Map<String, Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    created_at: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    updated_at: Option<String>,
}

#[derive(Debug, Serialize)]
struct Limits {
    payload: usize,
    batch: usize,
    listeners: usize,
    hooks: usize,
    matches: usize,
    catalogue: usize,
    publishes_per_second: u32,
    sessions: usize,
    channels_per_session: usize,
    message: usize,
    client_events_per_second: u32,
    channel_events_per_session: u32,
    channel_events_per_address: u32,
    channel_events: u32,
    member_id: usize,
    member_info: usize,
    watchlist: usize,
    history: usize,
}

impl From<&AppLimits> for Limits {
    fn from(limits: &AppLimits) -> Self {
        let AppLimits {
            payload,
            batch,
            listeners,
            hooks,
            matches,
            catalogue,
            publishes_per_second,
            sessions,
            channels_per_session,
            message,
            client_events_per_second,
            channel_events_per_session,
            channel_events_per_address,
            channel_events,
            member_id,
            member_info,
            watchlist,
            history,
        } = *limits;
        Self {
            payload,
            batch,
            listeners,
            hooks,
            matches,
            catalogue,
            publishes_per_second,
            sessions,
            channels_per_session,
            message,
            client_events_per_second,
            channel_events_per_session,
            channel_events_per_address,
            channel_events,
            member_id,
            member_info,
            watchlist,
            history,
        }
    }
}

impl Shown {
    /// An app of the config, or with `stored` an app of the store.
    pub(crate) fn of(app: &App, stored: Option<&StoredApp>) -> Self {
        let spec = |name: &str| stored.and_then(|stored| stored.spec.get(name).cloned());
        Self {
            id: app.id.as_str().to_owned(),
            key: app.key.clone(),
            source: if stored.is_some() { "store" } else { "config" },
            enabled: app.enabled,
            default: app.default,
            doors: match &app.doors {
                Doors::All => vec!["*".to_owned()],
                Doors::Only(names) => names.clone(),
            },
            unknown_hooks: app.unknown_hooks,
            hosts: app.hosts.clone(),
            allowed_origins: app.allowed_origins.clone(),
            client_events: app.client_events,
            limits: Limits::from(&app.limits),
            channels: spec("channels"),
            namespaces: spec("namespaces"),
            webhooks: app.webhooks.iter().map(webhook).collect(),
            secrets: Map::new(),
            created_at: stored.map(|stored| rfc3339(stored.created_at)),
            updated_at: stored.map(|stored| rfc3339(stored.updated_at)),
        }
    }

    /// An app with its secrets, for the response that creates it.
    pub(crate) fn with_secrets(stored: &StoredApp) -> Self {
        let mut secrets = Map::new();
        for name in SECRETS.into_iter().chain(["api_keys"]) {
            if let Some(value) = stored.spec.get(name) {
                secrets.insert(name.to_owned(), value.clone());
            }
        }
        Self { secrets, ..Self::of(&stored.app, Some(stored)) }
    }
}

fn webhook(webhook: &tidings_model::webhook::Webhook) -> Value {
    json!({
        "url": webhook.url.as_str(),
        "events": webhook.events.iter().map(|kind| kind_name(*kind)).collect::<Vec<_>>(),
        "batch": webhook.batch,
        "filter": {
            "channel_name_starts_with": webhook.starts_with,
            "channel_name_ends_with": webhook.ends_with,
        },
    })
}
