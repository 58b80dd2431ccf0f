//! The list of nodes: always this one.

use async_trait::async_trait;

use super::SqliteStore;
use crate::error::StoreError;
use crate::nodes::{Nodes, Presence};

/// The file belongs to one process, which is alone, always.
#[async_trait]
impl Nodes for SqliteStore {
    async fn enter(&self, _broker: &'static str) -> Result<Presence, StoreError> {
        Ok(Presence::Entered)
    }

    async fn nodes(&self) -> Result<u64, StoreError> {
        Ok(1)
    }
}
