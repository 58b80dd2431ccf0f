//! The real server, started as a process and asked over its sockets, as a user would.

mod launch;
mod locate;
mod nodes;

use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use rustix::process::Signal;
use tempfile::TempDir;

use crate::api::Api;
use crate::eventually;
use crate::postgres::Database;
use crate::process::{Exit, stat_field};
pub use launch::{ServerBuilder, server};
pub(crate) use locate::{clients_dir, command_binary, repository};
use nodes::Nodes;

/// How long a server may take to stop, or nodes to learn of each other.
const PATIENCE: Duration = Duration::from_secs(30);
/// How many of the last lines of its log a failed test prints.
const LOG_LINES: usize = 60;

/// The credentials in `tidings-data/credentials.toml`, replaced by those of the test's config file if it sets any.
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
///
/// It is one process, or several nodes with one address if `TIDINGS_TEST_NODES` says so and the test does not need one
/// [`alone`](ServerBuilder::alone). Methods then act on all of its nodes.
#[derive(Debug)]
pub struct Server {
    /// Its URL: `http://127.0.0.1:PORT`. One process has another port after a restart.
    pub url: String,
    /// The same as an address.
    pub addr: SocketAddr,
    /// Its credentials.
    pub credentials: Credentials,
    /// Its working directory with `tidings-data/`; of several nodes, the first one's.
    pub dir: PathBuf,
    nodes: Nodes,
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

    /// One client without a key per node: for what each node reports about itself.
    pub fn each_node(&self) -> impl Iterator<Item = Api> {
        self.nodes.all.iter().map(|node| Api::new(&node.url, ""))
    }

    /// The text of `/metrics`; of all nodes, one after the other.
    ///
    /// # Panics
    /// When one of them does not answer.
    pub async fn metrics(&self) -> String {
        let mut all = String::new();
        for node in self.each_node() {
            all += &node.get("/metrics").await.expect_status(200).text();
        }
        all
    }

    /// Waits until each of its nodes knows the others, for tests of what holds only then.
    ///
    /// # Panics
    /// When they do not learn of each other.
    pub async fn nodes_know_each_other(&self) {
        let count = self.nodes.all.len();
        eventually(PATIENCE, || async {
            let all = format!("\ntidings_courier_nodes {count}\n");
            (self.metrics().await.matches(&all).count() == count).then_some(())
        })
        .await;
    }

    /// `tidings-data/`, with the database, the credentials and the keys.
    pub fn data_dir(&self) -> PathBuf {
        self.dir.join("tidings-data")
    }

    /// The database that its nodes share. A server alone has its own in [`Server::data_dir`].
    pub fn database(&self) -> Option<&Database> {
        self.nodes.database()
    }

    /// The process id of the server itself, even under a wrapper.
    ///
    /// # Panics
    /// When there are several nodes: such a test needs one [`alone`](ServerBuilder::alone).
    pub fn pid(&self) -> u32 {
        match self.nodes.all.as_slice() {
            [only] => only.process.pid(),
            _ => panic!("several nodes have no process id: start the server alone()"),
        }
    }

    /// Limits the server's open files and sockets from now on. Returns how many are open.
    ///
    /// # Panics
    /// As [`Server::pid`], or when the system refuses.
    pub fn limit_open_files(&self, most: impl FnOnce(u64) -> u64) -> u64 {
        let pid = self.pid();
        let open = std::fs::read_dir(format!("/proc/{pid}/fd")).map_or(0, Iterator::count) as u64;
        let pid = rustix::process::Pid::from_raw(pid as i32);
        let limit = rustix::process::Rlimit {
            current: Some(most(open)),
            maximum: rustix::process::getrlimit(rustix::process::Resource::Nofile).maximum,
        };
        rustix::process::prlimit(pid, rustix::process::Resource::Nofile, limit)
            .unwrap_or_else(|error| panic!("the limit on open files cannot be changed: {error}"));
        open
    }

    /// Whether it still runs, with all of its nodes.
    pub fn runs(&mut self) -> bool {
        self.nodes.all.iter_mut().all(|node| node.process.runs())
    }

    /// Kills it with SIGKILL and waits for its end.
    pub async fn kill9(&mut self) -> Exit {
        self.signal(Signal::KILL);
        self.wait_for_exit(PATIENCE).await
    }

    /// Freezes it (SIGSTOP): connections stay open, and leases run out.
    pub fn freeze(&mut self) {
        self.signal(Signal::STOP);
    }

    /// Lets it go on (SIGCONT).
    pub fn thaw(&mut self) {
        self.signal(Signal::CONT);
    }

    /// Stops it with SIGTERM and waits for its end.
    ///
    /// # Panics
    /// When it still runs after 30 s.
    pub async fn terminate(&mut self) -> Exit {
        self.signal(Signal::TERM);
        self.wait_for_exit(PATIENCE).await
    }

    /// Waits until it ends by itself.
    ///
    /// # Panics
    /// When it still runs after `patience`.
    pub async fn wait_for_exit(&mut self, patience: Duration) -> Exit {
        let mut exits = Vec::new();
        for node in &mut self.nodes.all {
            exits.push(node.process.wait(patience).await);
        }
        Exit::of_all(exits)
    }

    /// Starts it again on the same data with the same arguments; a server that still runs is killed first (SIGKILL).
    /// One process gets a new port unless the builder named one, so ask [`Server::api`] for a new client.
    pub async fn restart(&mut self) {
        self.kill9().await;
        let restarted = self.nodes.restart(&self.launch, &self.dir).await;
        restarted.unwrap_or_else(|e| panic!("restart failed: {e:#}"));
        self.url = self.nodes.url();
        self.addr = self.nodes.addr();
        self.credentials = self.nodes.credentials.clone();
    }

    /// Resident memory in KiB.
    ///
    /// # Panics
    /// As [`Server::pid`].
    pub fn rss_kib(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid())).unwrap_or_default();
        status
            .lines()
            .find_map(|line| line.strip_prefix("VmRSS:")?.trim().strip_suffix(" kB")?.parse().ok())
            .unwrap_or_else(|| panic!("the server is gone: no memory to read"))
    }

    /// CPU time used so far, user and system, in clock ticks (100 per second on Linux).
    ///
    /// # Panics
    /// As [`Server::pid`].
    pub fn cpu_ticks(&self) -> u64 {
        let pid = self.pid();
        match (stat_field(pid, 13), stat_field(pid, 14)) {
            (Some(user), Some(system)) => user + system,
            _ => panic!("the server is gone: no CPU time to read"),
        }
    }

    /// What it has written to standard output since its last start, one node after the other.
    pub fn stdout(&self) -> String {
        self.nodes.all.iter().map(|node| node.process.stdout()).collect()
    }

    /// What it has written to standard error since its last start, one node after the other.
    pub fn stderr(&self) -> String {
        self.nodes.all.iter().map(|node| node.process.stderr()).collect()
    }

    fn signal(&mut self, signal: Signal) {
        self.nodes.all.iter_mut().for_each(|node| node.process.signal(signal));
    }

    fn new(launch: ServerBuilder, temp: Option<TempDir>, dir: PathBuf, nodes: Nodes) -> Self {
        Self { url: nodes.url(), addr: nodes.addr(), credentials: nodes.credentials.clone(), dir, nodes, launch, temp }
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
