//! The apps, and how a request finds its app: by the id in its path, by public key, host or API key, or the default
//! app.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use parking_lot::{Mutex, RwLock};
use sha2::{Digest, Sha256};
use tidings_model::app::App;
use tidings_model::clock::Millis;
use tidings_model::id::AppId;
use tidings_store::catalogue::AppRecord;
use tokio::sync::Notify;

/// Why apps cannot be served together.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AppsError {
    /// Two apps have the same id.
    #[error("two apps have the id {0:?}; ids are unique")]
    SameId(String),
    /// Two apps have the same API key, so a request with it would be ambiguous.
    #[error("the apps {0:?} and {1:?} have an API key in common; give each its own")]
    SameKey(String, String),
    /// Two apps have the same public key.
    #[error("the apps {0:?} and {1:?} have the same key; give each its own")]
    SamePublicKey(String, String),
    /// Two apps list the same host.
    #[error("the host {0:?} is listed by two apps; list it in one")]
    SameHost(String),
    /// Two apps are marked as the default.
    #[error("the apps {0:?} and {1:?} are both the default; choose one")]
    TwoDefaults(String, String),
}

/// A field of an app's configuration that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WrongField {
    /// The field, such as `limits.payload`; empty for the whole.
    pub field: String,
    /// What is wrong, and how to correct it.
    pub message: String,
}

/// An app's configuration, as JSON with the keys of `[[apps]]` in the config file.
pub type Spec = serde_json::Map<String, serde_json::Value>;

/// Reads an app's configuration. Implemented by the reader of the config file.
pub trait AppReader: Send + Sync + 'static {
    /// The app that a configuration describes.
    ///
    /// # Errors
    /// All wrong fields; never empty.
    fn read(&self, spec: &Spec) -> Result<App, Vec<WrongField>>;
}

/// An app that is kept in the store.
#[derive(Debug, Clone)]
pub struct StoredApp {
    /// The app.
    pub app: Arc<App>,
    /// Its configuration as it was submitted; it contains secrets.
    pub spec: Spec,
    /// The catalogue version of its last change.
    pub version: i64,
    /// When it was created (wall time).
    pub created_at: Millis,
    /// When it was last changed (wall time).
    pub updated_at: Millis,
}

/// What a change of an app means for its live sessions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum AppChange {
    /// The app is no longer served.
    Shut,
    /// The sessions should reconnect to get the app's new configuration.
    Renewed,
}

/// The apps at one moment.
#[derive(Debug, Default)]
struct Registry {
    by_id: HashMap<String, Arc<App>>,
    by_public_key: HashMap<String, Arc<App>>,
    by_host: HashMap<String, Arc<App>>,
    /// By a hash of the API key, so that the time of a look-up reveals nothing about the keys.
    by_key: HashMap<[u8; 32], Arc<App>>,
    default: Option<Arc<App>>,
}

/// All apps: those of the config file, and those in the store.
#[derive(Default)]
pub struct Apps {
    fixed: Vec<Arc<App>>,
    reader: Option<Arc<dyn AppReader>>,
    now: RwLock<Arc<Registry>>,
    stored: RwLock<BTreeMap<String, Arc<StoredApp>>>,
    /// Changes whose sessions have not been notified yet.
    changes: Mutex<Vec<(AppId, AppChange)>>,
    pub(crate) changed: Notify,
}

impl std::fmt::Debug for Apps {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Apps").field("apps", &self.now.read().by_id.len()).finish_non_exhaustive()
    }
}

impl Registry {
    fn add(&mut self, app: &Arc<App>) -> Result<(), AppsError> {
        let id = app.id.as_str().to_owned();
        if self.by_id.insert(id.clone(), Arc::clone(app)).is_some() {
            return Err(AppsError::SameId(id));
        }
        for key in app.api_keys.iter().filter(|key| !key.is_empty()) {
            if let Some(other) = self.by_key.insert(hash(key.expose()), Arc::clone(app))
                && other.id != app.id
            {
                return Err(AppsError::SameKey(other.id.as_str().to_owned(), id));
            }
        }
        if !app.key.is_empty()
            && let Some(other) = self.by_public_key.insert(app.key.clone(), Arc::clone(app))
        {
            return Err(AppsError::SamePublicKey(other.id.as_str().to_owned(), id));
        }
        for host in &app.hosts {
            if self.by_host.insert(host.to_ascii_lowercase(), Arc::clone(app)).is_some() {
                return Err(AppsError::SameHost(host.clone()));
            }
        }
        if app.default {
            if let Some(other) = &self.default {
                return Err(AppsError::TwoDefaults(other.id.as_str().to_owned(), id));
            }
            self.default = Some(Arc::clone(app));
        }
        Ok(())
    }

    fn of(apps: impl IntoIterator<Item = Arc<App>>) -> Result<Self, AppsError> {
        let mut registry = Self::default();
        apps.into_iter().try_for_each(|app| registry.add(&app))?;
        Ok(registry)
    }
}

impl Apps {
    /// The apps of the config file. A single app is the default.
    ///
    /// # Errors
    /// [`AppsError`] when a request could belong to two of them.
    pub fn new(mut apps: Vec<App>) -> Result<Self, AppsError> {
        if let [only] = apps.as_mut_slice() {
            only.default = true;
        }
        let fixed: Vec<_> = apps.into_iter().map(Arc::new).collect();
        let now = RwLock::new(Arc::new(Registry::of(fixed.iter().cloned())?));
        Ok(Self { fixed, now, ..Self::default() })
    }

    /// Sets the reader for apps in the store. Without a reader, those apps are not served.
    #[must_use]
    pub fn read_by(self, reader: Arc<dyn AppReader>) -> Self {
        Self { reader: Some(reader), ..self }
    }

    /// The app with this id.
    pub fn by_id(&self, id: &str) -> Option<Arc<App>> {
        self.now.read().by_id.get(id).cloned()
    }

    /// The app that a presented API key opens.
    pub(crate) fn by_key(&self, presented: &str) -> Option<Arc<App>> {
        let app = self.now.read().by_key.get(&hash(presented)).cloned()?;
        app.api_keys.iter().any(|key| key.matches(presented)).then_some(app)
    }

    /// The app with this public key.
    pub(crate) fn by_public_key(&self, key: &str) -> Option<Arc<App>> {
        self.now.read().by_public_key.get(key).cloned()
    }

    /// The app that lists the host of a `Host` header; the port is ignored.
    pub(crate) fn by_host(&self, host: &str) -> Option<Arc<App>> {
        let name =
            host.rsplit_once(':').filter(|(_, port)| port.bytes().all(|b| b.is_ascii_digit())).map_or(host, |h| h.0);
        self.now.read().by_host.get(&name.to_ascii_lowercase()).cloned()
    }

    /// All apps, in the order of their ids.
    pub fn all(&self) -> Vec<Arc<App>> {
        let mut all: Vec<_> = self.now.read().by_id.values().cloned().collect();
        all.sort_unstable_by(|a, b| a.id.cmp(&b.id));
        all
    }

    /// The app for requests that name none.
    pub(crate) fn default_app(&self) -> Option<Arc<App>> {
        self.now.read().default.clone()
    }

    /// Whether the app is in the config file.
    pub fn is_fixed(&self, id: &str) -> bool {
        self.fixed.iter().any(|app| app.id.as_str() == id)
    }

    /// An app that is kept in the store.
    pub fn stored(&self, id: &str) -> Option<Arc<StoredApp>> {
        self.stored.read().get(id).cloned()
    }

    /// Reads an app's configuration.
    pub(crate) fn read(&self, spec: &Spec) -> Result<App, Vec<WrongField>> {
        let no_reader = || {
            let message =
                "this server does not support apps in its store; configure them in the config file".to_owned();
            vec![WrongField { field: String::new(), message }]
        };
        self.reader.as_ref().ok_or_else(no_reader)?.read(spec)
    }

    /// Checks that each request would still belong to one app if this app replaced the stored one with its id.
    pub(crate) fn check_unique(&self, app: &Arc<App>) -> Result<(), AppsError> {
        let stored = self.stored.read();
        let others = stored.values().map(|other| &other.app).filter(|other| other.id != app.id);
        Registry::of(self.fixed.iter().chain(others).chain([app]).cloned()).map(drop)
    }

    /// Takes over changes from the store. An app that conflicts with another one, because the config file has changed
    /// meanwhile, is not served.
    pub(crate) fn apply_changes(&self, changes: Vec<(AppRecord, bool)>) {
        if changes.is_empty() {
            return;
        }
        let mut stored = self.stored.write();
        for (record, gone) in changes {
            let before = stored.remove(&record.id);
            let now = if gone { None } else { self.parse_record(record).map(Arc::new) };
            if let Some(before) = &before {
                self.record_change(before, now.as_deref());
            }
            if let Some(now) = now {
                stored.insert(now.app.id.as_str().to_owned(), now);
            }
        }
        let mut apps: Vec<_> = self.fixed.clone();
        for other in stored.values() {
            apps.push(Arc::clone(&other.app));
            if let Err(error) = Registry::of(apps.iter().cloned()) {
                tracing::error!(%error, app = %other.app.id, "app in the store conflicts with another; not served");
                apps.pop();
            }
        }
        if let Ok(registry) = Registry::of(apps) {
            *self.now.write() = Arc::new(registry);
        }
        drop(stored);
        self.changed.notify_one();
    }

    fn parse_record(&self, record: AppRecord) -> Option<StoredApp> {
        let spec: Spec = serde_json::from_str(&record.spec).ok()?;
        match self.read(&spec) {
            Ok(app) => Some(StoredApp {
                app: Arc::new(app),
                spec,
                version: record.version,
                created_at: record.created_at,
                updated_at: record.updated_at,
            }),
            Err(wrong) => {
                // Only the number of problems is logged: their messages may quote secrets.
                tracing::error!(
                    app = record.id,
                    problems = wrong.len(),
                    "app in the store has an invalid configuration; it is not served"
                );
                None
            }
        }
    }

    /// Records what a change means for live sessions, which keep the app as it was when they connected.
    fn record_change(&self, before: &StoredApp, now: Option<&StoredApp>) {
        let concerns = |spec: &Spec| {
            let mut spec = spec.clone();
            spec.retain(|key, _| {
                !["webhooks", "api_keys", "hosts", "default", "enabled", "unknown_hooks"].contains(&key.as_str())
            });
            spec
        };
        let change = match now {
            Some(now) if now.app.enabled && concerns(&before.spec) == concerns(&now.spec) => return,
            Some(now) if now.app.enabled => AppChange::Renewed,
            _ => AppChange::Shut,
        };
        self.changes.lock().push((before.app.id.clone(), change));
    }

    /// Takes the apps whose sessions are affected by changes since the last call.
    pub(crate) fn take_changes(&self) -> Vec<(AppId, AppChange)> {
        std::mem::take(&mut *self.changes.lock())
    }
}

/// Digests of everything that must be unique to this app: its keys and hosts. The store has digests because it must not
/// contain the API keys themselves.
pub(crate) fn unique_digests(app: &App) -> Vec<String> {
    let digest = |kind: &str, name: &str| {
        let hash = hash(&format!("{kind}/{name}"));
        hash.iter().fold(String::with_capacity(64), |hex, byte| hex + &format!("{byte:02x}"))
    };
    let keys = app.api_keys.iter().filter(|key| !key.is_empty()).map(|key| digest("api_key", key.expose()));
    let hosts = app.hosts.iter().map(|host| digest("host", &host.to_ascii_lowercase()));
    [digest("key", &app.key)].into_iter().chain(keys).chain(hosts).collect()
}

fn hash(key: &str) -> [u8; 32] {
    Sha256::digest(key.as_bytes()).into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use tidings_model::secret::SecretString;

    fn app(id: &str, keys: &[&str], default: bool) -> App {
        let api_keys = keys.iter().map(|key| SecretString::from(*key)).collect();
        App {
            api_keys,
            default,
            hosts: vec![format!("{id}.example")],
            ..App::new(id, format!("key-{id}"), SecretString::default())
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
        assert_eq!(apps.default_app().map(|app| app.id.clone()), Some("a".into()));
    }

    #[test]
    fn a_public_key_and_a_host_mean_their_app() {
        let apps = Apps::new(vec![app("a", &[], false), app("b", &[], false)]).unwrap();
        let id = |app: Option<Arc<App>>| app.map(|app| app.id.as_str().to_owned());
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
