//! The schema and its versions. Migrations are numbered, only ever added, and each runs in its own transaction.

use rusqlite::{Connection, params};

use crate::error::StoreError;
use crate::records::upgrade_spec;

/// The migrations in order. The position in this list, from 1, is the schema version in `PRAGMA user_version`.
const MIGRATIONS: &[&str] = &[
    include_str!("../../migrations/sqlite/0001_start.sql"),
    include_str!("../../migrations/sqlite/0002_standing.sql"),
    include_str!("../../migrations/sqlite/0003_apps.sql"),
    include_str!("../../migrations/sqlite/0004_fields_for.sql"),
    include_str!("../../migrations/sqlite/0005_bounds.sql"),
    MATCHES,
];

/// The migration after which the matches of listeners are rewritten.
const MATCHES: &str = include_str!("../../migrations/sqlite/0006_matches.sql");
/// How many listeners are read and rewritten at once.
const REWRITTEN: usize = 500;

/// The latest schema version that this program knows.
pub const SCHEMA_VERSION: i64 = MIGRATIONS.len() as i64;

/// The schema's version in the database; 0 in an empty one. Changes nothing.
///
/// # Errors
/// [`StoreError::NewerSchema`] if a later version of the program has written the database.
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
        if *sql == MATCHES {
            rewrite_matches(&transaction)?;
        }
        transaction.pragma_update(None, "user_version", version)?;
        transaction.commit()?;
        tracing::info!(version, "migrated the database");
    }
    Ok(())
}

/// Rewrites each match so that it means in this version what it meant when it was stored.
fn rewrite_matches(db: &Connection) -> Result<(), StoreError> {
    let mut after = 0_i64;
    loop {
        let mut some = db.prepare_cached("SELECT no, spec FROM listener WHERE no > ?1 ORDER BY no LIMIT ?2")?;
        let rows = some.query_map(params![after, REWRITTEN], |row| Ok((row.get(0)?, row.get(1)?)))?;
        let rows: Vec<(i64, String)> = rows.collect::<Result<_, _>>()?;
        let Some((last, _)) = rows.last() else { return Ok(()) };
        after = *last;
        for (no, spec) in &rows {
            if let Some(now) = upgrade_spec(spec)? {
                db.prepare_cached("UPDATE listener SET spec = ?2 WHERE no = ?1")?.execute(params![no, now])?;
            }
        }
    }
}
