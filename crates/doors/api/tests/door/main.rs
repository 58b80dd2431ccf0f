//! The Tidings API as a client sees it: the real router over a real store, bus and courier, without a socket in
//! between.

#![expect(clippy::unwrap_used, reason = "a helper of tests fails as a test does")]

mod channels;
mod deliveries;
mod events;
mod hooks;
mod kit;
mod listeners;
mod lists;
mod quoting;
mod refusals;
mod secrets;
mod stream;
mod tenancy;
mod tokens;
