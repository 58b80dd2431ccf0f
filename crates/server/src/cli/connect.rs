//! Which server a command talks to, and with which API key.

use std::path::{Path, PathBuf};

use anyhow::{Context, anyhow, bail};
use clap::Args;
use url::{Host, Url};

use super::client::Client;
use crate::config::environment::Env;
use crate::credentials::{self, Credentials};

/// The flags for the connection to a server.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct Connection {
    /// The server [default: TIDINGS_URL, or as tidings-data/credentials.toml says]
    #[arg(long = "url", visible_alias = "server", value_name = "URL")]
    pub(crate) server: Option<String>,
    #[command(flatten)]
    pub(crate) rest: ConnectionRest,
}

/// The same flags where `--url` is a listener's URL: the server's is `--server`.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct ServerConnection {
    /// The server [default: TIDINGS_URL, or as tidings-data/credentials.toml says]
    #[arg(long, value_name = "URL")]
    server: Option<String>,
    #[command(flatten)]
    rest: ConnectionRest,
}

/// The flags that do not depend on the name of the server's flag.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct ConnectionRest {
    /// The API key [default: TIDINGS_API_KEY, or as tidings-data/credentials.toml says]
    #[arg(long, alias = "api-key", value_name = "API_KEY")]
    pub(crate) key: Option<String>,
    /// The credentials file of a server that keeps its data elsewhere
    #[arg(long, value_name = "FILE")]
    pub(crate) credentials: Option<PathBuf>,
    /// A PEM file with certificate authorities to trust besides the usual ones [default: SSL_CERT_FILE]
    #[arg(long, value_name = "FILE")]
    pub(crate) ca: Option<PathBuf>,
    /// Print the server's answer as it is
    #[arg(long)]
    pub(crate) json: bool,
}

impl From<ServerConnection> for Connection {
    fn from(connection: ServerConnection) -> Self {
        Self { server: connection.server, rest: connection.rest }
    }
}

impl Connection {
    /// Whether none of the flags was given.
    pub(crate) fn is_empty(&self) -> bool {
        let ConnectionRest { key, credentials, ca, json } = &self.rest;
        self.server.is_none() && key.is_none() && credentials.is_none() && ca.is_none() && !json
    }

    /// Merges with the flags that were given before the command; those after it win.
    pub(crate) fn over(self, outer: Self) -> Self {
        Self {
            server: self.server.or(outer.server),
            rest: ConnectionRest {
                key: self.rest.key.or(outer.rest.key),
                credentials: self.rest.credentials.or(outer.rest.credentials),
                ca: self.rest.ca.or(outer.rest.ca),
                json: self.rest.json || outer.rest.json,
            },
        }
    }

    /// A client for the server that flags, environment or the credentials file name, in this order.
    pub(crate) fn open(self, env: &dyn Env) -> anyhow::Result<Client> {
        self.open_with(env, |kept| [kept.api_key.clone(), kept.operator_key.clone()])
    }

    /// The same, with the operator's key.
    pub(crate) fn open_as_operator(self, env: &dyn Env) -> anyhow::Result<Client> {
        self.open_with(env, |kept| [kept.operator_key.clone(), String::new()])
    }

    fn open_with(self, env: &dyn Env, keys: impl Fn(&Credentials) -> [String; 2]) -> anyhow::Result<Client> {
        let (json, ca) = (self.rest.json, self.rest.authorities(env));
        let file = self.rest.credentials.clone().unwrap_or_else(|| credentials::DEFAULT_PATH.into());
        let given_url = self.server.or_else(|| env.get("TIDINGS_URL"));
        let given_key = self.rest.key.or_else(|| env.get("TIDINGS_API_KEY"));
        let (url, key) = match (given_url, given_key) {
            (Some(url), Some(key)) => (parse(&url)?, key),
            (url, key) => {
                complete(Credentials::in_use(&file, env)?, &file, self.rest.credentials.is_some(), url, key, keys)?
            }
        };
        Client::new(url, key, json, ca.as_deref())
    }
}

impl ConnectionRest {
    /// The file of certificate authorities to trust besides the usual ones.
    pub(super) fn authorities(&self, env: &dyn Env) -> Option<PathBuf> {
        let given = || env.get("SSL_CERT_FILE").filter(|file| !file.is_empty());
        self.ca.clone().or_else(|| given().map(PathBuf::from))
    }
}

/// Fills in the URL and the key from the credentials file. `is_explicit`: the user named that file.
fn complete(
    kept: Option<Credentials>,
    file: &Path,
    is_explicit: bool,
    url: Option<String>,
    key: Option<String>,
    keys: impl Fn(&Credentials) -> [String; 2],
) -> anyhow::Result<(Url, String)> {
    let Some(kept) = kept else {
        let missing = if url.is_none() { "no server is given" } else { "no API key is given" };
        let place = if is_explicit {
            format!("there is no file {}", file.display())
        } else {
            format!("there is no {} here", file.display())
        };
        bail!(
            "{missing}: {place}; run this where `tidings serve` was started, or give --url and --key, \
             or set TIDINGS_URL and TIDINGS_API_KEY"
        );
    };
    let kept_url = parse(&kept.url).with_context(|| format!("in {}", file.display()))?;
    let url = url.map_or(Ok(kept_url.clone()), |given| parse(&given))?;
    let key = match key {
        Some(key) => key,
        // A key is sent only to the server it was made for: a mistyped host must not learn it.
        None if same_machine(&url, &kept_url) => {
            keys(&kept).into_iter().find(|key| !key.is_empty()).ok_or_else(|| {
                anyhow!(
                    "neither {} nor the server's config holds a key for this; give one with --key or TIDINGS_API_KEY",
                    file.display()
                )
            })?
        }
        None => bail!(
            "{} holds the key of {kept_url}, not of {url}; give the key with --key or TIDINGS_API_KEY",
            file.display()
        ),
    };
    Ok((url, key))
}

pub(super) fn same_machine(one: &Url, other: &Url) -> bool {
    one.host() == other.host() || is_loopback(one)
}

fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Domain(name)) => name == "localhost",
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    }
}

pub(super) fn parse(text: &str) -> anyhow::Result<Url> {
    let with_scheme = if text.contains("://") { text.to_owned() } else { format!("http://{text}") };
    let url = Url::parse(&with_scheme)
        .with_context(|| format!("{text:?} is not a server's URL; write it as http://127.0.0.1:8000"))?;
    if !matches!(url.scheme(), "http" | "https") || url.host().is_none() {
        bail!("{text:?} is not a server's URL; write it as http://127.0.0.1:8000");
    }
    Ok(url)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn credentials(url: &str) -> (tempfile::TempDir, PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("credentials.toml");
        Credentials { url: url.into(), api_key: "kept-key".into(), ..Credentials::default() }.save(&path).unwrap();
        (dir, path)
    }

    fn app_key(kept: &Credentials) -> [String; 2] {
        [kept.api_key.clone(), String::new()]
    }

    // covers: K01
    #[test]
    fn a_kept_key_goes_to_its_own_server_only() {
        let (_dir, file) = credentials("http://127.0.0.1:8000");
        let ask = |url: Option<&str>| {
            let kept = Credentials::load(&file).unwrap();
            complete(kept, &file, false, url.map(str::to_owned), None, app_key).map(|(url, key)| (url.to_string(), key))
        };
        assert_eq!(ask(None).unwrap(), ("http://127.0.0.1:8000/".into(), "kept-key".into()));
        assert_eq!(ask(Some("localhost:9000")).unwrap(), ("http://localhost:9000/".into(), "kept-key".into()));
        let refused = format!("{:#}", ask(Some("https://evil.example")).unwrap_err());
        assert!(refused.contains("--key") && !refused.contains("kept-key"), "{refused}");
    }

    #[test]
    fn flags_win_over_the_environment_and_that_over_the_file() {
        let (_dir, file) = credentials("http://127.0.0.1:8000");
        let open = |server: Option<&str>, key: Option<&str>, env: Vec<(&str, &str)>| {
            let rest =
                ConnectionRest { key: key.map(str::to_owned), credentials: Some(file.clone()), ..Default::default() };
            let client = Connection { server: server.map(str::to_owned), rest }.open(&env).unwrap();
            (client.base().to_string(), client.key().to_owned())
        };
        let env = vec![("TIDINGS_URL", "http://env.example"), ("TIDINGS_API_KEY", "env-key")];
        assert_eq!(open(None, None, vec![]), ("http://127.0.0.1:8000/".into(), "kept-key".into()));
        assert_eq!(open(None, None, env.clone()), ("http://env.example/".into(), "env-key".into()));
        assert_eq!(
            open(Some("http://flag.example"), Some("flag-key"), env),
            ("http://flag.example/".into(), "flag-key".into())
        );
    }

    #[test]
    fn without_anything_it_says_what_to_do() {
        let error =
            complete(None, Path::new("nowhere/credentials.toml"), false, None, None, app_key).unwrap_err().to_string();
        assert!(
            error.contains("--url") && error.contains("TIDINGS_API_KEY") && error.contains("tidings serve"),
            "{error}"
        );
    }
}
