//! The connection that writes, and how much there is: what its transactions change in the numbers is counted with them.
//!
//! Nobody else writes to the database, so the numbers of the start and the changes since are all there is to know, and
//! no table is counted while the server runs.

use std::cell::Cell;
use std::ops::Deref;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use rusqlite::Connection;

use super::leased_batches;
use crate::error::StoreError;
use crate::queue::Depth;

/// By how much a transaction changes the numbers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Change {
    pub(super) deliveries: i64,
    pub(super) fanouts: i64,
    pub(super) undelivered: i64,
}

/// The connection that writes.
pub(crate) struct Db {
    connection: Connection,
    change: Cell<Change>,
}

impl Deref for Db {
    type Target = Connection;

    fn deref(&self) -> &Connection {
        &self.connection
    }
}

impl Db {
    pub(super) fn new(connection: Connection) -> Self {
        Self { connection, change: Cell::default() }
    }

    pub(super) fn into_inner(self) -> Connection {
        self.connection
    }

    /// Counts open deliveries that were written, or fewer than none that were removed.
    pub(super) fn count_deliveries(&self, by: i64) {
        self.change.update(|change| Change { deliveries: change.deliveries + by, ..change });
    }

    /// Counts fan-out rows.
    pub(super) fn count_fanouts(&self, by: i64) {
        self.change.update(|change| Change { fanouts: change.fanouts + by, ..change });
    }

    /// Counts deliveries that ended undelivered.
    pub(super) fn count_undelivered(&self, by: i64) {
        self.change.update(|change| Change { undelivered: change.undelivered + by, ..change });
    }

    /// What the transaction has changed so far.
    pub(super) fn change(&self) -> Change {
        self.change.get()
    }

    /// Goes back to what it had changed before: the rest was undone.
    pub(super) fn set_change(&self, change: Change) {
        self.change.set(change);
    }
}

/// How much there is, as of the last commit.
#[derive(Debug, Default)]
pub(super) struct Counts {
    deliveries: AtomicI64,
    fanouts: AtomicI64,
    undelivered: AtomicI64,
    /// Bytes in use, as they were looked at last.
    bytes: AtomicU64,
}

impl Counts {
    /// Counts all of it, once, at the start.
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

    /// Takes over what a committed transaction has changed.
    pub(super) fn apply(&self, change: Change) {
        if change != Change::default() {
            self.deliveries.fetch_add(change.deliveries, Ordering::Relaxed);
            self.fanouts.fetch_add(change.fanouts, Ordering::Relaxed);
            self.undelivered.fetch_add(change.undelivered, Ordering::Relaxed);
        }
    }

    /// Looks at how many bytes are in use, and remembers it.
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

/// How many pages are free to be used again, or given back.
pub(super) fn free_pages(db: &Connection) -> Result<u64, StoreError> {
    Ok(db.prepare_cached("PRAGMA freelist_count")?.query_row([], |row| row.get(0))?)
}

/// How many pages there are.
pub(super) fn pages(db: &Connection) -> Result<u64, StoreError> {
    Ok(db.prepare_cached("PRAGMA page_count")?.query_row([], |row| row.get(0))?)
}

/// The bytes of the database's pages that hold something.
pub(super) fn used(db: &Connection) -> Result<u64, StoreError> {
    let size: u64 = db.prepare_cached("PRAGMA page_size")?.query_row([], |row| row.get(0))?;
    Ok(pages(db)?.saturating_sub(free_pages(db)?).saturating_mul(size))
}
