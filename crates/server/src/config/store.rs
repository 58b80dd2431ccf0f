//! `[store]`: the database.

use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;
use tidings_engine::BrokerConfig;
use tidings_model::secret::SecretString;
use tidings_store::postgres::{self, Options};

use super::check::Check;
use super::secret::RawSecret;
use super::value::RawDuration;
use crate::settings::StoreSettings;

const DEFAULT_PATH: &str = "tidings-data/tidings.db";

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawStore {
    url: Option<RawSecret>,
    sync: Option<String>,
    connections: Option<u32>,
    statement_timeout: Option<RawDuration>,
}

/// The kind of database that a URL names.
#[derive(Debug, PartialEq, Eq)]
enum Place {
    File(PathBuf),
    Server,
}

impl RawStore {
    /// Resolves the store. `broker` has to match: nodes that share channels must share pending deliveries too.
    pub(super) fn resolve(&self, broker: &BrokerConfig, check: &mut Check) -> StoreSettings {
        let url = self.url.as_ref().map(|url| check.reveal("store.url", url)).transpose();
        let (url, place) = match url.map(|url| url.map(|url| (place(&url), url))) {
            Ok(None) => (String::new(), Ok(Place::File(DEFAULT_PATH.into()))),
            Ok(Some((place, url))) => (url, place),
            Err(message) => (String::new(), Err(message)),
        };
        // Not for an invalid URL, which is a problem of its own.
        if let (Ok(Place::File(_)), BrokerConfig::Redis(_)) = (&place, broker) {
            check.wrong(
                "broker.url",
                "broker.url is Redis, for several nodes, but store.url is SQLite, which belongs to one: each node \
                would have its own listeners and deliveries; set store.url to postgres://…, or broker.url to memory://",
            );
        }
        let place = place.unwrap_or_else(|message| {
            check.wrong("store.url", message);
            Place::File(DEFAULT_PATH.into())
        });
        let durable = self.durable(check, &place);
        let options = self.options(check, &place);
        match place {
            Place::File(path) => StoreSettings::Sqlite { path, durable },
            Place::Server => StoreSettings::Postgres { url: SecretString::from(url.as_str()), options },
        }
    }

    fn durable(&self, check: &mut Check, place: &Place) -> bool {
        match self.sync.as_deref() {
            None | Some("full") => true,
            Some("normal") if *place == Place::Server => {
                check.wrong("store.sync", "store.sync = \"normal\" is for SQLite; PostgreSQL always syncs");
                true
            }
            Some("normal") => {
                check.warn(
                    "store.sync",
                    "with sync = \"normal\" a power cut may lose the last commits; publishes answer durable: false",
                );
                false
            }
            Some(other) => {
                check.wrong("store.sync", format!("store.sync must be \"full\" or \"normal\", not {other:?}"));
                true
            }
        }
    }

    fn options(&self, check: &mut Check, place: &Place) -> Options {
        let default = Options::default();
        if *place != Place::Server {
            if self.connections.is_some() {
                check.wrong("store.connections", "store.connections is for PostgreSQL; SQLite has none");
            }
            if self.statement_timeout.is_some() {
                check.wrong("store.statement_timeout", "store.statement_timeout is for PostgreSQL; SQLite has none");
            }
        }
        let statement_timeout = self.statement_timeout.map_or(default.statement_timeout, |raw| raw.0);
        if statement_timeout < Duration::from_millis(100) || statement_timeout > Duration::from_secs(600) {
            check.wrong("store.statement_timeout", "store.statement_timeout must be from 100ms to 10m");
        }
        let connections = check.bounded("store.connections", self.connections, default.connections, 2, 1_000);
        Options { connections, statement_timeout, ..default }
    }
}

fn place(url: &str) -> Result<Place, String> {
    let (scheme, rest) = url.split_once("://").unwrap_or(("", url));
    match scheme {
        "sqlite" if rest.is_empty() || rest.ends_with('/') || rest.contains(['?', '#']) || rest == ":memory:" => {
            Err("a sqlite:// URL is the path of a file, without parameters, as in sqlite://tidings-data/tidings.db"
                .to_owned())
        }
        "sqlite" => Ok(Place::File(rest.into())),
        "postgres" | "postgresql" => {
            postgres::check_url(url).map(|()| Place::Server).map_err(|error| error.to_string())
        }
        _ => Err(
            "the store's URL must begin with sqlite://, as in sqlite://tidings-data/tidings.db, or with postgres://"
                .to_owned(),
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::{Place, place};

    #[test]
    fn a_sqlite_url_is_a_path() {
        assert_eq!(place("sqlite://a/b.db"), Ok(Place::File("a/b.db".into())));
        assert_eq!(place("sqlite:///a/b.db"), Ok(Place::File("/a/b.db".into())));
        for bad in ["", "a.db", "sqlite://", "sqlite://dir/", "sqlite://:memory:", "sqlite://a.db?mode=ro", "mysql://x"]
        {
            assert!(place(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_postgres_url_is_a_server() {
        for good in ["postgres://u:p@db.example/tidings", "postgresql://db/tidings?sslmode=verify-full"] {
            assert_eq!(place(good), Ok(Place::Server), "{good}");
        }
        for bad in ["postgres://u:sesame@db:port/x", "postgres://u:sesame@db/x?sslmode=sometimes"] {
            let said = place(bad).unwrap_err();
            assert!(!said.contains("sesame"), "{said}");
        }
    }
}
