//! The list of nodes: always this one.

use async_trait::async_trait;

use super::SqliteStore;
use crate::error::StoreError;
use crate::nodes::{NodeRegistration, Nodes};

/// A database file belongs to one process, so there is one node.
#[async_trait]
impl Nodes for SqliteStore {
    async fn register_node(&self, _broker: &'static str) -> Result<NodeRegistration, StoreError> {
        Ok(NodeRegistration::Registered)
    }

    async fn nodes(&self) -> Result<u64, StoreError> {
        Ok(1)
    }
}
