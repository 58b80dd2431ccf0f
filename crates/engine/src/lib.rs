//! An engine: one node, and the doors to it.
//!
//! The server runs one, and so may any program. [`Engine::build`] takes a [`Config`] and doors; [`Engine::router`] is
//! all of their routes.
#![forbid(unsafe_code)]

mod catch_panic;
mod engine;

pub use engine::Engine;
pub use tidings_door::Door;
pub use tidings_node::{
    AppReader, BrokerConfig, Config, IncompatibleNode, NodeError, Readiness, RedisSettings, RedisUrlError, Retention,
    Spec, StoreConfig, WrongField,
};
