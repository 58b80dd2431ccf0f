//! Bytes ⇄ meaning, without I/O: what subscribers of a channel are told ([`Said`]), each encoding of it made at most once
//! ([`Prepared`]), the server's side of the WebSocket protocol ([`ws`]), Server-Sent Events ([`sse`]), the head of an HTTP
//! response, and plain `POST` requests ([`PostReader`]).
//!
//! Doors say how something looks in their protocol (a [`Format`]); shards of `live` write what comes of it to sockets.
#![forbid(unsafe_code)]

mod head;
mod post;
mod prepared;
mod said;
pub mod sse;
pub mod ws;

pub use head::response_head;
pub use post::{NoPost, PostReader, has_head_end};
pub use prepared::{Format, Prepared, Slot};
pub use said::{Presence, Publication, Said};
