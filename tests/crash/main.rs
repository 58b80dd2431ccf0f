//! Crash tests: the real server is killed, runs out of disk, finds its database locked or its clock changed, and is
//! started twice. Every test compares acknowledged events with delivered ones. Some tests mount a small file system and
//! therefore need root.
#![forbid(unsafe_code)]
#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "all of it is a test: it panics with what it met, and prints its counts"
)]

mod clock;
mod common;
mod disk;
mod faults;
mod files;
mod holder;
mod kill;
mod lanes;
mod locked;
mod nodes;
mod powercut;
mod publisher;
mod random;
mod resume;
mod second;
mod small_disk;
mod strace;
mod sync;
mod tally;
mod thousands;
mod wrong_clock;
