//! The Tidings API: the door through which applications publish events and manage hooks, listeners and deliveries, and
//! through which browsers and servers follow channels.
//!
//! `docs/api.md` is the contract. A request passes through `auth` (its API key), `api` (one file for each noun), `wire`
//! (its JSON body, without I/O), then the bus. Every refusal is a `problem`. `webhooks` is the way out.
//!
//! `engine` mounts the routes of [`Api`]. The door's only state is its rate limits.
#![forbid(unsafe_code)]

mod api;
mod auth;
mod body;
mod door;
mod fields;
mod limits;
mod name;
mod paging;
mod problem;
mod query;
mod stream;
mod webhooks;
mod wire;

use std::sync::Arc;

use axum::Router;
use axum::response::{IntoResponse, Response};
use tidings_door::Door;
use tidings_model::listener::Format;
use tidings_model::secret::SecretString;
use tidings_node::{NamedFormat, Node, WebhookParts};

use door::ApiDoor;
use problem::{Code, Problem};
use webhooks::StandardWebhooks;

/// Parsers of untrusted bytes, for the fuzz targets.
#[doc(hidden)]
pub mod readers {
    use tidings_model::id::{DestinationNo, EventNo};

    use crate::paging::{self, Cursor};
    use crate::stream::cursor;

    /// A stream's cursor over `channels` channels, read and written again.
    pub fn stream_cursor(text: &str, channels: usize) -> Option<String> {
        cursor::read(text, channels).map(|positions| cursor::write(positions.iter().map(Option::as_ref)))
    }

    /// A list's cursor, read and written again by each kind of list that accepts it.
    pub fn page_cursor(text: &str) -> Vec<String> {
        fn again<C: Cursor>(text: &str) -> Option<String> {
            paging::decode::<C>(text).map(|cursor| paging::encode(&cursor))
        }
        let all = [
            again::<paging::HookName>(text),
            again::<paging::AppName>(text),
            again::<paging::ChannelName>(text),
            again::<paging::ListenerId>(text),
            again::<EventNo>(text),
            again::<(EventNo, DestinationNo)>(text),
        ];
        all.into_iter().flatten().collect()
    }
}

pub use name::NAME;

/// The door, to be passed to an engine that serves the Tidings API.
#[derive(Debug)]
pub struct Api {
    operator_key: SecretString,
}

impl Api {
    /// A door with the operator's key, which opens every app; an empty key opens nothing.
    pub fn new(operator_key: SecretString) -> Self {
        Self { operator_key }
    }
}

impl Door for Api {
    fn name(&self) -> &'static str {
        NAME
    }

    fn webhook_formats(&self, parts: &WebhookParts<'_>) -> Vec<NamedFormat> {
        vec![(Format::STANDARD, Arc::new(StandardWebhooks::new(parts)))]
    }

    fn routes(&self, node: &Node) -> Router {
        api::router(ApiDoor::new(node, self.operator_key.clone()))
    }

    fn panicked(&self) -> Response {
        let problem = Problem::new(Code::Internal, "a bug in the server: it failed at this request");
        problem.remedy("the server's log says where").into_response()
    }
}
