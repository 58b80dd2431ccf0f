//! Destinations that asked for a pause. The node that was asked records it, and the other nodes pause them too.

use std::collections::BTreeMap;

use sqlx::PgConnection;
use tidings_model::clock::Millis;

use super::clock::ServerClock;
use super::connect::{numbers, numeric};
use crate::error::StoreError;
use crate::queue::Finished;

/// Records the pauses that were asked for in the results of attempts.
pub(super) async fn record(db: &mut PgConnection, batch: &[Finished], clock: &ServerClock) -> Result<(), StoreError> {
    // Sorted, or two nodes that write the same rows could deadlock.
    let mut all = BTreeMap::new();
    for (end, until) in batch.iter().filter_map(|end| Some((end, end.pause?))) {
        let latest = all.entry(end.delivery.key.destination.0).or_insert(Millis::MIN);
        *latest = clock.server(until).max(*latest);
    }
    if all.is_empty() {
        return Ok(());
    }
    numeric(format!(
        "INSERT INTO paused (destination, until) SELECT * FROM unnest({}, {})
         ON CONFLICT (destination) DO UPDATE SET until = greatest(paused.until, excluded.until)",
        numbers(all.keys().copied()),
        numbers(all.values().copied())
    ))
    .execute(db)
    .await?;
    Ok(())
}

/// Deletes pauses that are over.
pub(super) async fn forget(db: &mut PgConnection, now: Millis) -> Result<(), StoreError> {
    numeric(format!("DELETE FROM paused WHERE until <= {now}")).execute(db).await?;
    Ok(())
}
