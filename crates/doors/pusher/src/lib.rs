//! The Pusher door: Pusher Channels' WebSocket protocol (version 7) for clients and its HTTP API for servers, so that
//! their libraries work as they are.
//!
//! `docs/pusher.md` is the contract. A client's connection passes through `connect` (the upgrade: app, origin,
//! version), `session` (the state machine) and `wire` (the frames). A server's request passes through `auth` (its
//! signature), then `api` (one file for each noun), then the bus. `webhooks` writes channel events for the app's
//! webhooks.
//!
//! `engine` mounts the door's routes. The door stores nothing.
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

/// The door, to be passed to an engine that serves Pusher Channels.
#[derive(Debug, Default)]
pub struct Pusher {
    keep_alive: KeepAlive,
}

impl Pusher {
    /// A door with these keep-alive times.
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
