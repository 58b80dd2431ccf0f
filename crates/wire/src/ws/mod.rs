//! The server's side of the WebSocket protocol (RFC 6455), without I/O: [`Decoder`] for what clients send, functions
//! that make whole frames, and the [`handshake`].
//!
//! No extension is negotiated, so reserved bits are refused. Servers do not mask frames, so the same bytes can be
//! written to all sessions.

mod decoder;
mod frame;
pub mod handshake;
mod header;

pub use decoder::{Decoder, Incoming};
pub use frame::{binary, close, ping, pong, text, text_with};
pub use header::Violation;
