//! Ports for servers that cannot choose one themselves.

use std::net::{Ipv4Addr, TcpListener};
use std::sync::atomic::{AtomicU16, Ordering};

/// Below those from which Linux takes a port for whoever names none: no connection of a test, and no server that
/// chooses, comes in between.
const FIRST: u16 = 20_000;
const COUNT: u16 = 12_000;

static TAKEN: AtomicU16 = AtomicU16::new(0);

/// A port of loopback that nobody has, and that this process has not given away before.
///
/// # Panics
/// When none is free.
pub fn free_port() -> u16 {
    // Another process of tests begins elsewhere.
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
