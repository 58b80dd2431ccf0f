//! One node without doors: store, broker, live sessions, courier and bus, put together and supervised.
//!
//! From a [`Config`] to a running [`Node`], the only assembly there is. A node knows no protocol: what doors bring,
//! outlets and routes, is handed in or made on top of it. It reads no environment and no files but the ones that its
//! configuration names, and installs nothing global: so it runs in the server, in tests, and inside anybody's program
//! alike.
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
