//! Errors of a node's start.

use std::io;

use tidings_broker::RedisUrlError;
use tidings_bus::{AppsError, ManageError};
use tidings_courier::egress::EgressError;
use tidings_store::StoreError;
use tidings_store::nodes::{Node, OWN_BROKER};
use tidings_store::postgres::OpenError;
use tidings_store::seal::MainKeyError;

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
    /// The main key cannot be read or created.
    #[error(transparent)]
    MainKey(#[from] MainKeyError),
    /// The settings of outgoing requests cannot be used.
    #[error(transparent)]
    Egress(#[from] EgressError),
    /// The broker's configuration cannot be used.
    #[error("the broker cannot be used")]
    Broker(#[from] RedisUrlError),
    /// Another node of the database is not compatible with this one.
    #[error(transparent)]
    Nodes(#[from] IncompatibleNode),
    /// The apps' webhooks cannot be written to the store.
    #[error("the apps' webhooks cannot be written to the store")]
    Webhooks(#[from] ManageError),
    /// A request could belong to two apps.
    #[error(transparent)]
    Apps(#[from] AppsError),
    /// The operating system has no more threads or file descriptors for live sessions.
    #[error("the threads for live sessions cannot be started")]
    Live(#[source] io::Error),
    /// Two doors of an engine have this name, so it is unclear which of them serves an app that lists it.
    #[error("two doors have the name {0:?}; give the engine each door once")]
    DuplicateDoor(&'static str),
    /// The task that opens the store panicked or was cancelled.
    #[error("opening the store was aborted")]
    Broken,
}

/// Why a node may not share the database with another one.
#[derive(Debug, Clone, thiserror::Error)]
pub enum IncompatibleNode {
    /// This node has the broker in memory.
    #[error(
        "another node uses this database: the one whose file tidings-data/node says {name}. With broker.url = \
        \"memory://\" the sessions of one node would not receive events of the other; set broker.url to the same \
        redis://… for all nodes, or stop the other one"
    )]
    Here {
        /// The other node.
        name: String,
    },
    /// The other node has the broker in memory.
    #[error(
        "another node uses this database and has broker.url = \"memory://\": the one whose file tidings-data/node says \
        {name}. Its sessions would not receive events of this node; set broker.url to the same redis://… for all \
        nodes, or stop the other one"
    )]
    There {
        /// The other node.
        name: String,
    },
}

impl IncompatibleNode {
    pub(crate) fn new(broker: &str, other: Node) -> Self {
        let name = other.name;
        if broker == OWN_BROKER { Self::Here { name } } else { Self::There { name } }
    }
}
