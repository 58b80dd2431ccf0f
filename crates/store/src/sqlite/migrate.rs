//! The schema and its versions. Migrations are numbered, only ever added, and each runs in its own transaction.

use rusqlite::Connection;

use crate::error::StoreError;

/// In order; the place in this list, from 1, is the schema version that `PRAGMA user_version` holds.
const MIGRATIONS: &[&str] = &[
    include_str!("../../migrations/sqlite/0001_start.sql"),
    include_str!("../../migrations/sqlite/0002_standing.sql"),
    include_str!("../../migrations/sqlite/0003_apps.sql"),
    include_str!("../../migrations/sqlite/0004_bounds.sql"),
    include_str!("../../migrations/sqlite/0005_fields_for.sql"),
];

/// The latest version this program knows.
pub const SCHEMA_VERSION: i64 = MIGRATIONS.len() as i64;

/// The schema's version in the database; 0 in an empty one. Changes nothing.
///
/// # Errors
/// [`StoreError::NewerSchema`] when a later program has written the database.
pub(crate) fn check(connection: &Connection) -> Result<i64, StoreError> {
    let found: i64 = connection.pragma_query_value(None, "user_version", |row| row.get(0))?;
    if found > SCHEMA_VERSION { Err(StoreError::NewerSchema { found, known: SCHEMA_VERSION }) } else { Ok(found) }
}

/// Brings the schema up to date.
///
/// # Errors
/// As [`check`].
pub(crate) fn migrate(connection: &mut Connection) -> Result<(), StoreError> {
    let found = check(connection)?;
    for (version, sql) in (1..).zip(MIGRATIONS).filter(|(version, _)| *version > found) {
        let transaction = connection.transaction()?;
        transaction.execute_batch(sql)?;
        transaction.pragma_update(None, "user_version", version)?;
        transaction.commit()?;
        tracing::info!(version, "migrated the database");
    }
    Ok(())
}
