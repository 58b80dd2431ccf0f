//! The kit of our tests: a real server, clients of all its doors (light ones, and the real ones in their own
//! languages), a scripted receiver, a chaos proxy, and waiting with a deadline.
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
//! Functions panic with details when a test cannot go on. If a test may want to check a failure itself (a refused
//! start, a broken connection), there is a `try_` form, or the function returns what happened.

#![forbid(unsafe_code)]

mod api;
mod app_server;
mod balancer;
mod cli;
mod client;
mod clients;
mod cluster;
mod dial;
mod django_shop;
mod eventually;
mod port;
mod postgres;
mod process;
mod proxy;
mod pusher;
mod raw;
mod receiver;
mod redis;
mod script;
mod server;
mod stream;
mod tls;
mod token;

pub use api::{Api, Reply, Request};
pub use app_server::AppServer;
pub use balancer::{Balancer, haproxy, nginx};
pub use cli::{Cli, Running, tidings};
pub use client::{Client, Person};
pub use clients::{verify_with_official_clients, verify_with_pushers_libraries};
pub use cluster::Cluster;
pub use dial::dial;
pub use django_shop::DjangoShop;
pub use eventually::eventually;
pub use port::free_port;
pub use postgres::{Database, Standby, postgres, postgres_alone, postgres_synced};
pub use process::{Exit, own_environment};
pub use proxy::{Cut, Proxy, Toward, proxy};
pub use pusher::{Connect, Frame, Incoming, PusherApp, PusherSession, Refused};
pub use raw::{RawReceiver, read_request};
pub use receiver::{Answer, Received, Receiver};
pub use redis::{Redis, RedisCluster, redis, redis_cluster};
pub use server::{Credentials, Server, ServerBuilder, server};
pub use stream::{Stream, StreamEvent};
/// The clock that stands still until a test moves it.
pub use tidings_model::clock::ManualClock as Clock;
pub use tls::client as tls_client;
pub use token::{token, unsigned_token};
