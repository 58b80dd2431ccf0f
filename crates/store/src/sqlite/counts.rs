//! Numbers of open work, kept in memory.
//!
//! No other process writes to the database. So the tables are counted once at the start; afterwards each commit adds
//! its changes.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use rusqlite::Connection;

use super::db::{Change, used};
use super::leased_batches;
use crate::error::StoreError;
use crate::queue::Depth;

/// The numbers as of the last commit.
#[derive(Debug, Default)]
pub(super) struct Counts {
    deliveries: AtomicI64,
    fanouts: AtomicI64,
    undelivered: AtomicI64,
    /// Bytes in use when they were last measured.
    bytes: AtomicU64,
}

impl Counts {
    /// Counts everything, once, at the start.
    pub(super) fn load(db: &Connection) -> Result<Self, StoreError> {
        let count = |sql: &str| db.query_row(sql, [], |row| row.get::<_, i64>(0)).map(AtomicI64::new);
        let out = Self {
            deliveries: count("SELECT COUNT(*) FROM delivery")?,
            fanouts: count("SELECT COUNT(*) FROM fanout")?,
            undelivered: count("SELECT COUNT(*) FROM closed WHERE state = 'undelivered' AND state <> 'delivered'")?,
            bytes: AtomicU64::default(),
        };
        out.deliveries.fetch_add(leased_batches::count(db)?, Ordering::Relaxed);
        out.measure(db)?;
        Ok(out)
    }

    /// Adds the changes of a committed transaction.
    pub(super) fn apply(&self, change: Change) {
        if change != Change::default() {
            self.deliveries.fetch_add(change.deliveries, Ordering::Relaxed);
            self.fanouts.fetch_add(change.fanouts, Ordering::Relaxed);
            self.undelivered.fetch_add(change.undelivered, Ordering::Relaxed);
        }
    }

    /// Measures how many bytes are in use, and keeps the number.
    pub(super) fn measure(&self, db: &Connection) -> Result<u64, StoreError> {
        let bytes = used(db)?;
        self.bytes.store(bytes, Ordering::Relaxed);
        Ok(bytes)
    }

    pub(super) fn depth(&self) -> Depth {
        let number = |of: &AtomicI64| of.load(Ordering::Relaxed).max(0).unsigned_abs();
        Depth {
            deliveries: number(&self.deliveries),
            fanouts: number(&self.fanouts),
            undelivered: number(&self.undelivered),
            bytes: self.bytes.load(Ordering::Relaxed),
        }
    }
}
