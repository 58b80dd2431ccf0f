//! Single numbers that the store keeps: the catalogue version, the last reading of the clock, and the fingerprints of
//! main keys.

use sqlx::{PgConnection, Row};

use super::connect::sql;
use super::locks;
use crate::error::StoreError;
use crate::fingerprint::{self, Corrections};

/// Reads a number.
pub(super) async fn get(db: &mut PgConnection, name: &str) -> Result<i64, StoreError> {
    Ok(sql("SELECT value FROM meta WHERE name = $1").bind(name.to_owned()).fetch_one(db).await?.try_get(0)?)
}

/// Sets a number.
pub(super) async fn set(db: &mut PgConnection, name: &str, value: i64) -> Result<(), StoreError> {
    sql("UPDATE meta SET value = $2 WHERE name = $1").bind(name.to_owned()).bind(value).execute(db).await?;
    Ok(())
}

/// Increments the catalogue version for a change, and returns it. Takes the exclusive lock of the catalogue, so no
/// other transaction changes it until this one ends.
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

/// Applies changes to the fingerprints.
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
