//! How a server is started, and when it counts as ready.

use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, bail};
use tokio::time::Instant;

use super::locate::next_server_binary;
use super::nodes::Nodes;
use super::{Credentials, Server};
use crate::api::Api;
use crate::process::{Exit, Process};
use crate::tls;

/// How long a server may take until it is ready.
const START_PATIENCE: Duration = Duration::from_secs(20);
const PAUSE: Duration = Duration::from_millis(10);
/// The text before the address in the line on standard output.
const LISTENING: &str = "listening on ";

/// A server to be started on a free port in a fresh folder.
pub fn server() -> ServerBuilder {
    ServerBuilder {
        listen: Some("127.0.0.1:0".to_owned()),
        args: Vec::new(),
        config: None,
        env: Vec::new(),
        wrapper: Vec::new(),
        dir: None,
        tls: false,
        alone: false,
        patience: START_PATIENCE,
    }
}

/// A builder with the defaults.
#[derive(Debug, Clone)]
#[must_use = "nothing runs before start()"]
pub struct ServerBuilder {
    listen: Option<String>,
    args: Vec<String>,
    config: Option<String>,
    env: Vec<(String, String)>,
    wrapper: Vec<String>,
    dir: Option<PathBuf>,
    tls: bool,
    alone: bool,
    patience: Duration,
}

/// The data of a server that is ready.
pub(super) struct Ready {
    pub(super) url: String,
    pub(super) addr: SocketAddr,
    pub(super) credentials: Credentials,
}

impl ServerBuilder {
    /// With `--egress-allow CIDR`; a receiver on this machine needs `127.0.0.0/8`.
    pub fn egress_allow(self, cidr: &str) -> Self {
        self.args(["--egress-allow", cidr])
    }

    /// With one more argument.
    pub fn arg(self, arg: impl Into<String>) -> Self {
        self.args([arg])
    }

    /// With more arguments.
    pub fn args<A: Into<String>>(mut self, args: impl IntoIterator<Item = A>) -> Self {
        self.args.extend(args.into_iter().map(Into::into));
        self
    }

    /// With another address than a free port of 127.0.0.1.
    pub fn listen(mut self, addr: &str) -> Self {
        self.listen = Some(addr.to_owned());
        self
    }

    /// Without `--listen`, so that the config file or the default holds.
    pub fn listen_as_configured(mut self) -> Self {
        self.listen = None;
        self
    }

    /// With this text as its `tidings.toml`, given as `--config`.
    pub fn config(mut self, toml: impl Into<String>) -> Self {
        self.config = Some(toml.into());
        self
    }

    /// With an environment variable.
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.env.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Under another program: `["strace", "-f", "-o", "trace"]`, `["faketime", "+2h"]`.
    pub fn wrapper<W: Into<String>>(mut self, words: impl IntoIterator<Item = W>) -> Self {
        self.wrapper = words.into_iter().map(Into::into).collect();
        self
    }

    /// In this folder, which is not removed; for a second server on the data of a first.
    pub fn dir(mut self, dir: impl Into<PathBuf>) -> Self {
        self.dir = Some(dir.into());
        self
    }

    /// With the tests' own certificate, which [`Api`] and the clients of other languages here trust: the server then
    /// speaks https and wss only.
    pub fn tls(mut self) -> Self {
        self.tls = true;
        self.env("TIDINGS__TLS__CERT", tls::CERTIFICATE_FILE).env("TIDINGS__TLS__KEY", tls::KEY_FILE)
    }

    /// As one process with the store and the broker of its config, even when tests run on several nodes: for tests of
    /// SQLite, of the process or its data folder, and for those that start several nodes themselves.
    pub fn alone(mut self) -> Self {
        self.alone = true;
        self
    }

    /// Sets another deadline for getting ready than 20 s.
    pub fn within(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }

    /// Starts it and waits until it is ready; several nodes with one address, if tests run on several.
    ///
    /// # Panics
    /// With its output, when it isn't ready within the deadline.
    pub async fn start(self) -> Server {
        self.try_start().await.unwrap_or_else(|e| panic!("{e:#}"))
    }

    /// Starts it and waits until it is ready.
    ///
    /// # Errors
    /// When the binary is missing, or the server ended or was not ready within the deadline; with its output.
    pub async fn try_start(self) -> anyhow::Result<Server> {
        let (temp, dir) = self.folder()?;
        let nodes = Nodes::start(&self, &dir).await?;
        Ok(Server::new(self, temp, dir, nodes))
    }

    /// Starts it and waits for its end: for servers that must refuse to start.
    ///
    /// # Panics
    /// When it still runs after the deadline.
    pub async fn run_to_exit(self) -> Exit {
        // Held until the end: dropping it removes the folder.
        let (_temp, dir) = self.folder().unwrap_or_else(|e| panic!("{e:#}"));
        let mut process = self.spawn(&dir, &[]).unwrap_or_else(|e| panic!("{e:#}"));
        process.wait(self.patience).await
    }

    fn folder(&self) -> anyhow::Result<(Option<tempfile::TempDir>, PathBuf)> {
        if let Some(dir) = &self.dir {
            return Ok((None, dir.clone()));
        }
        let temp = tempfile::Builder::new().prefix("tidings-test-").tempdir().context("no temporary folder")?;
        let dir = temp.path().to_owned();
        Ok((Some(temp), dir))
    }

    pub(super) fn is_alone(&self) -> bool {
        self.alone
    }

    fn spawn(&self, dir: &Path, shared: &[(String, String)]) -> anyhow::Result<Process> {
        let binary = next_server_binary()?;
        let mut args = vec!["serve".to_owned()];
        if let Some(text) = &self.config {
            let file = dir.join("tidings.toml");
            fs::write(&file, text).context("cannot write tidings.toml")?;
            // Readable by the owner only, as a file with secrets should be.
            fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).context("cannot guard tidings.toml")?;
            args.extend(["--config".to_owned(), "tidings.toml".to_owned()]);
        }
        if let Some(listen) = &self.listen {
            args.extend(["--listen".to_owned(), listen.clone()]);
        }
        args.extend(self.args.iter().cloned());
        if self.tls {
            tls::write_into(dir).context("cannot write the certificate")?;
        }
        Process::start(&binary, &self.wrapper, |command| {
            let env = shared.iter().chain(&self.env);
            command.current_dir(dir).args(args).envs(env.map(|(name, value)| (name, value)));
        })
        .with_context(|| format!("cannot start {} (wrapper {:?})", binary.display(), self.wrapper))
    }

    /// Starts one process in a folder, with the variables for what nodes share, and waits until it is ready.
    pub(super) async fn launch(&self, dir: &Path, shared: &[(String, String)]) -> anyhow::Result<(Process, Ready)> {
        let mut process = self.spawn(dir, shared)?;
        match self.wait_until_ready(&mut process, dir).await {
            Ok(ready) => Ok((process, ready)),
            Err(error) => Err(error.context(format!(
                "the server did not get ready\n--- stdout\n{}\n--- stderr\n{}\n---",
                process.stdout(),
                process.stderr()
            ))),
        }
    }

    async fn wait_until_ready(&self, process: &mut Process, dir: &Path) -> anyhow::Result<Ready> {
        let end = Instant::now() + self.patience;
        let (scheme, addr) = loop {
            if let Some(found) = listening_addr(&process.stdout()) {
                break found;
            }
            pause_until(end, process, "it printed no line with its address").await?;
        };
        let url = format!("{scheme}://{addr}");
        let api = Api::new(&url, "");
        loop {
            let complaint = match api.get("/readyz").within(Duration::from_secs(2)).send().await {
                Ok(reply) if reply.status == 200 => break,
                Ok(reply) => format!("GET /readyz answered {}: {}; not 200", reply.status, reply.text()),
                Err(error) => format!("GET /readyz got no answer ({error:#}); not 200"),
            };
            pause_until(end, process, &complaint).await?;
        }
        Ok(Ready { url, addr, credentials: self.credentials(dir)? })
    }

    /// The credentials that the server made, replaced by those of the config file if it sets any.
    fn credentials(&self, dir: &Path) -> anyhow::Result<Credentials> {
        let mut all = read_credentials(dir)?;
        let Some(text) = &self.config else { return Ok(all) };
        let config: toml::Table = toml::from_str(text).context("the test's tidings.toml is not TOML")?;
        if let Some(key) = config.get("admin").and_then(|admin| admin.get("operator_key")?.as_str()) {
            all.operator_key = key.to_owned();
        }
        let apps = config.get("apps").and_then(toml::Value::as_array).map(Vec::as_slice).unwrap_or_default();
        let is_default = |app: &&toml::Value| app.get("default").and_then(toml::Value::as_bool) == Some(true);
        if let Some(app) = apps.iter().find(is_default).or(apps.first()) {
            let text = |value: Option<&toml::Value>| value.and_then(toml::Value::as_str).unwrap_or_default().to_owned();
            all.app_id = text(app.get("id"));
            all.key = text(app.get("key"));
            all.secret = text(app.get("secret"));
            all.api_key = text(app.get("api_keys").and_then(|keys| keys.get(0)));
            all.token_hmac_secret = text(app.get("token_hmac_secret"));
        }
        Ok(all)
    }
}

async fn pause_until(end: Instant, process: &mut Process, complaint: &str) -> anyhow::Result<()> {
    if !process.runs() {
        let exit = process.wait(PAUSE).await;
        bail!("it ended: exit code {:?}, signal {:?}", exit.code, exit.signal);
    }
    if Instant::now() >= end {
        bail!("{complaint} in time");
    }
    tokio::time::sleep(PAUSE).await;
    Ok(())
}

/// The address in the server's "listening" line; only complete lines count.
fn listening_addr(stdout: &str) -> Option<(&'static str, SocketAddr)> {
    let (whole_lines, _) = stdout.rsplit_once('\n')?;
    whole_lines.lines().find_map(|line| {
        let (_, url) = line.split_once(LISTENING)?;
        let (scheme, behind) = ["https", "http"]
            .into_iter()
            .find_map(|scheme| Some((scheme, url.strip_prefix(scheme)?.strip_prefix("://")?)))?;
        let addr = behind.split(|c: char| c.is_whitespace() || matches!(c, '/' | ',' | ';' | '"' | '\u{1b}')).next()?;
        Some((scheme, addr.trim_end_matches('.').parse().ok()?))
    })
}

fn read_credentials(dir: &Path) -> anyhow::Result<Credentials> {
    let path = dir.join("tidings-data/credentials.toml");
    match fs::read_to_string(&path) {
        Ok(text) => toml::from_str(&text).with_context(|| format!("{} is not what it should be", path.display())),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(Credentials::default()),
        Err(e) => Err(e).with_context(|| format!("cannot read {}", path.display())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_address_is_found_in_a_whole_line_only() {
        let here = SocketAddr::from(([127, 0, 0, 1], 40123));
        let addr = Some(("http", here));
        assert_eq!(listening_addr("hello\nlistening on http://127.0.0.1:40123\nmore"), addr);
        assert_eq!(listening_addr("listening on https://127.0.0.1:40123\n"), Some(("https", here)));
        assert_eq!(listening_addr("tidings 0.1.0 is listening on http://127.0.0.1:40123/admin\n"), addr);
        assert_eq!(listening_addr("listening on http://127.0.0.1:401"), None);
    }

    #[test]
    fn a_folder_without_credentials_gives_empty_ones() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(read_credentials(dir.path()).unwrap().api_key, "");
        fs::create_dir(dir.path().join("tidings-data")).unwrap();
        fs::write(dir.path().join("tidings-data/credentials.toml"), "api_key = \"k\"\n").unwrap();
        assert_eq!(read_credentials(dir.path()).unwrap().api_key, "k");
    }
}
