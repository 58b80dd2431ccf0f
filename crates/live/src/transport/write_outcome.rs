//! How a write to a session ends.

/// What became of bytes that were written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum WriteOutcome {
    /// They have left, or wait in the queue.
    Accepted,
    /// More bytes wait than the session's queue may hold.
    QueueFull,
    /// The connection is broken, or the response's body was dropped.
    Broken,
}
