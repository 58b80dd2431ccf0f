//! The real server, started as a process and asked over its sockets, as a user would.

mod launch;
mod locate;

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::process::Signal;
use tempfile::TempDir;

use crate::api::Api;
use crate::process::{Exit, Process, stat_field};
pub use launch::{ServerBuilder, server};
pub(crate) use locate::{clients_dir, repository, tidings_binary};

/// How long a server may take to stop.
const STOP_PATIENCE: Duration = Duration::from_secs(30);
/// How many of the last lines of its log a failed test prints.
const LOG_LINES: usize = 60;

/// What the server wrote to `tidings-data/credentials.toml`. All empty when it made none, because a config file has the apps.
#[derive(Debug, Clone, Default, serde::Deserialize)]
#[serde(default)]
#[expect(missing_docs, reason = "the names say it: they are the file's keys")]
pub struct Credentials {
    pub url: String,
    pub app_id: String,
    pub key: String,
    pub secret: String,
    pub api_key: String,
    pub token_hmac_secret: String,
    pub operator_key: String,
    pub admin_password: String,
}

/// A running server. Dropped, it is killed and its folder removed; the folder is kept, and named, when the test panics.
#[derive(Debug)]
pub struct Server {
    /// Where it answers: `http://127.0.0.1:PORT`. Another port after a restart.
    pub url: String,
    /// The same as an address.
    pub addr: SocketAddr,
    /// What it wrote to its credentials file.
    pub credentials: Credentials,
    /// Its working directory, which holds `tidings-data/`.
    pub dir: PathBuf,
    process: Process,
    launch: ServerBuilder,
    temp: Option<TempDir>,
}

impl Server {
    /// A client with the app's API key.
    pub fn api(&self) -> Api {
        Api::new(&self.url, &self.credentials.api_key)
    }

    /// A client with the operator's key.
    pub fn operator(&self) -> Api {
        Api::new(&self.url, &self.credentials.operator_key)
    }

    /// `tidings-data/`, with the database, the credentials and the keys.
    pub fn data_dir(&self) -> PathBuf {
        self.dir.join("tidings-data")
    }

    /// The process id, of the server itself also under a wrapper.
    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// Whether the process still runs.
    pub fn runs(&mut self) -> bool {
        self.process.runs()
    }

    /// Kills it with SIGKILL and waits for its end. Nothing of it gets a last word.
    pub async fn kill9(&mut self) -> Exit {
        self.process.signal(Signal::KILL);
        self.process.wait(STOP_PATIENCE).await
    }

    /// Has it do nothing, without its end: connections stay open, and leases run out.
    pub fn freeze(&mut self) {
        self.process.signal(Signal::STOP);
    }

    /// Has it go on.
    pub fn thaw(&mut self) {
        self.process.signal(Signal::CONT);
    }

    /// Asks it to stop with SIGTERM and waits for its end.
    ///
    /// # Panics
    /// When it still runs after 30 s.
    pub async fn terminate(&mut self) -> Exit {
        self.process.signal(Signal::TERM);
        self.process.wait(STOP_PATIENCE).await
    }

    /// Waits until it ends by itself.
    ///
    /// # Panics
    /// When it still runs after `patience`.
    pub async fn wait_for_exit(&mut self, patience: Duration) -> Exit {
        self.process.wait(patience).await
    }

    /// Starts it anew on the same data with the same arguments; a server that still runs is killed first (SIGKILL). Its
    /// port is a new one unless the builder named one, so ask [`Server::api`] for a new client.
    pub async fn restart(&mut self) {
        if self.process.runs() {
            self.kill9().await;
        }
        let (process, ready) = self.launch.launch(&self.dir).await.unwrap_or_else(|e| panic!("restart failed: {e:#}"));
        self.process = process;
        self.url = ready.url;
        self.addr = ready.addr;
        self.credentials = ready.credentials;
    }

    /// Resident memory in KiB.
    pub fn rss_kib(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid())).unwrap_or_default();
        status
            .lines()
            .find_map(|line| line.strip_prefix("VmRSS:")?.trim().strip_suffix(" kB")?.parse().ok())
            .unwrap_or_else(|| panic!("the server is gone: no memory to read"))
    }

    /// CPU time used so far, user and system, in clock ticks (100 a second on Linux).
    pub fn cpu_ticks(&self) -> u64 {
        let pid = self.pid();
        match (stat_field(pid, 13), stat_field(pid, 14)) {
            (Some(user), Some(system)) => user + system,
            _ => panic!("the server is gone: no CPU time to read"),
        }
    }

    /// What it has written to standard output since its last start.
    pub fn stdout(&self) -> String {
        self.process.stdout()
    }

    /// What it has written to standard error since its last start.
    pub fn stderr(&self) -> String {
        self.process.stderr()
    }

    fn new(launch: ServerBuilder, temp: Option<TempDir>, dir: &Path, process: Process, ready: launch::Ready) -> Self {
        Self {
            url: ready.url,
            addr: ready.addr,
            credentials: ready.credentials,
            dir: dir.to_owned(),
            process,
            launch,
            temp,
        }
    }
}

impl Drop for Server {
    #[expect(clippy::print_stderr, reason = "tells whoever reads the failed test where to look")]
    fn drop(&mut self) {
        if !std::thread::panicking() {
            return;
        }
        if let Some(temp) = self.temp.take() {
            eprintln!("the server's folder is kept: {}", temp.keep().display());
        }
        let log = format!("{}{}", self.stdout(), self.stderr());
        let lines: Vec<_> = log.lines().collect();
        let last = &lines[lines.len().saturating_sub(LOG_LINES)..];
        eprintln!("--- the server's last {} lines\n{}\n---", last.len(), last.join("\n"));
    }
}
