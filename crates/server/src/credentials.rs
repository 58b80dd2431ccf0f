//! `tidings-data/credentials.toml`: what a server made or was given, for the commands that run beside it.

use std::io::ErrorKind;
use std::path::Path;

use anyhow::Context;
use serde::{Deserialize, Serialize};

use crate::files;

/// Where it lies, seen from where the server was started without a config.
pub(crate) const DEFAULT_PATH: &str = "tidings-data/credentials.toml";

/// The file's keys. Those that do not apply are empty.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Credentials {
    /// Where the server answers; rewritten at every start.
    pub(crate) url: String,
    /// The app that the keys belong to.
    pub(crate) app_id: String,
    /// The app's public key.
    pub(crate) key: String,
    /// The app's secret.
    pub(crate) secret: String,
    /// Opens the app's API.
    pub(crate) api_key: String,
    /// Signs the tokens of the app's clients.
    pub(crate) token_hmac_secret: String,
    /// Opens every app's API.
    pub(crate) operator_key: String,
    /// Opens the admin pages.
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
        // The parser's message would quote a line of the file, and every line is a secret.
        let credentials = toml::from_str(&text)
            .map_err(|error| anyhow::anyhow!("{} is damaged: {}", path.display(), error.message()))?;
        Ok(Some(credentials))
    }

    /// Writes the file whole or not at all; only its owner can read it.
    pub(crate) fn save(&self, path: &Path) -> anyhow::Result<()> {
        let table = toml::to_string(self).context("cannot write the credentials as TOML")?;
        let text = format!(
            "# Written by `tidings serve` for the commands that run beside it. Everything here is secret.\n{table}"
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
