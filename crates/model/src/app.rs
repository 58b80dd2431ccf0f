//! The app: a tenant. Everything else belongs to one.

use std::time::Duration;

use crate::id::AppId;
use crate::policy::Namespaces;
use crate::secret::SecretString;
use crate::token::TokenKeys;
use crate::webhook::Webhook;

/// Which doors an app is served through; the others answer 404.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Doors {
    /// All that the server has.
    #[default]
    All,
    /// Those with these names.
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

/// What an app may use at most.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AppLimits {
    /// Bytes of one event's data.
    pub payload: usize,
    /// Events of one batch.
    pub batch: usize,
    /// Listeners.
    pub listeners: usize,
    /// Hooks.
    pub hooks: usize,
    /// Bytes that the matches of all listeners may take compiled, their caches included.
    pub matches: usize,
    /// Bytes of what hooks and listeners say besides: schemas, URLs, headers, descriptions.
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
    /// The same of one public address.
    pub channel_events_per_address: u32,
    /// The same of all clients of the app, on one node.
    pub channel_events: u32,
    /// Characters of a user's id, where a session says whose it is.
    pub member_id: usize,
    /// Bytes of what a member of a channel shows of itself.
    pub member_info: usize,
    /// Users whom one signed-in session may watch; 0: nobody is seen as online, and nobody watches.
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

/// What becomes of an event whose name is no hook.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum UnknownHooks {
    /// It goes to the live sessions of its channels.
    #[default]
    Accept,
    /// The Tidings API refuses it where it names no channel, or a hook's name is so near that it was probably meant.
    Refuse,
}

/// A tenant.
#[derive(Debug, Clone)]
pub struct App {
    /// Its id, as in `/a/{app id}`.
    pub id: AppId,
    /// Its public key.
    pub key: String,
    /// Signs what the app's servers say (Pusher's HTTP API).
    pub secret: SecretString,
    /// Each opens the Tidings API for this app.
    pub api_keys: Vec<SecretString>,
    /// What its clients' tokens are verified with.
    pub tokens: TokenKeys,
    /// Whether requests that name no app belong to this one.
    pub default: bool,
    /// Whether it is served at all.
    pub enabled: bool,
    /// The doors that are open.
    pub doors: Doors,
    /// What becomes of an event whose name is no hook.
    pub unknown_hooks: UnknownHooks,
    /// Host names that mean this app.
    pub hosts: Vec<String>,
    /// Origins of browsers that may connect: `*`, or `https://host[:port]`, the host with `*.` in front for all below
    /// it.
    pub allowed_origins: Vec<String>,
    /// Whether clients may send events to the others in a private or presence channel.
    pub client_events: bool,
    /// How long a Pusher session may take to sign in or to join a private or presence channel; `None`: it need not.
    pub authorize_within: Option<Duration>,
    /// How its channels behave.
    pub namespaces: Namespaces,
    /// Who is told what becomes of its channels, in Pusher's way.
    pub webhooks: Vec<Webhook>,
    /// What it may use at most.
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
