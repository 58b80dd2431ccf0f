//! A real PostgreSQL with PgBouncer in front: one server per test process, one database per test.

use std::io::Write as _;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread;
use std::time::Duration;

use parking_lot::Mutex;
use tidings_model::clock::Stopwatch;

use crate::eventually;
use crate::port::free_port;

/// The folder of PostgreSQL 15's programs on Debian, which is not on the PATH.
const PROGRAMS: &str = "/usr/lib/postgresql/15/bin";
const POOLER: &str = "/usr/sbin/pgbouncer";
/// How long the servers may take to start: a busy machine makes a new cluster in a few seconds.
const PATIENCE: Duration = Duration::from_secs(60);

/// Tests crash the program, not the machine, so commits need not wait for the disk.
const UNSYNCED: &str = "off";

/// The servers of this test process.
#[derive(Debug)]
struct Servers {
    port: u16,
    pooled_port: u16,
    /// A pipe to the shell that runs the servers. It closes when this process ends, and that ends them. A line in it
    /// restarts PostgreSQL.
    lifeline: Mutex<ChildStdin>,
}

/// A database for one test, dropped with this value.
#[derive(Debug)]
pub struct Database {
    name: String,
    servers: Arc<Servers>,
}

/// A new, empty database on this process' PostgreSQL 15, which the first call starts. It ends with the process.
///
/// # Panics
/// When PostgreSQL or PgBouncer is not installed (the message says how to install them), or does not start.
pub fn postgres() -> Database {
    static SERVERS: OnceLock<Arc<Servers>> = OnceLock::new();
    Database::on(SERVERS.get_or_init(|| Arc::new(start(UNSYNCED, None))))
}

/// A new, empty database on a PostgreSQL server of its own, which can be restarted without harm to other tests.
///
/// # Panics
/// As [`postgres`].
pub fn postgres_alone() -> Database {
    Database::on(&Arc::new(start(UNSYNCED, None)))
}

/// The same on a server whose commits wait for the disk, as in production.
///
/// # Panics
/// As [`postgres`].
pub fn postgres_synced() -> Database {
    Database::on(&Arc::new(start("on", None)))
}

impl Database {
    fn on(servers: &Arc<Servers>) -> Self {
        static MADE: AtomicUsize = AtomicUsize::new(0);
        let name = format!("t{}", MADE.fetch_add(1, Ordering::Relaxed));
        servers.psql("postgres", &format!("CREATE DATABASE {name}"));
        Self { name, servers: Arc::clone(servers) }
    }

    /// The URL of the database, directly at the server.
    pub fn url(&self) -> String {
        self.url_at(self.address())
    }

    /// The URL through PgBouncer in transaction mode.
    pub fn pooled_url(&self) -> String {
        self.url_at(SocketAddr::from((Ipv4Addr::LOCALHOST, self.servers.pooled_port)))
    }

    /// The URL with another address, such as a proxy's.
    pub fn url_at(&self, address: SocketAddr) -> String {
        format!("postgres://tidings@{address}/{}?sslmode=disable", self.name)
    }

    /// The server's address.
    pub fn address(&self) -> SocketAddr {
        SocketAddr::from((Ipv4Addr::LOCALHOST, self.servers.port))
    }

    /// Runs a statement and returns what `psql` prints: rows without headings.
    ///
    /// # Panics
    /// When the server refuses it.
    pub fn run(&self, statement: &str) -> String {
        self.servers.psql(&self.name, statement)
    }

    /// The whole database, as `pg_dump` writes it: strings as they are, bytes in hexadecimal.
    ///
    /// # Panics
    /// When it cannot be dumped.
    pub fn dump(&self) -> String {
        let mut command = Command::new(Path::new(PROGRAMS).join("pg_dump"));
        command.args(["-h", "127.0.0.1", "-p", &self.servers.port.to_string(), "-U", "tidings", &self.name]);
        let output = command.stdin(Stdio::null()).output().unwrap_or_else(|e| panic!("pg_dump cannot be run: {e}"));
        assert!(output.status.success(), "no dump: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// Starts a streaming standby of the server, which can be promoted. For a database from [`postgres_alone`].
    ///
    /// # Panics
    /// When it does not start.
    pub fn standby(&self) -> Standby {
        Standby { name: self.name.clone(), servers: start(UNSYNCED, Some(self.servers.port)) }
    }

    /// Makes the server refuse writes but keep its connections.
    ///
    /// # Panics
    /// When it refuses.
    pub fn demote(&self) {
        self.run("ALTER SYSTEM SET default_transaction_read_only = on");
        self.run("SELECT pg_reload_conf()");
        // Once a new session sees the setting, the server has signalled the others, which see it before their next
        // statement.
        let waited = Stopwatch::start();
        while self.run("SHOW default_transaction_read_only") != "on" {
            assert!(waited.elapsed() < PATIENCE, "the server still takes writes after {PATIENCE:?}");
            thread::sleep(Duration::from_millis(20));
        }
    }

    /// Kills the server as a crash would, starts it again, and waits until it serves. This affects all of its
    /// databases, so it is for one from [`postgres_alone`].
    ///
    /// # Panics
    /// When it does not come back.
    pub async fn crash(&self) {
        let servers = &self.servers;
        let started = || servers.command(&self.name, "SELECT pg_postmaster_start_time()").output();
        let before = started().unwrap_or_else(|e| panic!("psql cannot be run: {e}"));
        let written = servers.lifeline.lock().write_all(b"crash\n");
        written.unwrap_or_else(|e| panic!("PostgreSQL cannot be told to end: {e}"));
        eventually(PATIENCE, || {
            let now = started().ok().filter(|now| now.status.success() && now.stdout != before.stdout);
            async move { now.map(drop) }
        })
        .await;
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        let statement = format!("DROP DATABASE {} WITH (FORCE)", self.name);
        // A server that was demoted refuses writes unless it is told to accept them.
        let output = self
            .servers
            .command("postgres", &statement)
            .env("PGOPTIONS", "-c default_transaction_read_only=off")
            .output();
        // A failing test drops it while it panics: an error here must not hide the test's own.
        if !thread::panicking() {
            let gone = output.is_ok_and(|output| output.status.success());
            assert!(gone, "the database {} cannot be dropped", self.name);
        }
    }
}

/// A standby server.
#[derive(Debug)]
pub struct Standby {
    name: String,
    servers: Servers,
}

impl Standby {
    /// Its address.
    pub fn address(&self) -> SocketAddr {
        SocketAddr::from((Ipv4Addr::LOCALHOST, self.servers.port))
    }

    /// Runs a statement in its copy of the database, and returns what `psql` prints.
    ///
    /// # Panics
    /// When the server refuses it.
    pub fn run(&self, statement: &str) -> String {
        self.servers.psql(&self.name, statement)
    }

    /// Promotes it to a primary, which accepts writes.
    ///
    /// # Panics
    /// When it stays a standby.
    pub fn promote(&self) {
        assert_eq!(self.run("SELECT pg_promote(true, 60)"), "t", "the standby was not promoted");
    }
}

impl Servers {
    fn command(&self, database: &str, statement: &str) -> Command {
        let mut command = Command::new(Path::new(PROGRAMS).join("psql"));
        command.args([
            "-h",
            "127.0.0.1",
            "-p",
            &self.port.to_string(),
            "-U",
            "tidings",
            "-XAtq",
            "-v",
            "ON_ERROR_STOP=1",
        ]);
        command.args(["-d", database, "-c", statement]).stdin(Stdio::null());
        command
    }

    #[track_caller]
    fn psql(&self, database: &str, statement: &str) -> String {
        let output = self.command(database, statement).output().unwrap_or_else(|e| panic!("psql cannot be run: {e}"));
        assert!(output.status.success(), "{statement}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).trim_end().to_owned()
    }
}

fn start(fsync: &str, primary: Option<u16>) -> Servers {
    let postgres = PathBuf::from(PROGRAMS).join("postgres");
    assert!(
        postgres.exists() && Path::new(POOLER).exists(),
        "this test needs PostgreSQL and PgBouncer; as root, run\n    apt-get install -y postgresql-15 pgbouncer"
    );
    let (port, pooled_port) = (free_port(), free_port());
    let mut command = Command::new("/bin/sh");
    command.args(["-c", include_str!("postgres.sh"), "postgres.sh", PROGRAMS, POOLER]);
    command.args([&port.to_string(), &pooled_port.to_string(), fsync]);
    command.args(primary.map(|port| port.to_string()));
    command.stdin(Stdio::piped()).stdout(Stdio::null()).process_group(0);
    let mut child = command.spawn().unwrap_or_else(|e| panic!("/bin/sh cannot be run: {e}"));
    let Some(lifeline) = child.stdin.take() else { panic!("no pipe to the servers") };
    let servers = Servers { port, pooled_port, lifeline: Mutex::new(lifeline) };
    wait_until_ready(&servers, &mut child);
    servers
}

fn wait_until_ready(servers: &Servers, child: &mut Child) {
    let waited = Stopwatch::start();
    loop {
        let answers = |port: u16| TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_ok();
        let ready = answers(servers.port)
            && answers(servers.pooled_port)
            && servers.command("postgres", "SELECT 1").output().is_ok_and(|output| output.status.success());
        if ready {
            return;
        }
        if let Ok(Some(status)) = child.try_wait() {
            panic!("PostgreSQL did not start ({status}); its output is above");
        }
        assert!(waited.elapsed() < PATIENCE, "PostgreSQL is not ready after {PATIENCE:?}; its output is above");
        thread::sleep(Duration::from_millis(20));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_database_is_empty_and_goes_with_its_handle() {
        let (one, other) = (postgres(), postgres());
        one.run("CREATE TABLE t (n int)");
        assert_eq!(one.run("SELECT to_regclass('t') IS NOT NULL"), "t");
        assert_eq!(other.run("SELECT to_regclass('t') IS NOT NULL"), "f");
        let name = one.name.clone();
        drop(one);
        assert_eq!(other.run(&format!("SELECT count(*) FROM pg_database WHERE datname = '{name}'")), "0");
    }

    #[tokio::test]
    async fn one_that_crashed_is_back_with_what_was_committed() {
        let alone = postgres_alone();
        alone.run("CREATE TABLE t (n int)");
        for n in 1..=2 {
            alone.run(&format!("INSERT INTO t VALUES ({n})"));
            alone.crash().await;
        }
        assert_eq!(alone.run("SELECT sum(n) FROM t"), "3");
    }
}
