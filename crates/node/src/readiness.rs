//! A node's status.

use tidings_store::queue::Depth;

/// A node's status, for `/readyz`.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Readiness {
    /// The required thread or task that has ended, and why; then the node takes no more events.
    pub failure: Option<String>,
    /// The kind of store.
    pub store: &'static str,
    /// Why the store cannot be written, if so.
    pub store_error: Option<String>,
    /// The number of nodes that share the store, including this one; `None` if the query failed.
    pub nodes: Option<u64>,
    /// Pending work in the store, and the store's size.
    pub depth: Depth,
    /// The kind of broker.
    pub broker: &'static str,
    /// Whether the broker cannot be reached: then publishes reach only this node's sessions, or are refused.
    pub cut_off: bool,
    /// Live sessions.
    pub sessions: usize,
    /// Attempts in flight.
    pub in_flight: usize,
    /// Bytes of deliveries held in memory.
    pub held_bytes: usize,
}

impl Readiness {
    /// Whether a load balancer may send requests to the node.
    pub fn is_ready(&self) -> bool {
        self.failure.is_none() && self.store_error.is_none()
    }
}
