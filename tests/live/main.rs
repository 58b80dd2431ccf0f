//! Live sessions end to end: the real server, real clients in their own languages, many light ones. One file a theme.
#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a helper of tests fails as a test does")]

mod apps;
mod cli;
mod fidelity;
mod job;
mod kit;
mod malformed;
mod memory;
mod nodes;
mod order;
mod refused;
mod requests;
mod silence;
mod stopping;
mod streams;
