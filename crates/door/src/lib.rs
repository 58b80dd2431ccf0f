//! What a door is: a protocol's way in and out, as a part of an engine.
//!
//! A door stands on a [`Node`] and speaks to nothing in it but what that hands out. Nothing below doors knows which
//! there are: an engine is given a list of them.
#![forbid(unsafe_code)]

use std::fmt;

use axum::Router;
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, Request, StatusCode};
use tidings_node::{NamedFormat, Node, WebhookParts};

/// A protocol's way in and out. Whatever its part of the configuration says it holds itself.
pub trait Door: fmt::Debug + Send + Sync + 'static {
    /// Its name, as in an app's `doors`; no two doors of an engine have the same.
    fn name(&self) -> &'static str;

    /// How it writes webhooks, if it does. Asked once, before the node delivers anything.
    fn webhook_formats(&self, _parts: &WebhookParts<'_>) -> Vec<NamedFormat> {
        Vec::new()
    }

    /// Its routes, on a node that runs. Paths of different doors must differ.
    fn routes(&self, node: &Node) -> Router;

    /// The answer to a request that made the code panic, in the protocol's own form.
    fn panicked(&self) -> Response {
        let told = "the server failed at this request: a bug, which its log shows\n";
        (StatusCode::INTERNAL_SERVER_ERROR, told).into_response()
    }

    /// What a client of this protocol is told that asks for a session where there is no room for its connection:
    /// status, headers and body. `None` for every other request.
    fn no_room(&self, _request: &Request<()>) -> Option<(StatusCode, HeaderMap, Vec<u8>)> {
        None
    }
}
