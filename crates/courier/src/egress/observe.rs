//! Observes the dialler: the trait [`DialObserver`], and [`DialLog`], which keeps what it observed.
//!
//! Tests use it to prove that nothing was dialled, or exactly the vetted address. Without an observer it costs a null
//! check per dial and nothing per request.

use std::collections::VecDeque;
use std::net::SocketAddr;

use parking_lot::Mutex;

/// How many dials and lookups a [`DialLog`] remembers.
const REMEMBERED: usize = 1024;

/// Called by the dialler before each lookup and dial.
pub trait DialObserver: Send + Sync {
    /// `host` is about to be looked up.
    fn resolving(&self, host: &str);
    /// A TCP connection to `addr` (a vetted address, or the proxy) is about to be opened.
    fn dialing(&self, addr: SocketAddr);
}

/// The newest 1024 lookups and dials, oldest first.
#[derive(Debug, Default)]
pub struct DialLog {
    entries: Mutex<Entries>,
}

#[derive(Debug, Default)]
struct Entries {
    resolved: VecDeque<String>,
    dialled: VecDeque<SocketAddr>,
}

impl DialLog {
    /// The addresses to which a TCP connection was opened or tried.
    pub fn dialled(&self) -> Vec<SocketAddr> {
        self.entries.lock().dialled.iter().copied().collect()
    }

    /// The names that were looked up.
    pub fn resolved(&self) -> Vec<String> {
        self.entries.lock().resolved.iter().cloned().collect()
    }
}

impl DialObserver for DialLog {
    fn resolving(&self, host: &str) {
        push_bounded(&mut self.entries.lock().resolved, host.to_owned());
    }

    fn dialing(&self, addr: SocketAddr) {
        push_bounded(&mut self.entries.lock().dialled, addr);
    }
}

fn push_bounded<T>(queue: &mut VecDeque<T>, item: T) {
    if queue.len() == REMEMBERED {
        queue.pop_front();
    }
    queue.push_back(item);
}
