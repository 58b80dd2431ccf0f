//! Apps that are kept in the store, not in the config file.

use sqlx::PgConnection;
use sqlx::postgres::PgRow;
use tidings_model::clock::Millis;

use super::connect::sql;
use super::meta;
use crate::catalogue::AppRecord;
use crate::error::StoreError;
use crate::records::conflict_or_missing;

/// The rows of apps that changed after a version, for [`crate::records::app`]. `deleted` is the highest value of that
/// column to include: 0 leaves out tombstones.
pub(super) async fn changed(db: &mut PgConnection, since: i64, deleted: i64) -> Result<Vec<PgRow>, StoreError> {
    let rows = sql("SELECT id, version, deleted, sealed, created_at, updated_at FROM app
         WHERE version > $1 AND deleted <= $2 ORDER BY version");
    Ok(rows.bind(since).bind(deleted).fetch_all(db).await?)
}

/// Adds an app, or reuses the id of a deleted one.
pub(super) async fn create(
    db: &mut PgConnection,
    app: &AppRecord,
    names: &[String],
    sealed: &[u8],
) -> Result<(), StoreError> {
    let version = meta::next_version(db).await?;
    let changed =
        sql("INSERT INTO app (id, version, deleted, sealed, created_at, updated_at) VALUES ($1, $2, 0, $3, $4, $5)
         ON CONFLICT (id) DO UPDATE SET version = $2, deleted = 0, sealed = $3, created_at = $4, updated_at = $5
         WHERE app.deleted = 1")
        .bind(app.id.clone())
        .bind(version)
        .bind(sealed.to_vec())
        .bind(app.created_at)
        .bind(app.updated_at)
        .execute(&mut *db)
        .await?
        .rows_affected();
    if changed == 0 {
        return Err(StoreError::Exists);
    }
    take_names(db, &app.id, names).await
}

/// Replaces an app, if its version still is the expected one.
pub(super) async fn replace(
    db: &mut PgConnection,
    app: &AppRecord,
    names: &[String],
    sealed: &[u8],
    expected: i64,
) -> Result<(), StoreError> {
    let version = meta::next_version(db).await?;
    let changed =
        sql("UPDATE app SET version = $2, sealed = $3, updated_at = $4 WHERE id = $1 AND deleted = 0 AND version = $5")
            .bind(app.id.clone())
            .bind(version)
            .bind(sealed.to_vec())
            .bind(app.updated_at)
            .bind(expected)
            .execute(&mut *db)
            .await?
            .rows_affected();
    if changed == 0 {
        let exists =
            sql("SELECT 1 FROM app WHERE id = $1 AND deleted = 0").bind(app.id.clone()).fetch_optional(db).await?;
        return Err(conflict_or_missing(exists.is_some()));
    }
    take_names(db, &app.id, names).await
}

/// Marks an app as deleted and erases its secrets.
pub(super) async fn delete(db: &mut PgConnection, id: &str, now: Millis) -> Result<(), StoreError> {
    let version = meta::next_version(db).await?;
    let changed =
        sql("UPDATE app SET version = $2, deleted = 1, sealed = '', updated_at = $3 WHERE id = $1 AND deleted = 0")
            .bind(id.to_owned())
            .bind(version)
            .bind(now)
            .execute(&mut *db)
            .await?
            .rows_affected();
    if changed == 0 {
        return Err(StoreError::Missing);
    }
    take_names(db, id, &[]).await
}

async fn take_names(db: &mut PgConnection, id: &str, names: &[String]) -> Result<(), StoreError> {
    sql("DELETE FROM app_name WHERE app = $1").bind(id.to_owned()).execute(&mut *db).await?;
    let taken = sql("INSERT INTO app_name (name, app) SELECT name, $2 FROM unnest($1::text[]) AS n (name)
         ON CONFLICT DO NOTHING")
    .bind(names.to_vec())
    .bind(id.to_owned())
    .execute(db)
    .await?
    .rows_affected();
    if taken == names.len() as u64 { Ok(()) } else { Err(StoreError::Exists) }
}
