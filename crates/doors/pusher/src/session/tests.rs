//! Sessions, as a client sees them: what goes in, and which frames, requests and closes come out.

mod catching_up;
mod channels;
mod client_events;
mod connection;
mod flood;
mod idle;
mod kit;
mod signin;
mod values;
mod watch;
