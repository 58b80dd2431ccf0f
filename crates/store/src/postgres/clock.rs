//! The store's clock: the database server's, which all nodes share.
//!
//! Callers pass times of their own steady clock. Due times and leases are written and compared in the server's time.
//! The difference is measured at the start and at each sweep. So a lease expires at the same moment for all nodes,
//! whatever their own clocks say.

use std::sync::atomic::{AtomicI64, Ordering};

use sqlx::{PgConnection, Row};
use tidings_model::clock::{Millis, Stopwatch, millis};

use super::connect::sql;
use crate::error::StoreError;

/// How far the server's clock is ahead of this node's steady one.
#[derive(Debug)]
pub(super) struct ServerClock {
    ahead: AtomicI64,
    /// Whether the difference is measured. In tests with a fixed time it is always zero.
    measured: bool,
}

impl ServerClock {
    pub(super) fn measured() -> Self {
        Self { ahead: AtomicI64::new(0), measured: true }
    }

    /// A clock that always equals the caller's.
    #[cfg(test)]
    pub(super) fn agreeing() -> Self {
        Self { ahead: AtomicI64::new(0), measured: false }
    }

    /// Measures the difference. `now` is the caller's time when `since` was started; the call may have waited for a
    /// connection since then.
    pub(super) async fn compare(
        &self,
        db: &mut PgConnection,
        now: Millis,
        since: &Stopwatch,
    ) -> Result<(), StoreError> {
        if !self.measured {
            return Ok(());
        }
        let sent = since.elapsed();
        let row = sql("SELECT (extract(epoch FROM clock_timestamp()) * 1000)::bigint").fetch_one(db).await?;
        let server: Millis = row.try_get(0)?;
        // The server read its clock between query and answer: the middle is the best estimate.
        let read_at = now + millis(sent + since.elapsed()) / 2;
        self.ahead.store(server - read_at, Ordering::Relaxed);
        Ok(())
    }

    /// The server's time, from the caller's.
    pub(super) fn server(&self, time: Millis) -> Millis {
        time.saturating_add(self.ahead.load(Ordering::Relaxed))
    }

    /// The caller's time, from the server's.
    pub(super) fn caller(&self, time: Millis) -> Millis {
        time.saturating_sub(self.ahead.load(Ordering::Relaxed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::postgres::tests::Node;

    /// The error is at most half of the time between query and answer, however long the wait before the query.
    #[tokio::test]
    async fn what_was_waited_for_before_does_not_set_the_clock_wrong() {
        let node = Node::alone();
        let store = node.store().await;
        let mut tx = store.connections.begin().await.unwrap();
        let row =
            sql("SELECT (extract(epoch FROM clock_timestamp()) * 1000)::bigint").fetch_one(&mut *tx).await.unwrap();
        let (now, since): (Millis, _) = (row.try_get(0).unwrap(), Stopwatch::start());
        sql("SELECT pg_sleep(0.5)").execute(&mut *tx).await.unwrap();
        let (clock, before) = (ServerClock::measured(), since.elapsed());
        clock.compare(&mut tx, now, &since).await.unwrap();
        let most = millis(since.elapsed() - before) / 2 + 5;
        assert!(clock.server(0).abs() <= most, "{} ms, not {most} at most", clock.server(0));
    }
}
