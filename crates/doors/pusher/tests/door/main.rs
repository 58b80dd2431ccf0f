//! Pusher's HTTP API as an app's server sees it: the real router over a real store, bus and broker, without a socket
//! between.

#![expect(clippy::unwrap_used, reason = "a helper of tests fails as a test does")]

mod channels;
mod ear;
mod events;
mod kit;
mod proofs;
mod routes;
mod unproved;
