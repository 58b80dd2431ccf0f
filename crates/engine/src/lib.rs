//! The only assembly: from a [`Config`] to a running [`Engine`].
//!
//! Reads no environment and no files but the ones that its configuration names, and installs nothing global: so it runs in the
//! server and inside anybody's program alike.
#![forbid(unsafe_code)]

mod config;
mod counts;
mod engine;
mod histories;
mod nodes;
mod outlets;
mod retention;

pub use config::{
    AppReader, BrokerConfig, Config, KeepAlive, RedisSettings, RedisUrlError, Retention, Spec, StoreConfig, WrongField,
};
pub use engine::{Engine, EngineError, Readiness};
pub use nodes::IncompatibleNode;
