//! The courier against a real store and real sockets, with an outlet of the test's own.

mod bench;
mod fairness;
mod lanes;
mod retries;
mod stopping;
