//! Hooks and listeners, and the version that every change increments.

use std::collections::{BTreeSet, HashSet};

use sqlx::postgres::PgRow;
use sqlx::{PgConnection, Row};
use tidings_model::clock::Millis;
use tidings_model::hook::Hook;
use tidings_model::id::{AppId, DestinationNo};
use tidings_model::listener::Listener;
use tidings_model::payload::Field;

use super::connect::sql;
use super::lanes::DueIndex;
use super::{apps, meta};
use crate::catalogue::Changes;
use crate::error::StoreError;
use crate::records::{self, DefaultsRecord, ERASED_SPEC, ListenerSpec, conflict_or_missing, fields_text, schema_text};
use crate::seal::MainKey;

/// The rows that changed, before their secrets are opened.
pub(super) struct Changed {
    version: i64,
    hooks: Vec<PgRow>,
    listeners: Vec<PgRow>,
    apps: Vec<PgRow>,
}

/// Everything that changed after a version.
pub(super) async fn changed(db: &mut PgConnection, since: i64) -> Result<Changed, StoreError> {
    // A caller that starts from nothing does not need deleted records.
    let deleted = if since == 0 { 0 } else { i64::MAX };
    let version = meta::get(db, "catalogue_version").await?;
    // The version is read first. A change that is committed between these statements is returned now, and again by the
    // next call, which does no harm.
    let hooks = sql(
        "SELECT app, name, version, deleted, description, fields, schema, defaults, created_at, updated_at, fields_for
         FROM hook WHERE version > $1 AND deleted <= $2 ORDER BY version",
    )
    .bind(since)
    .bind(deleted)
    .fetch_all(&mut *db)
    .await?;
    let listeners =
        sql("SELECT no, app, id, version, deleted, spec, sealed, disabled_reason, disabled_at, created_at, updated_at
         FROM listener WHERE version > $1 AND deleted <= $2 ORDER BY version")
        .bind(since)
        .bind(deleted)
        .fetch_all(&mut *db)
        .await?;
    let apps = apps::changed(db, since, deleted).await?;
    Ok(Changed { version, hooks, listeners, apps })
}

impl Changed {
    /// Opens the secrets, and maps the rows to records.
    pub(super) fn open(self, key: &MainKey) -> Result<Changes, StoreError> {
        let mut out = Changes { version: self.version, ..Changes::default() };
        for row in &self.hooks {
            out.hooks.push((records::hook(row)?, records::is_gone(row)?));
        }
        for row in &self.listeners {
            out.listeners.push(records::listener(row, key)?);
        }
        for row in &self.apps {
            out.apps.push(records::app(row, key)?);
        }
        Ok(out)
    }
}

/// Adds a hook, or reuses the name of a deleted one.
pub(super) async fn create_hook(db: &mut PgConnection, hook: &Hook) -> Result<(), StoreError> {
    let version = meta::next_version(db).await?;
    let changed = sql(
        "INSERT INTO hook (app, name, version, deleted, description, fields, schema, defaults, created_at, updated_at,
         fields_for)
         VALUES ($1, $2, $3, 0, $4, $5, $6, $7, $8, $9, $10)
         ON CONFLICT (app, name) DO UPDATE SET version = $3, deleted = 0, description = $4, fields = $5, schema = $6,
         defaults = $7,
         created_at = $8, updated_at = $9, fields_for = $10 WHERE hook.deleted = 1",
    )
    .bind(hook.app.as_str().to_owned())
    .bind(hook.name.clone())
    .bind(version)
    .bind(hook.description.clone())
    .bind(fields_text(hook)?)
    .bind(schema_text(hook))
    .bind(serde_json::to_string(&DefaultsRecord::from(&hook.defaults))?)
    .bind(hook.created_at)
    .bind(hook.updated_at)
    .bind(hook.fields_for.as_str())
    .execute(&mut *db)
    .await?
    .rows_affected();
    if changed == 0 {
        return Err(StoreError::Exists);
    }
    keep_fields(db, hook, version).await
}

/// Replaces a hook, if its version still is the expected one.
pub(super) async fn replace_hook(db: &mut PgConnection, hook: &Hook, expected: i64) -> Result<(), StoreError> {
    let version = meta::next_version(db).await?;
    let changed =
        sql("UPDATE hook SET version = $3, description = $4, fields = $5, schema = $6, defaults = $7, updated_at = $8,
         fields_for = $10
         WHERE app = $1 AND name = $2 AND deleted = 0 AND version = $9")
        .bind(hook.app.as_str().to_owned())
        .bind(hook.name.clone())
        .bind(version)
        .bind(hook.description.clone())
        .bind(fields_text(hook)?)
        .bind(schema_text(hook))
        .bind(serde_json::to_string(&DefaultsRecord::from(&hook.defaults))?)
        .bind(hook.updated_at)
        .bind(expected)
        .bind(hook.fields_for.as_str())
        .execute(&mut *db)
        .await?
        .rows_affected();
    if changed == 0 {
        let exists = sql("SELECT 1 FROM hook WHERE app = $1 AND name = $2 AND deleted = 0")
            .bind(hook.app.as_str().to_owned())
            .bind(hook.name.clone())
            .fetch_optional(db)
            .await?;
        return Err(conflict_or_missing(exists.is_some()));
    }
    keep_fields(db, hook, version).await
}

async fn keep_fields(db: &mut PgConnection, hook: &Hook, version: i64) -> Result<(), StoreError> {
    replace_fields(db, &hook.app, &hook.name, hook.updated_at).await?;
    sql("INSERT INTO hook_fields (app, name, version, fields) VALUES ($1, $2, $3, $4)")
        .bind(hook.app.as_str().to_owned())
        .bind(hook.name.clone())
        .bind(version)
        .bind(fields_text(hook)?)
        .execute(db)
        .await?;
    Ok(())
}

/// Records when a hook's current fields were replaced.
async fn replace_fields(db: &mut PgConnection, app: &AppId, name: &str, now: Millis) -> Result<(), StoreError> {
    sql("UPDATE hook_fields SET replaced_at = $3 WHERE app = $1 AND name = $2 AND replaced_at IS NULL")
        .bind(app.as_str().to_owned())
        .bind(name.to_owned())
        .bind(now)
        .execute(db)
        .await?;
    Ok(())
}

/// Marks a hook as deleted and erases its contents.
pub(super) async fn delete_hook(db: &mut PgConnection, app: &AppId, name: &str, now: Millis) -> Result<(), StoreError> {
    let version = meta::next_version(db).await?;
    let changed = sql("UPDATE hook SET version = $3, deleted = 1, description = '', fields = NULL, schema = NULL,
             defaults = '{}', updated_at = $4
             WHERE app = $1 AND name = $2 AND deleted = 0")
    .bind(app.as_str().to_owned())
    .bind(name.to_owned())
    .bind(version)
    .bind(now)
    .execute(&mut *db)
    .await?
    .rows_affected();
    if changed == 0 { Err(StoreError::Missing) } else { replace_fields(db, app, name, now).await }
}

/// The fields that a hook declared at a version.
#[allow(
    clippy::option_option,
    reason = "the outer option is whether the version existed, the inner whether it declared fields"
)]
pub(super) async fn fields_at(
    db: &mut PgConnection,
    app: &AppId,
    hook: &str,
    version: i64,
) -> Result<Option<Option<Vec<Field>>>, StoreError> {
    let found = sql("SELECT fields FROM hook_fields WHERE app = $1 AND name = $2 AND version = $3")
        .bind(app.as_str().to_owned())
        .bind(hook.to_owned())
        .bind(version)
        .fetch_optional(db)
        .await?;
    let Some(row) = found else { return Ok(None) };
    let text: Option<String> = row.try_get(0)?;
    Ok(Some(text.map(|text| serde_json::from_str(&text)).transpose()?))
}

/// Adds a listener.
pub(super) async fn create_listener(
    db: &mut PgConnection,
    listener: &Listener,
    sealed: &[u8],
) -> Result<DestinationNo, StoreError> {
    let version = meta::next_version(db).await?;
    let disabled = listener.disabled.as_ref();
    let row = sql(
        "INSERT INTO listener (app, id, version, spec, sealed, disabled_reason, disabled_at, created_at, updated_at)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9) ON CONFLICT DO NOTHING RETURNING no",
    )
    .bind(listener.app.as_str().to_owned())
    .bind(listener.id.clone())
    .bind(version)
    .bind(serde_json::to_string(&ListenerSpec::from(listener))?)
    .bind(sealed.to_vec())
    .bind(disabled.map(|d| d.reason.clone()))
    .bind(disabled.map(|d| d.at))
    .bind(listener.created_at)
    .bind(listener.updated_at)
    .fetch_optional(db)
    .await?;
    Ok(DestinationNo(row.ok_or(StoreError::Exists)?.try_get(0)?))
}

/// Replaces a listener, if its version still is the expected one.
pub(super) async fn replace_listener(
    db: &mut PgConnection,
    listener: &Listener,
    sealed: &[u8],
    expected: i64,
) -> Result<(), StoreError> {
    let version = meta::next_version(db).await?;
    let disabled = listener.disabled.as_ref();
    let row = sql("UPDATE listener SET version = $3, spec = $4, sealed = $5, disabled_reason = $6, disabled_at = $7,
         unannounced = CASE WHEN disabled_at = $7 THEN unannounced ELSE FALSE END, updated_at = $8
         WHERE app = $1 AND id = $2 AND deleted = 0 AND version = $9 RETURNING no")
    .bind(listener.app.as_str().to_owned())
    .bind(listener.id.clone())
    .bind(version)
    .bind(serde_json::to_string(&ListenerSpec::from(listener))?)
    .bind(sealed.to_vec())
    .bind(disabled.map(|d| d.reason.clone()))
    .bind(disabled.map(|d| d.at))
    .bind(listener.updated_at)
    .bind(expected)
    .fetch_optional(&mut *db)
    .await?;
    let Some(row) = row else {
        let exists = sql("SELECT 1 FROM listener WHERE app = $1 AND id = $2 AND deleted = 0")
            .bind(listener.app.as_str().to_owned())
            .bind(listener.id.clone())
            .fetch_optional(db)
            .await?;
        return Err(conflict_or_missing(exists.is_some()));
    };
    let no = DestinationNo(row.try_get(0)?);
    let mut due_index = DueIndex::default();
    if disabled.is_none() {
        // It may have been disabled until now: its failures are cleared, and its pending deliveries are due again.
        clear_failures(db, no).await?;
        due_index.refresh(no);
    } else {
        due_index.forget(no);
    }
    due_index.write(db).await
}

/// Marks a listener as deleted and erases its contents: the tombstone has only its id and number.
pub(super) async fn delete_listener(
    db: &mut PgConnection,
    app: &AppId,
    id: &str,
    now: Millis,
) -> Result<(), StoreError> {
    let version = meta::next_version(db).await?;
    let changed = sql(
        "UPDATE listener SET version = $3, deleted = 1, spec = $5, sealed = '', unannounced = FALSE, updated_at = $4
         WHERE app = $1 AND id = $2 AND deleted = 0",
    )
    .bind(app.as_str().to_owned())
    .bind(id.to_owned())
    .bind(version)
    .bind(now)
    .bind(ERASED_SPEC)
    .execute(db)
    .await?
    .rows_affected();
    if changed == 0 { Err(StoreError::Missing) } else { Ok(()) }
}

/// Disables a destination because its deliveries failed. `announce`: an event about it has to be published. Returns
/// `false` if it is disabled already, or deleted. The caller holds the lock for changes of the catalogue.
pub(super) async fn disable(
    db: &mut PgConnection,
    destination: DestinationNo,
    reason: &str,
    wall: Millis,
    announce: bool,
    due_index: &mut DueIndex,
) -> Result<bool, StoreError> {
    if !enabled(db, destination).await? {
        return Ok(false);
    }
    let version = meta::next_version(db).await?;
    sql("UPDATE listener SET disabled_reason = $2, disabled_at = $3, unannounced = $4, updated_at = $3, version = $5
         WHERE no = $1")
    .bind(destination.0)
    .bind(reason.to_owned())
    .bind(wall)
    .bind(announce)
    .bind(version)
    .execute(db)
    .await?;
    due_index.forget(destination);
    Ok(true)
}

/// Whether a destination exists and is enabled.
pub(super) async fn enabled(db: &mut PgConnection, destination: DestinationNo) -> Result<bool, StoreError> {
    let row = sql("SELECT 1 FROM listener WHERE no = $1 AND disabled_at IS NULL AND deleted = 0").bind(destination.0);
    Ok(row.fetch_optional(db).await?.is_some())
}

/// Deletes the record that a destination is failing.
pub(super) async fn clear_failures(db: &mut PgConnection, destination: DestinationNo) -> Result<(), StoreError> {
    sql("DELETE FROM failing WHERE destination = $1").bind(destination.0).execute(db).await?;
    Ok(())
}

/// Those of the destinations that are not deleted.
pub(super) async fn existing(
    db: &mut PgConnection,
    destinations: impl Iterator<Item = DestinationNo>,
) -> Result<HashSet<i64>, StoreError> {
    let all: BTreeSet<i64> = destinations.map(|no| no.0).collect();
    if all.is_empty() {
        return Ok(HashSet::new());
    }
    let all: Vec<i64> = all.into_iter().collect();
    let rows = sql("SELECT no FROM listener WHERE no = ANY($1) AND deleted = 0").bind(all).fetch_all(db).await?;
    Ok(rows.iter().map(|row| row.try_get(0)).collect::<Result<_, _>>()?)
}

/// Listeners that were disabled because their deliveries failed, and whose event about that is not published yet.
pub(super) async fn unannounced(db: &mut PgConnection) -> Result<Vec<(AppId, String)>, StoreError> {
    let rows = sql("SELECT app, id FROM listener WHERE unannounced ORDER BY no LIMIT 1000").fetch_all(db).await?;
    let read = |row: &PgRow| Ok((AppId::from(row.try_get::<String, _>(0)?), row.try_get(1)?));
    Ok(rows.iter().map(read).collect::<Result<_, sqlx::Error>>()?)
}

/// Records that the event about a disabled listener is published.
pub(super) async fn announced(db: &mut PgConnection, app: &AppId, listener: &str) -> Result<(), StoreError> {
    sql("UPDATE listener SET unannounced = FALSE WHERE app = $1 AND id = $2")
        .bind(app.as_str().to_owned())
        .bind(listener.to_owned())
        .execute(db)
        .await?;
    Ok(())
}
