//! `[[apps]]`: the tenants, checked each alone and for conflicts among them.

use std::collections::HashMap;
use std::time::Duration;

use serde::Deserialize;
use tidings_model::app::{App, Doors, UnknownHooks};
use tidings_model::secret::SecretString;
use tidings_model::token::TokenKeys;

use super::channels::{self, RawChannels, RawNamespace};
use super::check::Check;
use super::doors::{DOORS, DoorName};
use super::limits::RawLimits;
use super::origins;
use super::secret::RawSecret;
use super::tokens::RawTokens;
use super::unbuilt::Unbuilt;
use super::value::RawDuration;
use super::webhooks::{self, RawWebhook};

const MAX_ID: usize = 64;
const MAX_KEY: usize = 128;
/// A key with fewer characters can be found by brute force.
const GUESSABLE: usize = 16;

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawApp {
    id: Option<String>,
    key: Option<String>,
    secret: Option<RawSecret>,
    api_keys: Vec<RawSecret>,
    token_hmac_secret: Option<RawSecret>,
    token_rsa_public_key: Option<RawSecret>,
    token_ecdsa_public_key: Option<RawSecret>,
    token_ed25519_public_key: Option<RawSecret>,
    jwks_url: Option<Unbuilt>,
    default: bool,
    enabled: Option<bool>,
    doors: Option<Vec<DoorName>>,
    unknown_hooks: Option<UnknownHooks>,
    hosts: Vec<String>,
    allowed_origins: Option<Vec<String>>,
    client_events: Option<bool>,
    authorize_within: Option<RawDuration>,
    limits: RawLimits,
    channels: RawChannels,
    namespaces: Vec<RawNamespace>,
    webhooks: Vec<RawWebhook>,
    websub: Option<Unbuilt>,
    centrifugo: Option<Unbuilt>,
    accounts: Option<Unbuilt>,
}

/// Resolves the apps: checks each alone, and then against the others.
pub(super) fn resolve(raw: &[RawApp], check: &mut Check) -> Vec<App> {
    let mut apps: Vec<App> = raw.iter().enumerate().map(|(n, app)| app.resolve(&format!("apps[{n}]"), check)).collect();
    check_unique(&apps, check);
    let defaults: Vec<usize> = (0..apps.len()).filter(|&n| apps[n].default).collect();
    for n in defaults.iter().skip(1) {
        check.wrong(
            &format!("apps[{n}].default"),
            format!("only one app can be the default, and app \"{}\" is", apps[defaults[0]].id),
        );
    }
    if let [only] = apps.as_mut_slice() {
        only.default = true;
    }
    apps
}

impl RawApp {
    fn resolve(&self, path: &str, check: &mut Check) -> App {
        let key = |name: &str| format!("{path}.{name}");
        let id = self.id.clone().unwrap_or_default();
        if self.id.is_none() {
            check.wrong(&key("id"), "an app needs an id, as in id = \"1\"");
        } else if id.is_empty()
            || id.len() > MAX_ID
            || !id.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
        {
            check.wrong(&key("id"), format!("an app's id has 1 to {MAX_ID} characters from A-Z, a-z, 0-9, - and _"));
        }
        let app_key = self.key.clone().unwrap_or_default();
        if self.key.is_none() {
            check.wrong(&key("key"), "an app needs a key; it is public, and unique among the apps");
        } else if app_key.is_empty()
            || app_key.len() > MAX_KEY
            || !app_key.bytes().all(|b| b.is_ascii_graphic() && !b"/?#%".contains(&b))
        {
            check.wrong(
                &key("key"),
                format!("an app's key is part of URLs: 1 to {MAX_KEY} visible ASCII characters without / ? # %"),
            );
        }
        let app = App::new(id, app_key, check.secret(&key("secret"), self.secret.as_ref()).unwrap_or_default());
        let allowed_origins = match &self.allowed_origins {
            Some(given) => origins::resolve(&key("allowed_origins"), given, check),
            None => app.allowed_origins,
        };
        App {
            api_keys: self.api_keys(path, check),
            tokens: self.tokens(path, check),
            default: self.default,
            enabled: self.enabled.unwrap_or(app.enabled),
            doors: self.doors(),
            unknown_hooks: self.unknown_hooks.unwrap_or_default(),
            hosts: self.hosts(path, check),
            allowed_origins,
            client_events: self.client_events.unwrap_or(app.client_events),
            authorize_within: self.authorize_within(path, check),
            namespaces: channels::resolve(path, &self.channels, &self.namespaces, check),
            webhooks: webhooks::resolve(&key("webhooks"), &self.webhooks, self.counts_subscriptions(), check),
            limits: self.limits.resolve(&key("limits"), check),
            ..app
        }
    }

    fn doors(&self) -> Doors {
        Doors::Only(match &self.doors {
            Some(names) => names.iter().map(|DoorName(name)| name.clone()).collect(),
            None => DOORS.map(str::to_owned).to_vec(),
        })
    }

    fn api_keys(&self, path: &str, check: &mut Check) -> Vec<SecretString> {
        let mut keys = Vec::with_capacity(self.api_keys.len());
        for (n, secret) in self.api_keys.iter().enumerate() {
            let here = format!("{path}.api_keys[{n}]");
            if let Some(key) = check.secret(&here, Some(secret)) {
                check_bearer(&here, &key, check);
                keys.push(key);
            }
        }
        if self.api_keys.is_empty() {
            check.warn(path, "this app has no api_keys: only the operator key can publish for it");
        }
        keys
    }

    fn tokens(&self, path: &str, check: &mut Check) -> TokenKeys {
        let raw = RawTokens {
            hmac: self.token_hmac_secret.as_ref(),
            rsa: self.token_rsa_public_key.as_ref(),
            ecdsa: self.token_ecdsa_public_key.as_ref(),
            ed25519: self.token_ed25519_public_key.as_ref(),
        };
        raw.resolve(path, check)
    }

    fn authorize_within(&self, path: &str, check: &mut Check) -> Option<Duration> {
        let given = self.authorize_within?.0;
        if given.is_zero() {
            check.wrong(
                &format!("{path}.authorize_within"),
                "authorize_within must be longer than 0s, as in \"30s\"; leave the key out for no limit",
            );
        }
        Some(given)
    }

    fn hosts(&self, path: &str, check: &mut Check) -> Vec<String> {
        let mut hosts = Vec::with_capacity(self.hosts.len());
        for (n, host) in self.hosts.iter().enumerate() {
            if host.is_empty() || host.contains(['/', ':', ' ']) {
                check.wrong(
                    &format!("{path}.hosts[{n}]"),
                    "a host is a name alone, without scheme, port or path, as in \"push.example.com\"",
                );
            }
            hosts.push(host.to_ascii_lowercase());
        }
        hosts
    }

    fn counts_subscriptions(&self) -> bool {
        self.channels.counts_subscriptions() || self.namespaces.iter().any(RawNamespace::counts_subscriptions)
    }
}

/// Warns of a bearer key that cannot be sent in an `Authorization` header or can be guessed.
pub(super) fn check_bearer(path: &str, key: &SecretString, check: &mut Check) {
    let text = key.expose();
    if !text.bytes().all(|b| b.is_ascii_graphic()) {
        check.warn(
            path,
            "this key holds characters that no client can send in a header; use visible ASCII without spaces",
        );
    } else if text.len() < GUESSABLE {
        check.warn(
            path,
            format!(
                "this key has fewer than {GUESSABLE} characters and can be guessed; `tidings init` makes better ones"
            ),
        );
    }
}

/// Checks that ids, keys, API keys and hosts each name one app.
fn check_unique(apps: &[App], check: &mut Check) {
    let mut seen: HashMap<(&str, String), usize> = HashMap::new();
    for (n, app) in apps.iter().enumerate() {
        let here = |rest: &str| format!("apps[{n}].{rest}");
        let mut names = vec![("id", here("id"), app.id.to_string()), ("key", here("key"), app.key.clone())];
        let api_keys = app.api_keys.iter().enumerate();
        names.extend(api_keys.map(|(m, key)| ("API key", here(&format!("api_keys[{m}]")), key.expose().to_owned())));
        names
            .extend(app.hosts.iter().enumerate().map(|(m, host)| ("host", here(&format!("hosts[{m}]")), host.clone())));
        for (what, path, name) in names {
            if name.is_empty() {
                continue;
            }
            match seen.get(&(what, name.clone())) {
                // The value may be a secret, so the message names only its path.
                Some(&first) if first == n => check.wrong(&path, format!("this {what} is listed twice")),
                Some(&first) => check
                    .wrong(&path, format!("this {what} belongs to apps[{first}] already; each {what} names one app")),
                None => {
                    seen.insert((what, name), n);
                }
            }
        }
    }
}
