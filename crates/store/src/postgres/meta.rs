//! Single numbers that the store keeps: the catalogue version, and what the clock said last.

use sqlx::{PgConnection, Row};

use super::connect::sql;
use super::locks;
use crate::error::StoreError;
use crate::fingerprint::{self, Corrections};

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

/// The fingerprints of main keys.
pub(super) async fn fingerprints(db: &mut PgConnection) -> Result<Vec<(u32, i64)>, StoreError> {
    let rows =
        sql("SELECT name, value FROM meta WHERE starts_with(name, $1)").bind(fingerprint::PREFIX).fetch_all(db).await?;
    let rows = rows.iter().map(|row| Ok((row.try_get::<String, _>(0)?, row.try_get(1)?)));
    let rows = rows.collect::<Result<Vec<_>, StoreError>>()?;
    Ok(rows.into_iter().filter_map(|(name, value)| Some((fingerprint::id(&name)?, value))).collect())
}

/// Makes the fingerprints those of the key file.
pub(super) async fn correct_fingerprints(db: &mut PgConnection, corrections: &Corrections) -> Result<(), StoreError> {
    for (id, value) in &corrections.set {
        sql("INSERT INTO meta (name, value) VALUES ($1, $2) ON CONFLICT (name) DO UPDATE SET value = excluded.value")
            .bind(fingerprint::name(*id))
            .bind(*value)
            .execute(&mut *db)
            .await?;
    }
    for id in &corrections.forget {
        sql("DELETE FROM meta WHERE name = $1").bind(fingerprint::name(*id)).execute(&mut *db).await?;
    }
    Ok(())
}
