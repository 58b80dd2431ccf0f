//! A real Redis server on a free port of this machine, ended when dropped.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use rustix::process::Signal;
use tempfile::TempDir;

use crate::eventually;
use crate::port::free_port;
use crate::process::Process;

const PATIENCE: Duration = Duration::from_secs(20);
const PLACES: [&str; 3] = ["/usr/bin/redis-server", "/usr/local/bin/redis-server", "/usr/bin/valkey-server"];

/// A Redis server for one test. It writes to its folder only on `SAVE`.
#[derive(Debug)]
pub struct Redis {
    program: &'static Path,
    folder: TempDir,
    port: u16,
    /// Arguments besides the usual ones.
    args: Vec<String>,
    process: Option<Process>,
}

/// Starts a Redis server.
///
/// # Panics
/// When it is not installed, or doesn't answer.
pub async fn redis() -> Redis {
    start(Vec::new()).await
}

/// The masters of a Redis Cluster; each has an equal share of the slots, in order.
#[derive(Debug)]
pub struct RedisCluster {
    /// The masters. Each can be stopped and started alone.
    pub masters: Vec<Redis>,
}

/// How many slots a cluster has.
const SLOTS: usize = 16_384;
/// How many masters [`redis_cluster`] starts: the fewest that can form a majority.
const MASTERS: usize = 3;

/// Starts a Redis Cluster of three masters.
///
/// # Panics
/// When it is not installed, or the cluster does not form.
pub async fn redis_cluster() -> RedisCluster {
    let mut masters = Vec::new();
    for _ in 0..MASTERS {
        masters.push(member().await);
    }
    for (n, master) in masters.iter().enumerate() {
        let slots = [n * SLOTS / MASTERS, (n + 1) * SLOTS / MASTERS - 1].map(|slot| slot.to_string());
        master.run(&["CLUSTER", "ADDSLOTSRANGE", &slots[0], &slots[1]]);
        master.run(&["CLUSTER", "SET-CONFIG-EPOCH", &(n + 1).to_string()]);
    }
    for master in &masters[1..] {
        meet(master, &masters[0]);
    }
    for master in &masters {
        knows(master, MASTERS).await;
    }
    RedisCluster { masters }
}

/// A server that may belong to a cluster.
async fn member() -> Redis {
    let bus = free_port().to_string();
    let args = ["--cluster-enabled", "yes", "--cluster-port", &bus, "--cluster-node-timeout", "2000"];
    start(args.map(str::to_owned).to_vec()).await
}

fn meet(server: &Redis, other: &Redis) {
    server.run(&["CLUSTER", "MEET", "127.0.0.1", &other.port.to_string(), &other.args[3]]);
}

/// Waits until a server knows so many members of its cluster, and all slots.
async fn knows(server: &Redis, count: usize) {
    eventually(PATIENCE, || async {
        let info = server.run(&["CLUSTER", "INFO"]);
        let all = format!("cluster_known_nodes:{count}\r");
        (info.contains("cluster_state:ok") && (info + "\r").contains(&all)).then_some(())
    })
    .await;
}

impl RedisCluster {
    /// The cluster's URL, which names one master.
    pub fn url(&self) -> String {
        format!("redis+cluster://{}", self.masters[0].address())
    }

    /// Starts a replica of one of the masters, and waits until it is in sync.
    ///
    /// # Panics
    /// When it does not get in sync.
    pub async fn replica_of(&self, master: usize) -> Redis {
        let replica = member().await;
        meet(&replica, &self.masters[0]);
        knows(&replica, MASTERS + 1).await;
        replica.run(&["CLUSTER", "REPLICATE", &self.masters[master].run(&["CLUSTER", "MYID"])]);
        eventually(PATIENCE, || async {
            replica.run(&["INFO", "replication"]).contains("master_link_status:up").then_some(())
        })
        .await;
        replica
    }

    /// Which master has a key. The first master has to be up.
    ///
    /// # Panics
    /// When it does not answer.
    pub fn master_of(&self, key: &str) -> usize {
        let slot: usize = self.masters[0].run(&["CLUSTER", "KEYSLOT", key]).parse().unwrap_or(SLOTS);
        let place = (0..MASTERS).find(|n| slot < (n + 1) * SLOTS / MASTERS);
        place.unwrap_or_else(|| panic!("no slot of {key}"))
    }
}

async fn start(args: Vec<String>) -> Redis {
    let program = PLACES.into_iter().map(Path::new).find(|place| place.exists());
    let program = program.unwrap_or_else(|| panic!("redis-server is not installed: apt-get install -y redis-server"));
    let folder = tempfile::tempdir().unwrap_or_else(|error| panic!("no folder for Redis: {error}"));
    let mut redis = Redis { program, folder, port: free_port(), args, process: None };
    redis.start().await;
    redis
}

impl Redis {
    /// Its URL.
    pub fn url(&self) -> String {
        format!("redis://{}", self.address())
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.port).into()
    }

    /// The process id.
    ///
    /// # Panics
    /// When it does not run.
    pub fn pid(&self) -> u32 {
        self.process.as_ref().unwrap_or_else(|| panic!("Redis does not run")).pid()
    }

    /// Starts it again, at the same address, with the data that it saved last.
    ///
    /// # Panics
    /// When it doesn't answer.
    pub async fn start(&mut self) {
        let port = self.port.to_string();
        let process = Process::start(self.program, &[], |command| {
            command.args(["--port", &port, "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]).arg("--dir");
            command.arg(self.folder.path()).args(&self.args);
        });
        let mut process = process.unwrap_or_else(|error| panic!("{} does not start: {error}", self.program.display()));
        let address = self.address();
        eventually(PATIENCE, || {
            assert!(process.runs(), "Redis has ended: {}", process.stdout());
            let is_up = answers(address);
            async move { is_up.then_some(()) }
        })
        .await;
        self.process = Some(process);
    }

    /// Runs a command and returns what `redis-cli` prints.
    ///
    /// # Panics
    /// When it cannot be run, or the server answers with an error.
    #[track_caller]
    pub fn run(&self, words: &[&str]) -> String {
        let mut command = Command::new(self.program.with_file_name("redis-cli"));
        command.args(["-e", "-p", &self.port.to_string()]).args(words).stdin(Stdio::null());
        let output = command.output().unwrap_or_else(|e| panic!("redis-cli cannot be run: {e}"));
        let printed = String::from_utf8_lossy(&output.stdout).trim_end().to_owned();
        assert!(output.status.success(), "{words:?}: {printed}{}", String::from_utf8_lossy(&output.stderr));
        printed
    }

    /// Makes it a replica of another server, and waits until it is in sync.
    ///
    /// # Panics
    /// When it does not get in sync.
    pub async fn follow(&self, master: &Self) {
        self.run(&["REPLICAOF", "127.0.0.1", &master.port.to_string()]);
        eventually(PATIENCE, || async {
            let info = self.run(&["INFO", "replication"]);
            info.contains("master_link_status:up").then_some(())
        })
        .await;
    }

    /// Kills it with SIGKILL: data that was not saved is lost.
    pub async fn kill(&mut self) {
        self.end(Signal::KILL).await;
    }

    /// Freezes it (SIGSTOP): connections stay open.
    pub fn freeze(&mut self) {
        self.signal(Signal::STOP);
    }

    /// Lets it go on (SIGCONT).
    pub fn thaw(&mut self) {
        self.signal(Signal::CONT);
    }

    async fn end(&mut self, signal: Signal) {
        if let Some(mut process) = self.process.take() {
            process.signal(signal);
            process.wait(PATIENCE).await;
        }
    }

    fn signal(&mut self, signal: Signal) {
        if let Some(process) = &mut self.process {
            process.signal(signal);
        }
    }
}

fn answers(address: SocketAddr) -> bool {
    let Ok(mut stream) = TcpStream::connect(address) else { return false };
    let mut answer = [0; 7];
    stream.set_read_timeout(Some(Duration::from_secs(1))).is_ok()
        && stream.write_all(b"PING\r\n").is_ok()
        && stream.read_exact(&mut answer).is_ok()
        && answer == *b"+PONG\r\n"
}
