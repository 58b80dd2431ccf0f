//! The schema and its versions. Migrations are numbered and only ever added. The missing ones run in one transaction,
//! on one node at a time.

use sqlx::{AssertSqlSafe, Connection as _, PgConnection, Row};

use super::connect::{TRIES, sql};
use super::locks;
use crate::error::StoreError;
use crate::records::upgrade_spec;

/// The migrations in order. The position in this list, from 1, is the schema version in `tidings_schema`.
const MIGRATIONS: &[&str] = &[
    include_str!("../../migrations/postgres/0001_start.sql"),
    include_str!("../../migrations/postgres/0002_nodes.sql"),
    include_str!("../../migrations/postgres/0003_standing.sql"),
    include_str!("../../migrations/postgres/0004_apps.sql"),
    include_str!("../../migrations/postgres/0005_paused.sql"),
    include_str!("../../migrations/postgres/0006_fields_for.sql"),
    include_str!("../../migrations/postgres/0007_bounds.sql"),
    MATCHES,
    include_str!("../../migrations/postgres/0009_fanout_turns.sql"),
];

/// The migration after which the matches of listeners are rewritten.
const MATCHES: &str = include_str!("../../migrations/postgres/0008_matches.sql");
/// How many listeners are read and rewritten at once.
const REWRITTEN: i64 = 500;

/// The latest schema version that this program knows.
pub const SCHEMA_VERSION: i64 = MIGRATIONS.len() as i64;

/// Brings the schema up to date, in a transaction of its own, without a time limit.
///
/// # Errors
/// As [`migrate`].
pub(super) async fn alone(db: &mut PgConnection) -> Result<(), StoreError> {
    let mut tries = 0;
    loop {
        let outcome = async {
            let mut tx = db.begin().await?;
            sqlx::raw_sql("SET LOCAL statement_timeout = 0").execute(&mut *tx).await?;
            migrate(&mut tx).await?;
            tx.commit().await?;
            Ok(())
        }
        .await;
        tries += 1;
        match outcome {
            // It conflicted with a running node: try again.
            Err(StoreError::Locked) if tries < TRIES => {}
            outcome => return outcome,
        }
    }
}

/// Brings the schema up to date.
///
/// # Errors
/// [`StoreError::NewerSchema`] if a later version of the program has written the database: nothing is changed then.
pub(super) async fn migrate(db: &mut PgConnection) -> Result<(), StoreError> {
    locks::migration(db).await?;
    let exists: bool = sql("SELECT to_regclass('tidings_schema') IS NOT NULL").fetch_one(&mut *db).await?.try_get(0)?;
    let found: i64 = if exists {
        sql("SELECT version FROM tidings_schema").fetch_one(&mut *db).await?.try_get(0)?
    } else {
        sqlx::raw_sql("CREATE TABLE tidings_schema (version BIGINT NOT NULL); INSERT INTO tidings_schema VALUES (0)")
            .execute(&mut *db)
            .await?;
        0
    };
    if found > SCHEMA_VERSION {
        return Err(StoreError::NewerSchema { found, known: SCHEMA_VERSION });
    }
    for (version, text) in (1..).zip(MIGRATIONS).filter(|(version, _)| *version > found) {
        sqlx::raw_sql(AssertSqlSafe(*text)).execute(&mut *db).await?;
        if *text == MATCHES {
            rewrite_matches(db).await?;
        }
        sql("UPDATE tidings_schema SET version = $1").bind(version).execute(&mut *db).await?;
        tracing::info!(version, "migrated the database");
    }
    Ok(())
}

/// Rewrites each match so that it means in this version what it meant when it was stored.
async fn rewrite_matches(db: &mut PgConnection) -> Result<(), StoreError> {
    let mut after = 0_i64;
    loop {
        let rows = sql("SELECT no, spec FROM listener WHERE no > $1 ORDER BY no LIMIT $2")
            .bind(after)
            .bind(REWRITTEN)
            .fetch_all(&mut *db)
            .await?;
        let Some(last) = rows.last() else { return Ok(()) };
        after = last.try_get(0)?;
        for row in &rows {
            let (no, spec): (i64, String) = (row.try_get(0)?, row.try_get(1)?);
            if let Some(now) = upgrade_spec(&spec)? {
                sql("UPDATE listener SET spec = $2 WHERE no = $1").bind(no).bind(now).execute(&mut *db).await?;
            }
        }
    }
}
