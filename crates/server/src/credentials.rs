//! `tidings-data/credentials.toml`: the keys that a server made at its first start, and its URL, for commands on the
//! same machine.
//!
//! Keys of a config are not copied here: the file names the config, and commands read them there.

use std::io::ErrorKind;
use std::path::Path;

use anyhow::Context;
use serde::{Deserialize, Serialize};

use crate::config::environment::Env;
use crate::config::{self, Loaded};
use crate::files;

/// The file's path, relative to the folder where the server was started without a config.
pub(crate) const DEFAULT_PATH: &str = "tidings-data/credentials.toml";

/// The file's keys. Those that do not apply are empty.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Credentials {
    /// The server's URL; rewritten at every start.
    pub(crate) url: String,
    /// The config file of the last start. Its apps and operator key win over those below. Rewritten at every start.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(crate) config: String,
    /// The app that the keys belong to.
    pub(crate) app_id: String,
    /// The app's public key.
    pub(crate) key: String,
    /// The app's secret.
    pub(crate) secret: String,
    /// An API key of the app.
    pub(crate) api_key: String,
    /// Signs the tokens of the app's clients.
    pub(crate) token_hmac_secret: String,
    /// The operator's key, for the API of every app.
    pub(crate) operator_key: String,
    /// The password of the admin pages.
    pub(crate) admin_password: String,
}

impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Credentials").field("url", &self.url).field("app_id", &self.app_id).finish_non_exhaustive()
    }
}

impl Credentials {
    /// Reads the file; `None` when there is none.
    pub(crate) fn load(path: &Path) -> anyhow::Result<Option<Self>> {
        let text = match std::fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error).with_context(|| format!("cannot read {}", path.display())),
        };
        // Only the parser's short message: the full one would quote a line of the file, and every line is a secret.
        let credentials = toml::from_str(&text)
            .map_err(|error| anyhow::anyhow!("{} is damaged: {}", path.display(), error.message()))?;
        Ok(Some(credentials))
    }

    /// The keys that the server uses: those of its config, and those of this file where the config sets none.
    pub(crate) fn in_use(path: &Path, env: &dyn Env) -> anyhow::Result<Option<Self>> {
        let Some(mut kept) = Self::load(path)? else { return Ok(None) };
        let loaded = match kept.config.as_str() {
            "" => config::without_file(env),
            file => config::load(Path::new(file), env),
        };
        let Loaded { settings, .. } = loaded.map_err(|problems| {
            anyhow::anyhow!(
                "the server's keys are in its config, which cannot be read here:\n{problems}\n\
                give the key with --key or TIDINGS_API_KEY"
            )
        })?;
        if let Some(app) = settings.apps.iter().find(|app| app.default).or(settings.apps.first()) {
            kept.app_id = app.id.to_string();
            kept.key = app.key.clone();
            kept.secret = app.secret.expose().to_owned();
            kept.api_key = app.api_keys.first().map(|key| key.expose().to_owned()).unwrap_or_default();
        }
        if let Some(key) = settings.operator_key {
            kept.operator_key = key.expose().to_owned();
        }
        Ok(Some(kept))
    }

    /// The keys that were made at the first start. Version 0.1.0 also copied keys of its config into the file: an
    /// operator key without a password, and an app with neither a password nor a token secret, are such copies and are
    /// dropped here.
    pub(crate) fn made(mut self) -> Self {
        if self.admin_password.is_empty() {
            self.operator_key.clear();
            if self.token_hmac_secret.is_empty() {
                for copied in [&mut self.app_id, &mut self.key, &mut self.secret, &mut self.api_key] {
                    copied.clear();
                }
            }
        }
        self
    }

    /// Whether it holds an app.
    pub(crate) fn has_app(&self) -> bool {
        !self.key.is_empty() && !self.secret.is_empty()
    }

    /// Writes the file atomically, readable by its owner only.
    pub(crate) fn save(&self, path: &Path) -> anyhow::Result<()> {
        let table = toml::to_string(self).context("cannot write the credentials as TOML")?;
        let text = format!(
            "# Written by `tidings serve`. Keep it and back it up: the app's keys are nowhere else. Everything here is \
            secret.\n{table}"
        );
        files::replace_private(path, text.as_bytes()).with_context(|| {
            format!("cannot write {}; it needs a disk with room that this user may write", path.display())
        })
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_file_of_an_earlier_version_is_read() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("credentials.toml");
        std::fs::write(&path, "url = \"http://x\"\napp_id = \"1\"\nkey = \"k\"\n").unwrap();
        let read = Credentials::load(&path).unwrap().unwrap();
        assert_eq!((read.key.as_str(), read.token_hmac_secret.as_str()), ("k", ""));
    }

    // covers: G332
    #[test]
    fn a_configs_secrets_are_read_there_and_win() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("credentials.toml");
        let secret = dir.path().join("api-key");
        std::fs::write(&secret, "api-key-from-a-file-0000\n").unwrap();
        let config = dir.path().join("tidings.toml");
        let text = format!(
            "[admin]\noperator_key = \"operator-key-of-the-config\"\n[[apps]]\nid = \"7\"\nkey = \"k7\"\n\
            secret = \"secret-of-app-seven-000\"\napi_keys = [{{ file = {secret:?} }}]\n"
        );
        std::fs::write(&config, text).unwrap();
        let none: &[(&str, &str)] = &[];
        let env = none.to_vec();
        assert_eq!(Credentials::in_use(&path, &env).unwrap(), None);
        let made = Credentials { api_key: "made".into(), operator_key: "made".into(), ..Credentials::default() };
        made.save(&path).unwrap();
        assert_eq!(Credentials::in_use(&path, &env).unwrap().unwrap(), made);
        Credentials { config: config.display().to_string(), ..made }.save(&path).unwrap();
        let used = Credentials::in_use(&path, &env).unwrap().unwrap();
        assert_eq!(
            (used.app_id.as_str(), used.api_key.as_str(), used.operator_key.as_str()),
            ("7", "api-key-from-a-file-0000", "operator-key-of-the-config")
        );
        std::fs::remove_file(&config).unwrap();
        let told = format!("{:#}", Credentials::in_use(&path, &env).unwrap_err());
        assert!(told.contains("tidings.toml") && told.contains("--key"), "{told}");
    }

    // covers: G331
    #[test]
    fn what_0_1_0_copied_from_its_config_was_never_made() {
        let kept = |password: &str, token: &str| Credentials {
            app_id: "1".into(),
            key: "k".into(),
            secret: "s".into(),
            api_key: "a".into(),
            operator_key: "o".into(),
            token_hmac_secret: token.into(),
            admin_password: password.into(),
            ..Credentials::default()
        };
        assert_eq!(kept("p", "t").made(), kept("p", "t"));
        assert_eq!(kept("", "t").made(), Credentials { operator_key: String::new(), ..kept("", "t") });
        assert_eq!(kept("", "").made(), Credentials::default());
        // Of a version before 0.1.0, which made no token secret.
        assert_eq!(kept("p", "").made(), kept("p", ""));
    }

    // covers: K01
    #[test]
    fn only_the_owner_reads_them_and_debug_shows_none() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("credentials.toml");
        assert_eq!(Credentials::load(&path).unwrap(), None);
        let mut credentials =
            Credentials { url: "http://x".into(), api_key: "hunter2".into(), ..Credentials::default() };
        credentials.save(&path).unwrap();
        credentials.url = "http://y".into();
        credentials.save(&path).unwrap();
        assert_eq!(Credentials::load(&path).unwrap().as_ref(), Some(&credentials));
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert!(!format!("{credentials:?}").contains("hunter2"));
        std::fs::write(&path, "api_key = hunter2").unwrap();
        assert!(!format!("{:#}", Credentials::load(&path).unwrap_err()).contains("hunter2"));
    }
}
