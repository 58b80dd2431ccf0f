//! Single numbers that the store keeps: the catalogue version, the incarnation, the last reading of the clock, and the
//! fingerprints of main keys.

use rusqlite::Connection;

use crate::error::StoreError;
use crate::fingerprint::{self, Corrections};

/// Reads a number.
pub(super) fn get(db: &Connection, name: &str) -> Result<i64, StoreError> {
    Ok(db.prepare_cached("SELECT value FROM meta WHERE name = ?1")?.query_row([name], |row| row.get(0))?)
}

/// Increments a number, and returns the new value.
pub(super) fn bump(db: &Connection, name: &str) -> Result<i64, StoreError> {
    Ok(db
        .prepare_cached("UPDATE meta SET value = value + 1 WHERE name = ?1 RETURNING value")?
        .query_row([name], |row| row.get(0))?)
}

/// Sets a number.
pub(super) fn set(db: &Connection, name: &str, value: i64) -> Result<(), StoreError> {
    db.prepare_cached("UPDATE meta SET value = ?2 WHERE name = ?1")?.execute(rusqlite::params![name, value])?;
    Ok(())
}

/// The fingerprints of main keys.
pub(super) fn fingerprints(db: &Connection) -> Result<Vec<(u32, i64)>, StoreError> {
    let mut statement = db.prepare("SELECT name, value FROM meta WHERE name GLOB ?1 || '*'")?;
    let rows = statement.query_map([fingerprint::PREFIX], |row| Ok((row.get::<_, String>(0)?, row.get(1)?)))?;
    let rows = rows.collect::<Result<Vec<_>, _>>()?;
    Ok(rows.into_iter().filter_map(|(name, value)| Some((fingerprint::id(&name)?, value))).collect())
}

/// Applies changes to the fingerprints.
pub(super) fn correct_fingerprints(db: &Connection, corrections: &Corrections) -> Result<(), StoreError> {
    for (id, value) in &corrections.set {
        db.execute(
            "INSERT INTO meta (name, value) VALUES (?1, ?2) ON CONFLICT (name) DO UPDATE SET value = ?2",
            rusqlite::params![fingerprint::name(*id), value],
        )?;
    }
    for id in &corrections.forget {
        db.execute("DELETE FROM meta WHERE name = ?1", [fingerprint::name(*id)])?;
    }
    Ok(())
}
