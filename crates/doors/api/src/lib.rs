//! The Tidings API: the door by which applications publish events and keep hooks, listeners and deliveries, and by which
//! browsers and servers follow channels.
//!
//! `docs/api.md` is the contract. A request meets, in this order: `auth` (whose it is), `api` (one noun a file), `wire` (what
//! it says, read from JSON without I/O), then the bus; every refusal is a `problem`. The way out is [`StandardWebhooks`].
//!
//! Called by `engine`, which mounts [`router`]. The door keeps nothing but its rate limits.
#![forbid(unsafe_code)]

mod api;
mod auth;
mod body;
mod door;
mod fields;
mod limits;
mod outlet;
mod paging;
mod problem;
mod query;
mod stream;
mod wire;

pub use api::router;
pub use door::ApiDoor;
pub use outlet::StandardWebhooks;
