//! Sessions over real sockets: who hears what, in which order, and what is left of them.
#![expect(clippy::unwrap_used, clippy::expect_used, reason = "helpers of tests end the test")]

mod closing;
mod fan_out;
mod node;
mod requests;
mod toy;
mod traffic;
mod transports;
