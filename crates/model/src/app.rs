//! The app: a tenant. Everything else belongs to one.

use std::fmt;

use subtle::ConstantTimeEq;

use crate::id::AppId;

/// A text that must not be shown: keys, secrets, passwords. `Debug` hides it and equality takes the same time wherever the
/// difference is.
#[derive(Clone, Default)]
pub struct Token(String);

impl Token {
    /// The text itself, for the one place that needs it.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// Whether nothing is set.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Compares in constant time; an empty token equals nothing, so that an unset key opens no door.
    pub fn matches(&self, presented: &str) -> bool {
        !self.0.is_empty() && bool::from(self.0.as_bytes().ct_eq(presented.as_bytes()))
    }
}

impl From<String> for Token {
    fn from(text: String) -> Self {
        Self(text)
    }
}

impl From<&str> for Token {
    fn from(text: &str) -> Self {
        Self(text.to_owned())
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_empty() { "Token(unset)" } else { "Token(hidden)" })
    }
}

impl Drop for Token {
    fn drop(&mut self) {
        zeroize::Zeroize::zeroize(&mut self.0);
    }
}

/// A protocol's way in and out that an app may use; one that is not listed answers 404.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Door {
    /// The Tidings API.
    Api,
    /// Pusher Channels.
    Pusher,
    /// Centrifugo.
    Centrifugo,
    /// The WebSub hub, publisher and subscriber.
    Websub,
    /// Log-in and channels by level.
    Accounts,
}

impl Door {
    /// Every door there is.
    pub const ALL: [Self; 5] = [Self::Api, Self::Pusher, Self::Centrifugo, Self::Websub, Self::Accounts];
}

/// What an app may use at most.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AppLimits {
    /// Bytes of one event's data.
    pub payload: usize,
    /// Listeners.
    pub listeners: usize,
    /// Hooks.
    pub hooks: usize,
    /// Publishes per second over the API, as a token bucket of one second; 0 sets no limit.
    pub publishes_per_second: u32,
}

impl Default for AppLimits {
    fn default() -> Self {
        Self { payload: 10 * 1024, listeners: 100_000, hooks: 10_000, publishes_per_second: 0 }
    }
}

/// A tenant.
#[derive(Debug, Clone)]
pub struct App {
    /// Its id, as in `/a/{app id}`.
    pub id: AppId,
    /// Its public key.
    pub key: String,
    /// Signs what the app's servers say (Pusher's HTTP API).
    pub secret: Token,
    /// Each opens the Tidings API for this app.
    pub api_keys: Vec<Token>,
    /// Whether requests that name no app belong to this one.
    pub default: bool,
    /// The doors that are open.
    pub doors: Vec<Door>,
    /// Host names that mean this app.
    pub hosts: Vec<String>,
    /// What it may use at most.
    pub limits: AppLimits,
}

#[cfg(test)]
mod tests {
    use super::*;

    // covers: K01
    #[test]
    fn a_token_never_shows_itself() {
        assert_eq!(format!("{:?}", Token::from("hunter2")), "Token(hidden)");
    }

    // covers: K05
    #[test]
    fn an_unset_token_opens_nothing() {
        assert!(!Token::default().matches(""));
        assert!(Token::from("k").matches("k"));
        assert!(!Token::from("k").matches("kk"));
    }
}
