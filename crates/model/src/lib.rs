//! The domain model of Tidings: apps, events, channels, hooks, listeners, matches, deliveries, and their signatures.
//!
//! No I/O, no async, no database; every other crate uses these types. The only inputs from outside are the clock
//! ([`clock`]) and the operating system's random numbers (ids and secrets).
#![forbid(unsafe_code)]

pub mod app;
pub mod channel;
pub mod clock;
pub mod delivery;
pub mod event;
mod excerpt;
pub mod hook;
pub mod id;
pub mod idempotency;
pub mod listener;
pub mod matcher;
pub mod origin;
pub mod pattern;
pub mod payload;
pub mod policy;
pub mod retry_after;
pub mod schedule;
pub mod secret;
pub mod signature;
pub mod signed_query;
pub mod signing;
pub mod token;
pub mod transition;
pub mod webhook;

pub use excerpt::{MAX_QUOTED, excerpt};
