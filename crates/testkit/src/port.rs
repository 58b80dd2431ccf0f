//! Free ports for servers that cannot choose one themselves.

use std::net::{Ipv4Addr, TcpListener};
use std::sync::atomic::{AtomicU16, Ordering};

/// Below Linux's range of ephemeral ports, so that no outgoing connection and no server on port 0 takes one of these.
const FIRST: u16 = 20_000;
const COUNT: u16 = 12_000;

static TAKEN: AtomicU16 = AtomicU16::new(0);

/// A free port of loopback that this process has not handed out before.
///
/// # Panics
/// When none is free.
pub fn free_port() -> u16 {
    // Each test process begins at another port.
    let start = std::process::id().wrapping_mul(97) % u32::from(COUNT);
    for _ in 0..COUNT {
        let next = u32::from(TAKEN.fetch_add(1, Ordering::Relaxed));
        let port = FIRST + ((start + next) % u32::from(COUNT)) as u16;
        if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            return port;
        }
    }
    panic!("no port from {FIRST} on is free");
}
