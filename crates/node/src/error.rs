//! Why a node does not start.

use std::io;

use tidings_broker::RedisUrlError;
use tidings_bus::{AppsError, ManageError};
use tidings_courier::egress::EgressError;
use tidings_store::StoreError;
use tidings_store::postgres::OpenError;
use tidings_store::seal::MainKeyError;

use crate::membership::IncompatibleNode;

/// Why a node could not be started.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NodeError {
    /// The store cannot be opened or read.
    #[error("the store cannot be used")]
    Store(#[from] StoreError),
    /// PostgreSQL cannot be used.
    #[error("the store cannot be used")]
    Postgres(#[from] OpenError),
    /// The main key cannot be read or made.
    #[error(transparent)]
    MainKey(#[from] MainKeyError),
    /// The settings of outgoing requests cannot be used.
    #[error(transparent)]
    Egress(#[from] EgressError),
    /// The broker cannot be what it is to be.
    #[error("the broker cannot be used")]
    Broker(#[from] RedisUrlError),
    /// Another node does not go with this one.
    #[error(transparent)]
    Nodes(#[from] IncompatibleNode),
    /// The apps' webhooks cannot be written to the store.
    #[error("the apps' webhooks cannot be kept")]
    Webhooks(#[from] ManageError),
    /// The apps cannot be told apart.
    #[error(transparent)]
    Apps(#[from] AppsError),
    /// The system gives no more threads or file descriptors to live sessions.
    #[error("live sessions cannot be served")]
    Live(#[source] io::Error),
    /// The task that opens the store was broken off.
    #[error("the store was not opened")]
    Broken,
}
