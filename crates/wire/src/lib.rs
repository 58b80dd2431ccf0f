//! Bytes ⇄ meaning, without I/O: what subscribers of a channel receive ([`ChannelMessage`]) with its encodings, each
//! made at most once ([`EncodedMessage`]), the server's side of the WebSocket protocol ([`ws`]), Server-Sent Events
//! ([`sse`]), the head and chunks of an HTTP response, error answers ([`ProblemDetails`]), and plain `POST` requests
//! ([`PostReader`]).
//!
//! Doors define how their protocol writes a message (an [`Encoding`]); shards of `live` write the bytes to sockets.
#![forbid(unsafe_code)]

mod channel_message;
pub mod chunk;
mod encoded_message;
mod head;
mod post;
mod problem;
pub mod sse;
pub mod ws;

pub use channel_message::{ChannelMessage, MemberChange, Publication};
pub use encoded_message::{EncodedMessage, Encoding};
pub use head::response_head;
pub use post::{NoPost, PostReader, has_head_end};
pub use problem::{ProblemDetails, ProblemKind};
