//! Sessions over real sockets: which messages they receive, in which order, and what is left after they close.
#![expect(clippy::unwrap_used, clippy::expect_used, reason = "helpers of tests end the test")]

mod closing;
mod fan_out;
mod node;
mod requests;
mod toy;
mod traffic;
mod transports;
