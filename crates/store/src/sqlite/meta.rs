//! Single numbers that the store keeps: the catalogue version, the incarnation, and what the clock said last.

use rusqlite::Connection;

use crate::error::StoreError;

/// Reads one.
pub(super) fn get(db: &Connection, name: &str) -> Result<i64, StoreError> {
    Ok(db.prepare_cached("SELECT value FROM meta WHERE name = ?1")?.query_row([name], |row| row.get(0))?)
}

/// Adds one to it, and answers what it is then.
pub(super) fn bump(db: &Connection, name: &str) -> Result<i64, StoreError> {
    Ok(db
        .prepare_cached("UPDATE meta SET value = value + 1 WHERE name = ?1 RETURNING value")?
        .query_row([name], |row| row.get(0))?)
}

/// Sets one.
pub(super) fn set(db: &Connection, name: &str, value: i64) -> Result<(), StoreError> {
    db.prepare_cached("UPDATE meta SET value = ?2 WHERE name = ?1")?.execute(rusqlite::params![name, value])?;
    Ok(())
}
