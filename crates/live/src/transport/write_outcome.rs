//! The outcome of a write to a session.

/// The outcome of a write to a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum WriteOutcome {
    /// The bytes are sent, or wait in the queue.
    Accepted,
    /// More bytes wait than the session's queue may hold.
    QueueFull,
    /// The connection is broken, or the response's body was dropped.
    Broken,
}
