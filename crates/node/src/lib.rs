//! One node without doors: store, broker, live sessions, courier and bus, put together and supervised.
//!
//! [`Node::start`] makes a running [`Node`] of a [`Config`]; nothing else assembles these parts. A node knows no
//! protocol: doors' webhook formats are passed in, and their routes are built on top of it. It reads no environment and
//! no files except those that its configuration names, and installs nothing global. So it runs in the server, in tests
//! and inside any other program.
#![forbid(unsafe_code)]

mod config;
mod counts;
mod error;
mod histories;
mod membership;
mod node;
mod opening;
mod readiness;
mod retention;
mod upkeep;
mod webhooks;

pub use config::{
    AppReader, BrokerConfig, Config, RedisSettings, RedisUrlError, Retention, Spec, StoreConfig, WrongField,
};
pub use error::{IncompatibleNode, NodeError};
pub use node::Node;
pub use readiness::Readiness;
pub use webhooks::{NamedFormat, Rendered, WebhookFormat, WebhookParts};
