//! What an operator can set about live sessions (`[live]` in the configuration).

use std::time::Duration;

/// Limits and timeouts of live sessions. The defaults are those that the documentation states.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settings {
    /// Sessions of all apps at one time, on this node; 0 sets no limit.
    pub sessions: usize,
    /// Bytes that may be queued for one client; a client with more is closed as too slow.
    pub session_queue: usize,
    /// The kernel's send buffer of each socket, in bytes (`SO_SNDBUF`); 0 leaves it as it is.
    pub send_buffer: usize,
    /// How long the kernel tries to reach a client that acknowledges nothing (`TCP_USER_TIMEOUT`); 0 leaves it as it
    /// is.
    pub user_timeout: Duration,
    /// Bytes that an inbox may hold before publishes are refused.
    pub inbox_bytes: usize,
    /// Age of an inbox's oldest message from which publishes are refused.
    pub inbox_age: Duration,
    /// How long a [door's own request](crate::DoorRequest) may take.
    pub door_timeout: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            sessions: 0,
            session_queue: 1 << 20,
            send_buffer: 256 << 10,
            user_timeout: Duration::from_secs(30),
            inbox_bytes: 64 << 20,
            inbox_age: Duration::from_secs(1),
            door_timeout: Duration::from_secs(5),
        }
    }
}
