//! Single numbers that the store keeps: the catalogue version, and what the clock said last.

use sqlx::{PgConnection, Row};

use super::connect::sql;
use super::locks;
use crate::error::StoreError;

/// Reads one.
pub(super) async fn get(db: &mut PgConnection, name: &str) -> Result<i64, StoreError> {
    Ok(sql("SELECT value FROM meta WHERE name = $1").bind(name.to_owned()).fetch_one(db).await?.try_get(0)?)
}

/// Sets one.
pub(super) async fn set(db: &mut PgConnection, name: &str, value: i64) -> Result<(), StoreError> {
    sql("UPDATE meta SET value = $2 WHERE name = $1").bind(name.to_owned()).bind(value).execute(db).await?;
    Ok(())
}

/// The version that a change of the catalogue leads to; nobody else changes it until the end of the transaction.
pub(super) async fn next_version(db: &mut PgConnection) -> Result<i64, StoreError> {
    locks::change_catalogue(db).await?;
    let row = sql("UPDATE meta SET value = value + 1 WHERE name = 'catalogue_version' RETURNING value");
    Ok(row.fetch_one(db).await?.try_get(0)?)
}
