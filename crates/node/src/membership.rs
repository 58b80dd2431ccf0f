//! Being on the list of the nodes that share a store: coming on it, or learning why not, and staying there.

use std::sync::Arc;
use std::time::Duration;

use tidings_model::clock::Stopwatch;
use tidings_store::nodes::{GONE_AFTER, Node, NodeRegistration};
use tidings_store::{Store, StoreError};
use tidings_supervisor::fault;
use tokio::time::MissedTickBehavior;

use crate::error::{IncompatibleNode, NodeError};

/// How often a node says that it is there: three times before it would be taken for gone.
const BEAT: Duration = Duration::from_secs(3);
/// How often a node that finds another in its way looks whether that one still lives.
const LOOK: Duration = Duration::from_millis(250);

/// Comes on the list. A node that is in the way may just have died: it is waited for until it shows that it lives, or
/// is taken for gone.
pub(crate) async fn enter(store: &dyn Store, broker: &'static str) -> Result<(), NodeError> {
    let waited = Stopwatch::start();
    let mut first: Option<Node> = None;
    loop {
        let NodeRegistration::Incompatible(other) = store.register_node(broker).await? else { return Ok(()) };
        let lives = first.as_ref().is_some_and(|first| first.name != other.name || first.seen != other.seen);
        // Were it gone, it would have been struck off by now.
        if lives || waited.elapsed() > GONE_AFTER + BEAT {
            return Err(IncompatibleNode::new(broker, other).into());
        }
        if first.is_none() {
            tracing::info!(node = other.name, "another node may be using this database; waiting for a sign of it");
            first = Some(other);
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// Stays on the list for as long as the store is open.
pub(crate) async fn stay(store: Arc<dyn Store>, broker: &'static str) {
    let mut every = tokio::time::interval(BEAT);
    every.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut trouble = false;
    loop {
        every.tick().await;
        fault::point("node-membership");
        let said = match store.register_node(broker).await {
            Ok(NodeRegistration::Registered) => None,
            // It came while this node could not say that it is there. Sessions are not ended for that, but it is no way
            // to go on.
            Ok(NodeRegistration::Incompatible(other)) => Some(IncompatibleNode::new(broker, other).to_string()),
            Err(StoreError::Closed) => return,
            Err(error) => Some(error.to_string()),
        };
        let was_in_trouble = std::mem::replace(&mut trouble, said.is_some());
        if let Some(error) = said.filter(|_| !was_in_trouble) {
            tracing::error!(error, "this node is not on the list of nodes; trying again");
        }
    }
}
