//! Identifies callers: a request's app, the holder of a bearer key, and whether a door serves an app.
//!
//! This is decided here for all doors; each door words its own refusals.

use std::sync::Arc;

use tidings_model::app::App;
use tidings_model::secret::SecretString;

use crate::apps::Apps;

/// How a request names its app. It proves nothing.
#[derive(Debug, Clone, Copy)]
pub enum AppBy<'r> {
    /// By the app's id, as in a path.
    Id(&'r str),
    /// By the app's public key.
    Key(&'r str),
    /// By a `Host` header; the port is ignored.
    Host(&'r str),
    /// Not at all: the default app.
    Default,
}

/// The holder of a bearer key.
#[derive(Debug)]
pub enum KeyHolder {
    /// An app's server.
    App(Arc<App>),
    /// The operator, who may act for every app.
    Operator,
}

/// Why a bearer key does not open an app.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CallerError {
    /// The key is neither an app's nor the operator's.
    UnknownKey,
    /// The request names an app that is not there.
    UnknownApp,
    /// The request names another app than the key's.
    OtherApp,
    /// The operator names no app, and there is no default app.
    NoDefault,
}

/// Why a door does not serve an app.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NotServed {
    /// The app does not list the door.
    DoorShut,
    /// The app is not served through any door.
    Disabled,
}

/// Whether the door of this name serves an app.
///
/// # Errors
/// [`NotServed`]: [`NotServed::DoorShut`] also of an app that is disabled.
pub fn check_served(app: &App, door: &str) -> Result<(), NotServed> {
    if !app.doors.has(door) {
        return Err(NotServed::DoorShut);
    }
    if app.enabled { Ok(()) } else { Err(NotServed::Disabled) }
}

impl Apps {
    /// Finds a request's app.
    pub fn find(&self, by: AppBy<'_>) -> Option<Arc<App>> {
        match by {
            AppBy::Id(id) => self.by_id(id),
            AppBy::Key(key) => self.by_public_key(key),
            AppBy::Host(host) => self.by_host(host),
            AppBy::Default => self.default_app(),
        }
    }

    /// The holder of this bearer key. An empty operator key matches nothing.
    pub fn key_holder(&self, key: &str, operator_key: &SecretString) -> Option<KeyHolder> {
        if operator_key.matches(key) {
            return Some(KeyHolder::Operator);
        }
        self.by_key(key).map(KeyHolder::App)
    }

    /// The app that this bearer key gives access to. The request may name the app's id (`requested`).
    ///
    /// # Errors
    /// [`CallerError`]. A caller without a valid key does not learn which apps exist.
    pub fn opened_by(
        &self,
        key: &str,
        operator_key: &SecretString,
        requested: Option<&str>,
    ) -> Result<Arc<App>, CallerError> {
        let holder = self.key_holder(key, operator_key).ok_or(CallerError::UnknownKey)?;
        let requested = requested.map(|id| self.by_id(id).ok_or(CallerError::UnknownApp)).transpose()?;
        match (holder, requested) {
            (KeyHolder::Operator, Some(app)) => Ok(app),
            // The same key may also be an app's API key.
            (KeyHolder::Operator, None) => {
                self.by_key(key).or_else(|| self.default_app()).ok_or(CallerError::NoDefault)
            }
            (KeyHolder::App(own), Some(app)) if own.id != app.id => Err(CallerError::OtherApp),
            (KeyHolder::App(own), _) => Ok(own),
        }
    }
}

#[cfg(test)]
mod tests {
    use tidings_model::app::Doors;

    use super::*;

    fn app(id: &str, default: bool) -> App {
        let api_keys = vec![SecretString::from(format!("api-{id}").as_str())];
        App { api_keys, default, ..App::new(id, format!("key-{id}"), SecretString::default()) }
    }

    // covers: T01, K05
    #[test]
    fn a_bearer_key_opens_its_own_app_and_the_operators_opens_each() {
        let operator = SecretString::from("operator");
        let apps = Apps::new(vec![app("a", true), app("b", false)]).unwrap();
        let opened = |key: &str, requested: Option<&str>| {
            apps.opened_by(key, &operator, requested).map(|app| app.id.as_str().to_owned())
        };
        let table = [
            ("api-a", None, Ok("a")),
            ("api-b", None, Ok("b")),
            ("api-b", Some("b"), Ok("b")),
            ("api-b", Some("a"), Err(CallerError::OtherApp)),
            ("api-b", Some("c"), Err(CallerError::UnknownApp)),
            ("operator", None, Ok("a")),
            ("operator", Some("b"), Ok("b")),
            ("operator", Some("c"), Err(CallerError::UnknownApp)),
            ("key-a", None, Err(CallerError::UnknownKey)),
            // Who has no key learns nothing of apps.
            ("wrong", Some("a"), Err(CallerError::UnknownKey)),
            ("wrong", Some("c"), Err(CallerError::UnknownKey)),
            ("", None, Err(CallerError::UnknownKey)),
        ];
        for (key, requested, expected) in table {
            assert_eq!(opened(key, requested), expected.map(str::to_owned), "{key} {requested:?}");
        }
        let unset = SecretString::default();
        assert_eq!(apps.opened_by("", &unset, Some("a")).unwrap_err(), CallerError::UnknownKey);
        let apps = Apps::new(vec![app("a", false), app("b", false)]).unwrap();
        assert_eq!(apps.opened_by("operator", &operator, None).unwrap_err(), CallerError::NoDefault);
        // Two may have one key; then it opens the app where none is named.
        let same = SecretString::from("api-b");
        assert_eq!(apps.opened_by("api-b", &same, None).unwrap().id.as_str(), "b");
        assert_eq!(apps.opened_by("api-b", &same, Some("a")).unwrap().id.as_str(), "a");
    }

    #[test]
    fn a_door_serves_the_enabled_apps_that_list_it() {
        let shut = App { doors: Doors::Only(vec!["one".to_owned()]), ..app("a", true) };
        assert_eq!((check_served(&shut, "one"), check_served(&shut, "two")), (Ok(()), Err(NotServed::DoorShut)));
        let disabled = App { enabled: false, ..shut };
        assert_eq!(check_served(&disabled, "one"), Err(NotServed::Disabled));
        assert_eq!(check_served(&disabled, "two"), Err(NotServed::DoorShut));
    }
}
