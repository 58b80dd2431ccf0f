//! A door: a protocol's way in and out, as a part of an engine.
//!
//! A door is built on a [`Node`] and uses only the parts that the node hands out. No crate below the doors knows which
//! doors exist: an engine gets a list of them.
#![forbid(unsafe_code)]

use std::fmt;

use axum::Router;
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, Request, StatusCode};
use tidings_node::{NamedFormat, Node, WebhookParts};

/// A protocol's way in and out. A door holds its own part of the configuration.
pub trait Door: fmt::Debug + Send + Sync + 'static {
    /// The door's name, as in an app's `doors`; unique in an engine.
    fn name(&self) -> &'static str;

    /// The door's webhook formats, if it has any. Called once, before the node delivers anything.
    fn webhook_formats(&self, _parts: &WebhookParts<'_>) -> Vec<NamedFormat> {
        Vec::new()
    }

    /// The door's routes, on a running node. No two doors may share a path.
    fn routes(&self, node: &Node) -> Router;

    /// The response to a request whose handler panicked, in the protocol's own form.
    fn panicked(&self) -> Response {
        let message = "the server failed at this request: a bug, which its log shows\n";
        (StatusCode::INTERNAL_SERVER_ERROR, message).into_response()
    }

    /// The response (status, headers and body) to a client of this protocol that requests a session while the server is
    /// at its limit of connections. `None` for every other request.
    fn no_room(&self, _request: &Request<()>) -> Option<(StatusCode, HeaderMap, Vec<u8>)> {
        None
    }
}
