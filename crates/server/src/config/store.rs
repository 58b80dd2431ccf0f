//! `[store]`: where things are kept.

use std::path::PathBuf;

use serde::Deserialize;

use super::check::Check;
use crate::settings::StoreSettings;

const DEFAULT_PATH: &str = "tidings-data/tidings.db";

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawStore {
    url: Option<String>,
    sync: Option<String>,
}

impl RawStore {
    pub(super) fn resolve(&self, check: &mut Check) -> StoreSettings {
        let path = match self.url.as_deref().map(path) {
            None => DEFAULT_PATH.into(),
            Some(Ok(path)) => path,
            Some(Err(message)) => {
                check.wrong("store.url", message);
                DEFAULT_PATH.into()
            }
        };
        let durable = match self.sync.as_deref() {
            None | Some("full") => true,
            Some("normal") => {
                check.warn(
                    "store.sync",
                    "with sync = \"normal\" a power cut may take the last commits; publishes answer durable: false",
                );
                false
            }
            Some(other) => {
                check.wrong("store.sync", format!("store.sync must be \"full\" or \"normal\", not {other:?}"));
                true
            }
        };
        StoreSettings { path, durable }
    }
}

fn path(url: &str) -> Result<PathBuf, String> {
    let (scheme, rest) = url.split_once("://").unwrap_or(("", url));
    match scheme {
        "sqlite" if rest.is_empty() || rest.ends_with('/') || rest.contains(['?', '#']) || rest == ":memory:" => {
            Err("a sqlite:// URL is the path of one file and nothing more, as in sqlite://tidings-data/tidings.db"
                .to_owned())
        }
        "sqlite" => Ok(rest.into()),
        "postgres" | "postgresql" => {
            Err("this version cannot keep things in PostgreSQL yet; use sqlite://tidings-data/tidings.db".to_owned())
        }
        _ => Err("the store's URL must begin with sqlite://, as in sqlite://tidings-data/tidings.db".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::path;

    #[test]
    fn a_sqlite_url_is_a_path() {
        assert_eq!(path("sqlite://a/b.db"), Ok("a/b.db".into()));
        assert_eq!(path("sqlite:///a/b.db"), Ok("/a/b.db".into()));
        for bad in [
            "",
            "a.db",
            "sqlite://",
            "sqlite://dir/",
            "sqlite://:memory:",
            "sqlite://a.db?mode=ro",
            "postgres://x",
            "mysql://x",
        ] {
            assert!(path(bad).is_err(), "{bad:?}");
        }
    }
}
