//! The store's clock: the database server's, which all nodes share.
//!
//! Callers say what time it is by their own steady clock. What is due or leased is written, and compared, in the
//! server's time; the difference is measured at the start and at each sweep. So a lease runs out at one moment for all
//! nodes, however their own clocks stand.

use std::sync::atomic::{AtomicI64, Ordering};

use sqlx::{PgConnection, Row};
use tidings_model::clock::{Millis, Stopwatch, millis};

use super::connect::sql;
use crate::error::StoreError;

/// How far the server's clock is ahead of this node's steady one.
#[derive(Debug)]
pub(super) struct ServerClock {
    ahead: AtomicI64,
    /// Whether the difference is measured. Tests that stand still in time say there is none.
    measured: bool,
}

impl ServerClock {
    pub(super) fn measured() -> Self {
        Self { ahead: AtomicI64::new(0), measured: true }
    }

    /// One that always agrees with the caller's.
    #[cfg(test)]
    pub(super) fn agreeing() -> Self {
        Self { ahead: AtomicI64::new(0), measured: false }
    }

    /// Compares the clocks; the caller's said `now` when `since` was started. A connection may have been waited for
    /// since.
    pub(super) async fn compare(
        &self,
        db: &mut PgConnection,
        now: Millis,
        since: &Stopwatch,
    ) -> Result<(), StoreError> {
        if !self.measured {
            return Ok(());
        }
        let asked = since.elapsed();
        let row = sql("SELECT (extract(epoch FROM clock_timestamp()) * 1000)::bigint").fetch_one(db).await?;
        let server: Millis = row.try_get(0)?;
        // The server looked at its clock somewhere between the question and the answer.
        let looked = now + millis(asked + since.elapsed()) / 2;
        self.ahead.store(server - looked, Ordering::Relaxed);
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

    /// What goes wrong is at most half of what lies between the question and the answer, whatever was waited for
    /// before.
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
