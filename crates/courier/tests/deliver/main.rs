//! The courier with a real store and real sockets, and a test outlet.
#![expect(clippy::unwrap_used, reason = "a helper of tests fails as a test does")]

mod bench;
mod fairness;
mod lanes;
mod panics;
mod retries;
mod stopping;
