//! Who shares the store: nodes say that they are there, and learn who else is.

use std::time::Duration;

use async_trait::async_trait;
use tidings_model::clock::Millis;

use crate::error::StoreError;

/// A node that has not been heard for so long, by the store's clock, is taken for gone. It says that it is there a few times as
/// often.
pub const GONE_AFTER: Duration = Duration::from_secs(10);

/// After so long every other node knows of one that is new. Until then it leaves alone what is one node's only.
pub const KNOWN_AFTER: Duration = Duration::from_secs(2);

/// The broker that a node has for itself: its sessions hear nothing of other nodes.
pub const OWN_BROKER: &str = "memory";

/// A node, as it said last.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// Its name; no other has it.
    pub name: String,
    /// Which broker it has, in a word.
    pub broker: String,
    /// When it started, in Unix milliseconds of the store's clock.
    pub started: Millis,
    /// When it said so, in Unix milliseconds of the store's clock.
    pub seen: Millis,
}

impl Node {
    /// Whether two nodes with these brokers may share a store: unless both share a broker too, an event that one of them
    /// takes does not reach the sessions of the other.
    pub fn goes_with(&self, broker: &str) -> bool {
        self.broker != OWN_BROKER && broker != OWN_BROKER
    }
}

/// What became of saying that one is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Presence {
    /// Written down.
    Entered,
    /// Not written down: this one is there, and the two do not go together.
    Refused(Node),
}

/// The list of the nodes that share a store.
#[async_trait]
pub trait Nodes: Send + Sync {
    /// Says that this node is there, and which broker it has. It stays on the list for [`GONE_AFTER`], or until the store is
    /// closed. Of two that do not go together and come at once, one is refused.
    async fn enter(&self, broker: &'static str) -> Result<Presence, StoreError>;

    /// How many nodes are there.
    async fn nodes(&self) -> Result<u64, StoreError>;
}
