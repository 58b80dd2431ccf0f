//! Membership in the list of nodes that share a store: registration, and heartbeats.

use std::sync::Arc;
use std::time::Duration;

use tidings_model::clock::Stopwatch;
use tidings_store::nodes::{GONE_AFTER, Node, NodeRegistration};
use tidings_store::{Store, StoreError};
use tidings_supervisor::fault;
use tokio::time::MissedTickBehavior;

use crate::error::{IncompatibleNode, NodeError};

/// How often a node renews its heartbeat: three times before the heartbeat expires.
const HEARTBEAT: Duration = Duration::from_secs(3);
/// How often a starting node checks whether an incompatible node is still alive.
const POLL: Duration = Duration::from_millis(250);

/// Registers this node. An incompatible node on the list may have died a moment ago, so this waits until that node
/// renews its heartbeat, or is removed because its heartbeat has expired.
pub(crate) async fn join(store: &dyn Store, broker: &'static str) -> Result<(), NodeError> {
    let waited = Stopwatch::start();
    let mut first: Option<Node> = None;
    loop {
        let NodeRegistration::Incompatible(other) = store.register_node(broker).await? else { return Ok(()) };
        let lives = first.as_ref().is_some_and(|first| first.name != other.name || first.seen != other.seen);
        // If it were dead, it would have been removed from the list by now.
        if lives || waited.elapsed() > GONE_AFTER + HEARTBEAT {
            return Err(IncompatibleNode::new(broker, other).into());
        }
        if first.is_none() {
            tracing::info!(node = other.name, "another node may be using this database; waiting for its heartbeat");
            first = Some(other);
        }
        tokio::time::sleep(POLL).await;
    }
}

/// Renews this node's heartbeat until the store is closed.
pub(crate) async fn send_heartbeats(store: Arc<dyn Store>, broker: &'static str) {
    let mut every = tokio::time::interval(HEARTBEAT);
    every.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut failing = false;
    loop {
        every.tick().await;
        fault::point("node-membership");
        let problem = match store.register_node(broker).await {
            Ok(NodeRegistration::Registered) => None,
            // The other node registered while this node's heartbeat had expired. Sessions go on, but an operator has to
            // stop one of the nodes.
            Ok(NodeRegistration::Incompatible(other)) => Some(IncompatibleNode::new(broker, other).to_string()),
            Err(StoreError::Closed) => return,
            Err(error) => Some(error.to_string()),
        };
        let was_failing = std::mem::replace(&mut failing, problem.is_some());
        if let Some(error) = problem.filter(|_| !was_failing) {
            tracing::error!(error, "node heartbeat to the store failed; retrying");
        }
    }
}
