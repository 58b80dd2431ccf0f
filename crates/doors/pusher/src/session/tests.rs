//! Sessions, as a client sees them: messages in; frames, requests and closes out.

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
