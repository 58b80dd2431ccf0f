//! The apps that the door serves, by id and by API key.

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
    /// Two are meant when none is named.
    #[error("the apps {0:?} and {1:?} are both the default; choose one")]
    TwoDefaults(String, String),
}

/// A registry of apps. Made once; shared.
#[derive(Debug, Default)]
pub struct Apps {
    by_id: HashMap<String, Arc<App>>,
    /// By a hash of the key: where a look-up ends says nothing about how far a wrong key was right.
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
            for key in app.api_keys.iter().filter(|key| !key.is_empty()) {
                if let Some(other) = registry.by_key.insert(hash(key.expose()), Arc::clone(&app))
                    && other.id != app.id
                {
                    return Err(AppsError::SameKey(other.id.as_str().to_owned(), id));
                }
            }
            if app.default || alone {
                if let Some(other) = &registry.default {
                    return Err(AppsError::TwoDefaults(other.id.as_str().to_owned(), id));
                }
                registry.default = Some(Arc::clone(&app));
            }
            if registry.by_id.insert(id.clone(), app).is_some() {
                return Err(AppsError::SameId(id));
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
    use tidings_model::app::{AppLimits, Door, Token};

    fn app(id: &str, keys: &[&str], default: bool) -> App {
        App {
            id: id.into(),
            key: String::new(),
            secret: Token::default(),
            api_keys: keys.iter().map(|key| Token::from(*key)).collect(),
            default,
            doors: vec![Door::Api],
            hosts: Vec::new(),
            limits: AppLimits::default(),
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
