//! The Pusher door: Pusher Channels' WebSocket protocol (version 7) for clients and its HTTP API for servers, so that
//! their libraries work as they are.
//!
//! `docs/pusher.md` is the contract. A client meets, in this order: `connect` (the upgrade: which app, from where,
//! which version), `session` (what it may and what it is told), `wire` (how that looks). A server meets `auth` (its
//! signature), then `api` (one noun a file), then the bus. `outlet` writes what becomes of channels to the app's
//! webhooks.
//!
//! Called by `engine`, which mounts [`router`]. The door keeps nothing.
#![forbid(unsafe_code)]

mod api;
mod auth;
mod channel;
mod connect;
mod door;
mod limits;
mod name;
mod no_room;
mod session;
mod webhooks;
mod wire;

use std::sync::Arc;

use axum::Router;
use http::{HeaderMap, Request, StatusCode};
use tidings_door::Door;
use tidings_node::{NamedFormat, Node, WebhookParts};

use door::PusherDoor;
use webhooks::PusherWebhooks;

pub use door::KeepAlive;
pub use name::{FORM, NAME};
pub use wire::FORMAT;

/// The door: what an engine is given to speak Pusher Channels.
#[derive(Debug, Default)]
pub struct Pusher {
    keep_alive: KeepAlive,
}

impl Pusher {
    /// With this patience for silent clients.
    pub fn new(keep_alive: KeepAlive) -> Self {
        Self { keep_alive }
    }
}

impl Door for Pusher {
    fn name(&self) -> &'static str {
        NAME
    }

    fn webhook_formats(&self, parts: &WebhookParts<'_>) -> Vec<NamedFormat> {
        vec![(FORM, Arc::new(PusherWebhooks::new(parts)))]
    }

    fn routes(&self, node: &Node) -> Router {
        api::router(PusherDoor::new(node.bus().clone(), node.live().clone(), self.keep_alive))
    }

    fn no_room(&self, request: &Request<()>) -> Option<(StatusCode, HeaderMap, Vec<u8>)> {
        no_room::no_room(request)
    }
}
