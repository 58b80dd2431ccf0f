//! The nodes that share a store: each registers itself, keeps its registration alive, and learns how many others there
//! are.

use std::time::Duration;

use async_trait::async_trait;
use tidings_model::clock::Millis;

use crate::error::StoreError;

/// A node whose last heartbeat is older than this, by the store's clock, counts as dead. Heartbeats come several times
/// as often.
pub const GONE_AFTER: Duration = Duration::from_secs(10);

/// How long it takes until every other node knows of a new one. Until then the new node owns no destination.
pub const KNOWN_AFTER: Duration = Duration::from_secs(2);

/// The name of the broker that nodes cannot share: with it, sessions receive nothing from other nodes.
pub const OWN_BROKER: &str = "memory";

/// A node, as of its last heartbeat.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// The node's name, unique among the nodes.
    pub name: String,
    /// The name of its broker.
    pub broker: String,
    /// When it started, in Unix milliseconds of the store's clock.
    pub started: Millis,
    /// Its last heartbeat, in Unix milliseconds of the store's clock.
    pub seen: Millis,
}

impl Node {
    /// Whether nodes with these brokers may share a store. Unless they share a broker too, an event published at one
    /// does not reach the sessions of the other.
    pub fn is_compatible(&self, broker: &str) -> bool {
        self.broker != OWN_BROKER && broker != OWN_BROKER
    }
}

/// The result of registering a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NodeRegistration {
    /// It is on the list, or its heartbeat was renewed.
    Registered,
    /// It was refused: it may not share the store with this node.
    Incompatible(Node),
}

/// The list of the nodes that share a store.
#[async_trait]
pub trait Nodes: Send + Sync {
    /// Registers this node with its broker, or renews its heartbeat. It stays on the list for [`GONE_AFTER`], or until
    /// the store is closed. Of two incompatible nodes that register at once, one is refused.
    async fn register_node(&self, broker: &'static str) -> Result<NodeRegistration, StoreError>;

    /// How many nodes are alive.
    async fn nodes(&self) -> Result<u64, StoreError>;
}
