//! The Pusher door.
#![forbid(unsafe_code)]
