//! Forgetting what is old: events with what came of them, and idempotency keys.

use std::sync::Arc;
use std::time::Duration;

use tidings_model::clock::{SharedClock, millis};
use tidings_store::{Store, StoreError};

/// How often it looks; each look goes on in slices until nothing old is left.
const EVERY: Duration = Duration::from_secs(60);
/// Idempotency keys are honoured for a day.
const KEYS: Duration = Duration::from_secs(24 * 3_600);

/// Channels and members that are gone are remembered for so long, for what may still come late about them.
const GONE: Duration = Duration::from_secs(3_600);

/// Runs until the store is closed.
pub(crate) async fn run(store: Arc<dyn Store>, clock: SharedClock, keep: Duration) {
    loop {
        tokio::time::sleep(EVERY).await;
        let now = clock.wall_ms();
        while matches!(store.forget_gone(now - millis(GONE)).await, Ok(true)) {}
        loop {
            match store.retire(now - millis(keep), now - millis(KEYS)).await {
                Ok(true) => {}
                Ok(false) => break,
                Err(StoreError::Closed) => return,
                Err(error) => {
                    tracing::warn!(%error, "what is old could not be forgotten; trying again");
                    break;
                }
            }
        }
    }
}
