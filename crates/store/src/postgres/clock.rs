//! The store's clock: the database server's, which all nodes share.
//!
//! Callers say what time it is by their own steady clock. What is due or leased is written, and compared, in the server's
//! time; the difference is measured at the start and at each sweep. So a lease runs out at one moment for all nodes, however
//! their own clocks stand.

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

    /// Compares the clocks; the caller's said `now` just before.
    pub(super) async fn compare(&self, db: &mut PgConnection, now: Millis) -> Result<(), StoreError> {
        if !self.measured {
            return Ok(());
        }
        let took = Stopwatch::start();
        let row = sql("SELECT (extract(epoch FROM clock_timestamp()) * 1000)::bigint").fetch_one(db).await?;
        let server: Millis = row.try_get(0)?;
        // The server looked at its clock somewhere in the middle.
        self.ahead.store(server - (now + millis(took.elapsed()) / 2), Ordering::Relaxed);
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
