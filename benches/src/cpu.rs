//! Pins processes to cores: the measured one to core 0, load and receiver to core 1. Reads CPU times.

use std::time::Duration;

use rustix::thread::{CpuSet, sched_setaffinity};
use tidings_testkit::Server;

/// Nanoseconds per tick of `/proc/PID/stat`: Linux reports 100 ticks per second to user space.
const TICK_NS: u64 = 10_000_000;

/// How processes are pinned.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Cores {
    pinned: bool,
}

impl Cores {
    /// Moves this process and its children to core 1. On a machine with one core nothing is pinned.
    pub(crate) fn divide() -> Self {
        let several = std::thread::available_parallelism().is_ok_and(|cores| cores.get() > 1);
        let mut load = CpuSet::new();
        load.set(1);
        Self { pinned: several && sched_setaffinity(None, &load).is_ok() }
    }

    /// The command prefix that runs a program on core 0.
    pub(crate) fn measured(self) -> Vec<String> {
        let words: &[&str] = if self.pinned { &["taskset", "-c", "0"] } else { &[] };
        words.iter().map(|word| (*word).to_owned()).collect()
    }

    /// Whether anything is pinned.
    pub(crate) fn pinned(self) -> bool {
        self.pinned
    }
}

/// CPU time that the server has used. It waits until the server is idle, because results are written after the last
/// delivery was received.
pub(crate) async fn settled_cpu_ns(server: &Server) -> u64 {
    let mut before = server.cpu_ticks();
    for _ in 0..50 {
        tokio::time::sleep(Duration::from_millis(100)).await;
        let now = server.cpu_ticks();
        if now <= before + 1 {
            before = now;
            break;
        }
        before = now;
    }
    before * TICK_NS
}

/// CPU time that a process has used, user and system; 0 if it has ended.
pub(crate) fn cpu_ns_of(pid: u32) -> u64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // The name is in parentheses and may contain anything; user and system time are the 12th and 13th field after it.
    let behind_name = stat.rsplit_once(") ").map_or("", |(_, rest)| rest);
    behind_name.split(' ').skip(11).take(2).filter_map(|ticks| ticks.parse::<u64>().ok()).sum::<u64>() * TICK_NS
}

/// CPU time that the whole machine has spent busy.
pub(crate) fn machine_cpu_ns() -> u64 {
    let stat = std::fs::read_to_string("/proc/stat").unwrap_or_default();
    let total = stat.lines().next().unwrap_or_default().split_whitespace().skip(1);
    let ticks: Vec<u64> = total.take(8).filter_map(|ticks| ticks.parse().ok()).collect();
    // The fields are user, nice, system, idle, iowait, irq, softirq and steal; idle and iowait are left out.
    ticks.iter().enumerate().filter(|(at, _)| !matches!(at, 3 | 4)).map(|(_, ticks)| ticks).sum::<u64>() * TICK_NS
}

/// A size from `/proc/PID/status`, in KiB.
pub(crate) fn memory_kib(pid: u32, field: &str) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'))?;
    line.trim().strip_suffix(" kB")?.parse().ok()
}
