//! The Pusher door: Pusher Channels' WebSocket protocol (version 7) for clients and its HTTP API for servers, so that their
//! libraries work as they are.
//!
//! `docs/pusher.md` is the contract. A client meets, in this order: `connect` (the upgrade: which app, from where, which
//! version), `session` (what it may and what it is told), `wire` (how that looks). A server meets `auth` (its signature), then
//! `api` (one noun a file), then the bus. `outlet` writes what becomes of channels to the app's webhooks.
//!
//! Called by `engine`, which mounts [`router`]. The door keeps nothing.
#![forbid(unsafe_code)]

mod api;
mod auth;
mod channel;
mod connect;
mod door;
mod limits;
mod no_room;
mod outlet;
mod session;
mod wire;

use tidings_model::listener::Format;

/// The name of the door, in an app's `doors`.
pub const NAME: &str = "pusher";
/// How this door's webhooks are written and signed: in the app's name, with its key and secret.
pub const FORM: Format = Format::named("pusher");

pub use api::router;
pub use door::{KeepAlive, PusherDoor};
pub use no_room::no_room;
pub use outlet::PusherWebhooks;
pub use wire::FORMAT;
