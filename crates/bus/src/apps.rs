//! The apps, and which of them a request means: the one that its path names, its key, its host, its API key, the default.

use std::collections::HashMap;
use std::sync::Arc;

use sha2::{Digest, Sha256};
use tidings_model::app::App;

/// Why apps cannot be served together.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AppsError {
    /// Two have one id.
    #[error("two apps have the id {0:?}; ids are unique")]
    SameId(String),
    /// Two have one API key, so a request with it would be either's.
    #[error("the apps {0:?} and {1:?} have an API key in common; give each its own")]
    SameKey(String, String),
    /// Two have one public key.
    #[error("the apps {0:?} and {1:?} have one key; give each its own")]
    SamePublicKey(String, String),
    /// Two are meant by one host.
    #[error("the host {0:?} means two apps; name it in one")]
    SameHost(String),
    /// Two are meant when none is named.
    #[error("the apps {0:?} and {1:?} are both the default; choose one")]
    TwoDefaults(String, String),
}

/// A registry of apps. Made once; shared.
#[derive(Debug, Default)]
pub struct Apps {
    by_id: HashMap<String, Arc<App>>,
    by_public_key: HashMap<String, Arc<App>>,
    by_host: HashMap<String, Arc<App>>,
    /// By a hash of the API key: where a look-up ends says nothing about how far a wrong key was right.
    by_key: HashMap<[u8; 32], Arc<App>>,
    default: Option<Arc<App>>,
}

impl Apps {
    /// A registry of these. An app that is alone is the default.
    ///
    /// # Errors
    /// [`AppsError`] when a request could be meant for two of them.
    pub fn new(apps: Vec<App>) -> Result<Self, AppsError> {
        let alone = apps.len() == 1;
        let mut registry = Self::default();
        for app in apps {
            let app = Arc::new(app);
            let id = app.id.as_str().to_owned();
            if registry.by_id.insert(id.clone(), Arc::clone(&app)).is_some() {
                return Err(AppsError::SameId(id));
            }
            for key in app.api_keys.iter().filter(|key| !key.is_empty()) {
                if let Some(other) = registry.by_key.insert(hash(key.expose()), Arc::clone(&app))
                    && other.id != app.id
                {
                    return Err(AppsError::SameKey(other.id.as_str().to_owned(), id));
                }
            }
            if !app.key.is_empty()
                && let Some(other) = registry.by_public_key.insert(app.key.clone(), Arc::clone(&app))
            {
                return Err(AppsError::SamePublicKey(other.id.as_str().to_owned(), id));
            }
            for host in &app.hosts {
                if registry.by_host.insert(host.to_ascii_lowercase(), Arc::clone(&app)).is_some() {
                    return Err(AppsError::SameHost(host.clone()));
                }
            }
            if app.default || alone {
                if let Some(other) = &registry.default {
                    return Err(AppsError::TwoDefaults(other.id.as_str().to_owned(), id));
                }
                registry.default = Some(Arc::clone(&app));
            }
        }
        Ok(registry)
    }

    /// The app of this id.
    pub fn by_id(&self, id: &str) -> Option<&Arc<App>> {
        self.by_id.get(id)
    }

    /// The app that a presented API key opens.
    pub fn by_key(&self, presented: &str) -> Option<&Arc<App>> {
        let app = self.by_key.get(&hash(presented))?;
        app.api_keys.iter().any(|key| key.matches(presented)).then_some(app)
    }

    /// The app of this public key.
    pub fn by_public_key(&self, key: &str) -> Option<&Arc<App>> {
        self.by_public_key.get(key)
    }

    /// The app that a `Host` header means; its port doesn't count.
    pub fn by_host(&self, host: &str) -> Option<&Arc<App>> {
        let name =
            host.rsplit_once(':').filter(|(_, port)| port.bytes().all(|b| b.is_ascii_digit())).map_or(host, |h| h.0);
        self.by_host.get(&name.to_ascii_lowercase())
    }

    /// All of them, in no order.
    pub fn all(&self) -> impl Iterator<Item = &Arc<App>> {
        self.by_id.values()
    }

    /// The app of requests that name none.
    pub fn default_app(&self) -> Option<&Arc<App>> {
        self.default.as_ref()
    }
}

fn hash(key: &str) -> [u8; 32] {
    Sha256::digest(key.as_bytes()).into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use tidings_model::app::Token;

    fn app(id: &str, keys: &[&str], default: bool) -> App {
        let api_keys = keys.iter().map(|key| Token::from(*key)).collect();
        App {
            api_keys,
            default,
            hosts: vec![format!("{id}.example")],
            ..App::new(id, format!("key-{id}"), Token::default())
        }
    }

    // covers: T01, K05
    #[test]
    fn a_key_opens_its_app_and_no_other() {
        let apps = Apps::new(vec![app("a", &["ka", "", "kaa"], true), app("b", &["kb"], false)]).unwrap();
        let id = |key: &str| apps.by_key(key).map(|app| app.id.as_str().to_owned());
        assert_eq!(id("ka").as_deref(), Some("a"));
        assert_eq!(id("kaa").as_deref(), Some("a"));
        assert_eq!(id("kb").as_deref(), Some("b"));
        for wrong in ["", "k", "kab", "KA"] {
            assert_eq!(id(wrong), None, "{wrong}");
        }
        assert_eq!(apps.default_app().map(|app| app.id.as_str()), Some("a"));
    }

    #[test]
    fn a_public_key_and_a_host_mean_their_app() {
        let apps = Apps::new(vec![app("a", &[], false), app("b", &[], false)]).unwrap();
        let id = |app: Option<&Arc<App>>| app.map(|app| app.id.as_str().to_owned());
        assert_eq!(id(apps.by_public_key("key-b")).as_deref(), Some("b"));
        assert_eq!(id(apps.by_public_key("key-c")), None);
        for host in ["b.example", "B.Example:8000"] {
            assert_eq!(id(apps.by_host(host)).as_deref(), Some("b"), "{host}");
        }
        for host in ["example", "c.example", "", ":80", "[::1]:80"] {
            assert_eq!(id(apps.by_host(host)), None, "{host}");
        }
    }

    #[test]
    fn what_could_mean_two_apps_is_refused() {
        let wrong = |apps| Apps::new(apps).unwrap_err();
        assert_eq!(wrong(vec![app("a", &[], false), app("a", &[], false)]), AppsError::SameId("a".into()));
        assert_eq!(
            wrong(vec![app("a", &["k"], false), app("b", &["k"], false)]),
            AppsError::SameKey("a".into(), "b".into())
        );
        assert_eq!(
            wrong(vec![app("a", &[], true), app("b", &[], true)]),
            AppsError::TwoDefaults("a".into(), "b".into())
        );
        assert!(Apps::new(vec![app("a", &[], false), app("b", &[], false)]).unwrap().default_app().is_none());
    }
}
