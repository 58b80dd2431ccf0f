//! Retries with backoff while the store cannot be reached.

use std::time::Duration;

use tidings_store::StoreError;

use crate::error::PublishError;

/// The first and the longest pause between two attempts.
const PAUSES: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(5));

/// Evaluates an attempt until it succeeds or fails permanently; backs off while the store cannot be reached.
macro_rules! retry {
    ($attempt:expr) => {{
        let mut backoff = $crate::retry::Backoff::default();
        loop {
            match $attempt.map_err($crate::error::PublishError::from) {
                Err(error) if backoff.wait(&error).await => {}
                other => break other,
            }
        }
    }};
}
pub(crate) use retry;

/// The pauses between attempts, each longer than the one before.
#[derive(Debug)]
pub(crate) struct Backoff(Duration);

impl Default for Backoff {
    fn default() -> Self {
        Self(PAUSES.0)
    }
}

impl Backoff {
    /// Waits until another attempt may succeed; `false`, at once, when it would not.
    pub(crate) async fn wait(&mut self, error: &PublishError) -> bool {
        // After a conflict, another attempt reads the newer record.
        let is_temporary =
            matches!(error, PublishError::Store(error) if error.is_temporary() || *error == StoreError::Conflict);
        if is_temporary {
            tracing::debug!(%error, "store cannot take a channel event; retrying");
            tokio::time::sleep(self.0).await;
            self.0 = (2 * self.0).min(PAUSES.1);
        }
        is_temporary
    }
}
