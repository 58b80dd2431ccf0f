//! The app: a tenant. Everything else belongs to one.

use std::time::Duration;

use crate::id::AppId;
use crate::policy::Namespaces;
use crate::secret::SecretString;
use crate::token::TokenKeys;
use crate::webhook::Webhook;

/// The doors that serve an app; the others answer 404.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Doors {
    /// All doors of the server.
    #[default]
    All,
    /// The doors with these names.
    Only(Vec<String>),
}

impl Doors {
    /// Whether the door of this name is open.
    pub fn has(&self, door: &str) -> bool {
        match self {
            Self::All => true,
            Self::Only(names) => names.iter().any(|name| name == door),
        }
    }
}

/// The limits of an app.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AppLimits {
    /// Bytes of one event's data.
    pub payload: usize,
    /// Events of one batch.
    pub batch: usize,
    /// The number of listeners.
    pub listeners: usize,
    /// The number of hooks.
    pub hooks: usize,
    /// Bytes that the matches of all listeners may take compiled, their caches included.
    pub matches: usize,
    /// Bytes of all other data of hooks and listeners: schemas, URLs, headers, descriptions.
    pub catalogue: usize,
    /// Publishes per second over the API, as a token bucket of one second; 0 sets no limit.
    pub publishes_per_second: u32,
    /// Live sessions at one time, on one node; 0 sets no limit.
    pub sessions: usize,
    /// Channels that one session may be in.
    pub channels_per_session: usize,
    /// Bytes of one message that a client sends.
    pub message: usize,
    /// Client events per second of one session, as a token bucket of one second.
    pub client_events_per_second: u32,
    /// Channel events (arrivals, counts, cache misses) that one session may cause in a minute, as a token bucket; 0
    /// sets no limit.
    pub channel_events_per_session: u32,
    /// The same for all sessions of one public address.
    pub channel_events_per_address: u32,
    /// The same for all clients of the app, on one node.
    pub channel_events: u32,
    /// Characters of a user's id, as a session presents it.
    pub member_id: usize,
    /// Bytes of a member's info.
    pub member_info: usize,
    /// Users whom one signed-in session may watch; 0: watchlists are off, and no user is seen as online.
    pub watchlist: usize,
    /// Bytes of history and cached events that the app's channels may keep in memory.
    pub history: usize,
}

impl Default for AppLimits {
    fn default() -> Self {
        Self {
            payload: 10 * 1024,
            batch: 10,
            listeners: 100_000,
            hooks: 10_000,
            matches: 64 << 20,
            catalogue: 256 << 20,
            publishes_per_second: 0,
            sessions: 0,
            channels_per_session: 1_000,
            message: 128 << 10,
            client_events_per_second: 10,
            channel_events_per_session: 1_000,
            channel_events_per_address: 6_000,
            channel_events: 60_000,
            member_id: 128,
            member_info: 1024,
            watchlist: 100,
            history: 64 << 20,
        }
    }
}

/// How events are handled whose name is no hook.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum UnknownHooks {
    /// They are sent to the live sessions of their channels.
    #[default]
    Accept,
    /// The Tidings API refuses an event without channels, and one whose name is so near to a hook's that the hook was
    /// probably intended.
    Refuse,
}

/// A tenant.
#[derive(Debug, Clone)]
pub struct App {
    /// Its id, as in `/a/{app id}`.
    pub id: AppId,
    /// Its public key.
    pub key: String,
    /// Signs requests of the app's servers (Pusher's HTTP API).
    pub secret: SecretString,
    /// Each gives access to the Tidings API for this app.
    pub api_keys: Vec<SecretString>,
    /// The keys that verify its clients' tokens.
    pub tokens: TokenKeys,
    /// Whether requests that name no app belong to this one.
    pub default: bool,
    /// Whether it is served at all.
    pub enabled: bool,
    /// The doors that serve it.
    pub doors: Doors,
    /// How events are handled whose name is no hook.
    pub unknown_hooks: UnknownHooks,
    /// Host names of this app.
    pub hosts: Vec<String>,
    /// Origins of browsers that may connect: `*`, or `https://host[:port]`; `*.` before the host means all of its
    /// subdomains.
    pub allowed_origins: Vec<String>,
    /// Whether clients may send events to the other clients in a private or presence channel.
    pub client_events: bool,
    /// How long a Pusher session may take to sign in or to join a private or presence channel; `None`: it need do
    /// neither.
    pub authorize_within: Option<Duration>,
    /// The options of its channels.
    pub namespaces: Namespaces,
    /// Its webhooks for channel events (Pusher Channels, "Webhooks").
    pub webhooks: Vec<Webhook>,
    /// Its limits.
    pub limits: AppLimits,
}

impl App {
    /// An app with this id, key and secret, and defaults for the rest.
    pub fn new(id: impl Into<AppId>, key: impl Into<String>, secret: SecretString) -> Self {
        Self {
            id: id.into(),
            key: key.into(),
            secret,
            api_keys: Vec::new(),
            tokens: TokenKeys::default(),
            default: false,
            enabled: true,
            doors: Doors::All,
            unknown_hooks: UnknownHooks::default(),
            hosts: Vec::new(),
            allowed_origins: vec!["*".to_owned()],
            client_events: true,
            authorize_within: None,
            namespaces: Namespaces::default(),
            webhooks: Vec::new(),
            limits: AppLimits::default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // covers: K01
    #[test]
    fn a_token_never_shows_itself() {
        assert_eq!(format!("{:?}", SecretString::from("hunter2")), "SecretString(hidden)");
    }

    // covers: K05
    #[test]
    fn an_unset_token_opens_nothing() {
        assert!(!SecretString::default().matches(""));
        assert!(SecretString::from("k").matches("k"));
        assert!(!SecretString::from("k").matches("kk"));
    }
}
