//! The WebSocket codec against the specification, and against another implementation of it.

mod against;
mod codes;
mod kit;
mod limits;
mod written;
