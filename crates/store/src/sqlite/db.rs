//! The writer's connection. It counts by how much its transactions change the numbers of `counts`.

use std::cell::Cell;
use std::ops::Deref;
use std::time::Duration;

use rusqlite::Connection;

use crate::error::StoreError;

/// How long the writer waits for a database that another process has locked.
pub(super) const LOCKED_FOR: Duration = Duration::from_secs(2);

/// By how much a transaction changes the numbers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Change {
    pub(super) deliveries: i64,
    pub(super) fanouts: i64,
    pub(super) undelivered: i64,
}

/// The writer's connection.
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

    /// Counts open deliveries that were written, or removed if `by` is negative.
    pub(super) fn count_deliveries(&self, by: i64) {
        self.change.update(|change| Change { deliveries: change.deliveries + by, ..change });
    }

    /// Counts fan-out rows that were written or removed.
    pub(super) fn count_fanouts(&self, by: i64) {
        self.change.update(|change| Change { fanouts: change.fanouts + by, ..change });
    }

    /// Counts undelivered deliveries that were written or removed.
    pub(super) fn count_undelivered(&self, by: i64) {
        self.change.update(|change| Change { undelivered: change.undelivered + by, ..change });
    }

    /// By how much the transaction has changed the numbers so far.
    pub(super) fn change(&self) -> Change {
        self.change.get()
    }

    /// Sets the change back to an earlier one, after a rollback to a savepoint.
    pub(super) fn set_change(&self, change: Change) {
        self.change.set(change);
    }
}

/// How many pages of the database are free.
pub(super) fn free_pages(db: &Connection) -> Result<u64, StoreError> {
    Ok(db.prepare_cached("PRAGMA freelist_count")?.query_row([], |row| row.get(0))?)
}

/// How many pages the database has.
pub(super) fn pages(db: &Connection) -> Result<u64, StoreError> {
    Ok(db.prepare_cached("PRAGMA page_count")?.query_row([], |row| row.get(0))?)
}

/// The bytes of the database's pages that are in use.
pub(super) fn used(db: &Connection) -> Result<u64, StoreError> {
    let size: u64 = db.prepare_cached("PRAGMA page_size")?.query_row([], |row| row.get(0))?;
    Ok(pages(db)?.saturating_sub(free_pages(db)?).saturating_mul(size))
}
