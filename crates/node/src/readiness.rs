//! How a node stands.

use tidings_store::queue::Depth;

/// How a node stands, for `/readyz`.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Readiness {
    /// Which work has ended that the node cannot do without, and why; it takes no more events then.
    pub failure: Option<String>,
    /// Which store it is.
    pub store: &'static str,
    /// Why the store cannot be written, when it cannot.
    pub store_error: Option<String>,
    /// How many nodes share the store, this one among them; `None` when the store does not say.
    pub nodes: Option<u64>,
    /// Open work.
    pub depth: Depth,
    /// Which broker it is.
    pub broker: &'static str,
    /// It cannot be reached: what is said reaches this node's sessions only, or is refused.
    pub cut_off: bool,
    /// Live sessions.
    pub sessions: usize,
    /// Attempts under way.
    pub in_flight: usize,
    /// Bytes of deliveries held in memory.
    pub held_bytes: usize,
}

impl Readiness {
    /// Whether requests may be sent to it.
    pub fn is_ready(&self) -> bool {
        self.failure.is_none() && self.store_error.is_none()
    }
}
