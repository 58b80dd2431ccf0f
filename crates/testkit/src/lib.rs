//! The vocabulary of our tests: a real server, a client for its API, a scripted receiver, and waiting with a deadline.
//!
//! ```no_run
//! # async fn example() {
//! use std::time::Duration;
//! use serde_json::json;
//! use tidings_testkit::{Receiver, server};
//!
//! let partner = Receiver::start();
//! let hub = server().egress_allow("127.0.0.0/8").start().await;
//! hub.api().post("/v1/hooks", json!({"name": "person.created"})).await.expect_status(201);
//! hub.api()
//!     .post("/v1/listeners", json!({"url": partner.url("/in"), "hooks": ["person.created"]}))
//!     .await
//!     .expect_status(201);
//! hub.api().post("/v1/events", json!({"name": "person.created", "data": {"name": "Ada"}})).await.expect_status(202);
//! let got = partner.wait_for(1, |request| request.path == "/in", Duration::from_secs(5)).await;
//! assert_eq!(got[0].json()["data"]["name"], "Ada");
//! # }
//! ```
//!
//! Everything here panics with what it saw when a test cannot go on: a test has no better use for an error. Whatever a test
//! may want to look at itself (a refused start, a broken connection) has a `try_` form or returns what happened.

#![forbid(unsafe_code)]

mod api;
mod cli;
mod clients;
mod dial;
mod eventually;
mod process;
mod raw;
mod receiver;
mod server;

pub use api::{Api, Reply, Request};
pub use cli::{Cli, Running, tidings};
pub use clients::verify_with_official_clients;
pub use dial::dial;
pub use eventually::eventually;
pub use process::Exit;
pub use raw::{RawReceiver, read_request};
pub use receiver::{Answer, Received, Receiver};
pub use server::{Credentials, Server, ServerBuilder, server};
/// The clock that stands still until a test moves it.
pub use tidings_model::clock::ManualClock as Clock;
