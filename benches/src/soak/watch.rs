//! Watches the server's memory and disk during a run, and whether a probe is still answered.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::anyhow;
use serde_json::{Value, json};
use tidings_testkit::{Api, Server};

use crate::clock::now_ns;
use crate::cpu::memory_kib;

const PAUSE: Duration = Duration::from_secs(1);
/// A typical timeout of a liveness probe.
const PROBE: Duration = Duration::from_secs(5);

/// The bounds.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bounds {
    pub(crate) memory_mib: u64,
    pub(crate) disk_mib: u64,
}

/// The largest values so far.
#[derive(Debug, Default)]
pub(crate) struct Watched {
    memory_kib: u64,
    disk_bytes: u64,
    probes: u64,
    probes_failed: u64,
    slowest_probe_ns: u64,
}

impl Watched {
    pub(crate) fn lines(&self) -> Vec<(String, String)> {
        vec![
            ("memory, at most".to_owned(), format!("{} MiB", self.memory_kib >> 10)),
            ("folder, at most".to_owned(), format!("{} MiB", self.disk_bytes >> 20)),
            (
                "probes".to_owned(),
                format!(
                    "{} of {} failed, the slowest took {} ms",
                    self.probes_failed,
                    self.probes,
                    self.slowest_probe_ns / 1_000_000
                ),
            ),
        ]
    }

    pub(crate) fn faults(&self, bounds: Bounds) -> Vec<String> {
        let mut faults = Vec::new();
        let mut over = |what: &str, found: u64, most: u64| {
            if found > most {
                faults.push(format!("{what} took {found} MiB, more than {most}"));
            }
        };
        over("memory", self.memory_kib >> 10, bounds.memory_mib);
        over("the folder", self.disk_bytes >> 20, bounds.disk_mib);
        if self.probes_failed > 0 {
            faults.push(format!("{} of {} probes failed", self.probes_failed, self.probes));
        }
        faults
    }

    pub(crate) fn to_json(&self) -> Value {
        json!({
            "memory_kib": self.memory_kib, "disk_bytes": self.disk_bytes, "probes": self.probes,
            "probes_failed": self.probes_failed, "slowest_probe_ns": self.slowest_probe_ns,
        })
    }
}

/// Measures once a second, on a thread of its own.
pub(crate) struct Watch {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<anyhow::Result<Watched>>,
}

impl Watch {
    pub(crate) fn start(server: &Server) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let (stopped, pid, url, folder) = (Arc::clone(&stop), server.pid(), server.url.clone(), server.data_dir());
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            Ok(runtime.block_on(look(&stopped, pid, &url, folder)))
        });
        Self { stop, thread }
    }

    pub(crate) fn stop(self) -> anyhow::Result<Watched> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().map_err(|_| anyhow!("the watch panicked"))?
    }
}

async fn look(stop: &AtomicBool, pid: u32, url: &str, folder: PathBuf) -> Watched {
    let mut seen = Watched::default();
    while !stop.load(Ordering::Relaxed) {
        seen.memory_kib = seen.memory_kib.max(memory_kib(pid, "VmRSS").unwrap_or(0));
        seen.disk_bytes = seen.disk_bytes.max(size(&folder));
        let before = now_ns();
        // A new connection, as a probe makes.
        let answer = Api::new(url, "").get("/healthz").within(PROBE).send().await;
        seen.probes += 1;
        seen.probes_failed += u64::from(!answer.is_ok_and(|reply| reply.status == 200));
        seen.slowest_probe_ns = seen.slowest_probe_ns.max(now_ns() - before);
        tokio::time::sleep(PAUSE).await;
    }
    seen
}

/// The total size of the files in a folder, in bytes.
fn size(folder: &Path) -> u64 {
    let files = std::fs::read_dir(folder).into_iter().flatten().flatten();
    files.filter_map(|file| file.metadata().ok()).map(|facts| facts.len()).sum()
}
