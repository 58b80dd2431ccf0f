//! Live sessions end to end: the real server, real clients in their own languages, and many light ones. One file per
//! topic.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    reason = "all of it is a test: it panics with what it met, and prints its counts"
)]

mod app_webhooks;
mod apps;
mod catching_up;
mod cli;
mod comebacks;
mod django;
mod doctor;
mod failover;
mod fidelity;
mod fields;
mod idle;
mod job;
mod kit;
mod libraries;
mod malformed;
mod memory;
mod nodes;
mod one_rule;
mod order;
mod php;
mod proofs;
mod refused;
mod request_ids;
mod requests;
mod run_time_apps;
mod signing;
mod silence;
mod stopping;
mod streams;
mod watching;
