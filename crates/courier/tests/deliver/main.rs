//! The courier against a real store and real sockets, with an outlet of the test's own.
#![expect(clippy::unwrap_used, reason = "a helper of tests fails as a test does")]

mod bench;
mod fairness;
mod lanes;
mod panics;
mod retries;
mod stopping;
