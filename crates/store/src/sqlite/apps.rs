//! Apps that are kept in the store, not in the config file.

use rusqlite::{Connection, params};
use tidings_model::clock::Millis;

use super::meta;
use crate::catalogue::AppRecord;
use crate::error::StoreError;
use crate::records::{self, conflict_or_missing};
use crate::rows::by_name;
use crate::seal::MainKey;

/// The apps that changed after a version.
pub(super) fn changes(db: &Connection, key: &MainKey, since: i64) -> Result<Vec<(AppRecord, bool)>, StoreError> {
    let deleted = if since == 0 { 0 } else { i64::MAX };
    let mut statement = db.prepare_cached(
        "SELECT id, version, deleted, sealed, created_at, updated_at FROM app WHERE version > ?1 AND deleted <= ?2
         ORDER BY version",
    )?;
    statement.query_and_then(params![since, deleted], |row| records::app(&by_name(row), key))?.collect()
}

/// Adds an app, or reuses the id of a deleted one.
pub(super) fn create(db: &Connection, app: &AppRecord, names: &[String], sealed: &[u8]) -> Result<(), StoreError> {
    let version = meta::bump(db, "catalogue_version")?;
    let changed = db
        .prepare_cached(
            "INSERT INTO app (id, version, deleted, sealed, created_at, updated_at) VALUES (?1, ?2, 0, ?3, ?4, ?5)
             ON CONFLICT (id) DO UPDATE SET version = ?2, deleted = 0, sealed = ?3, created_at = ?4, updated_at = ?5
             WHERE deleted = 1",
        )?
        .execute(params![app.id, version, sealed, app.created_at, app.updated_at])?;
    if changed == 0 {
        return Err(StoreError::Exists);
    }
    take_names(db, &app.id, names)
}

/// Replaces an app, if its version still is the expected one.
pub(super) fn replace(
    db: &Connection,
    app: &AppRecord,
    names: &[String],
    sealed: &[u8],
    expected: i64,
) -> Result<(), StoreError> {
    let version = meta::bump(db, "catalogue_version")?;
    let changed = db
        .prepare_cached(
            "UPDATE app SET version = ?2, sealed = ?3, updated_at = ?4 WHERE id = ?1 AND deleted = 0 AND version = ?5",
        )?
        .execute(params![app.id, version, sealed, app.updated_at, expected])?;
    if changed == 0 {
        let exists = db
            .prepare_cached("SELECT EXISTS (SELECT 1 FROM app WHERE id = ?1 AND deleted = 0)")?
            .query_row([&app.id], |row| row.get(0))?;
        return Err(conflict_or_missing(exists));
    }
    take_names(db, &app.id, names)
}

/// Marks an app as deleted and erases its secrets.
pub(super) fn delete(db: &Connection, id: &str, now: Millis) -> Result<(), StoreError> {
    let version = meta::bump(db, "catalogue_version")?;
    let changed = db
        .prepare_cached(
            "UPDATE app SET version = ?2, deleted = 1, sealed = x'', updated_at = ?3 WHERE id = ?1 AND deleted = 0",
        )?
        .execute(params![id, version, now])?;
    if changed == 0 {
        return Err(StoreError::Missing);
    }
    take_names(db, id, &[])
}

fn take_names(db: &Connection, id: &str, names: &[String]) -> Result<(), StoreError> {
    db.prepare_cached("DELETE FROM app_name WHERE app = ?1")?.execute([id])?;
    for name in names {
        let taken = db
            .prepare_cached("INSERT INTO app_name (name, app) VALUES (?1, ?2) ON CONFLICT DO NOTHING")?
            .execute([name.as_str(), id])?;
        if taken == 0 {
            return Err(StoreError::Exists);
        }
    }
    Ok(())
}
