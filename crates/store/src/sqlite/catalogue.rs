//! Hooks and listeners, and the version that every change increments.

use rusqlite::{Connection, OptionalExtension, params};
use tidings_model::clock::Millis;
use tidings_model::hook::Hook;
use tidings_model::id::{AppId, DestinationNo};
use tidings_model::listener::Listener;
use tidings_model::payload::Field;

use super::{lanes, meta};
use crate::catalogue::Changes;
use crate::error::StoreError;
use crate::records::{self, DefaultsRecord, ERASED_SPEC, ListenerSpec, conflict_or_missing, fields_text, schema_text};
use crate::rows::by_name;
use crate::seal::MainKey;

/// The statements of [`changes`].
pub(super) const HOOK_CHANGES: &str = "SELECT app, name, version, deleted, description, fields, schema, defaults,
    created_at, updated_at, fields_for
    FROM hook WHERE version > ?1 AND deleted <= ?2 ORDER BY version LIMIT ?3";
pub(super) const LISTENER_CHANGES: &str = "SELECT no, app, id, version, deleted, spec, sealed, disabled_reason,
    disabled_at, created_at, updated_at
    FROM listener WHERE version > ?1 AND deleted <= ?2 ORDER BY version LIMIT ?3";

/// The most records of each kind in one slice. Opening a listener's secrets and compiling its match take much longer
/// than reading its row, and a read has a time limit.
const SLICE: usize = 250;

/// The version up to which hooks, and that up to which listeners have been read.
#[derive(Clone, Copy)]
pub(super) struct Progress {
    hooks: i64,
    listeners: i64,
}

impl Progress {
    /// Before anything after this version is read.
    pub(super) fn after(version: i64) -> Self {
        Self { hooks: version, listeners: version }
    }
}

/// A slice of the hooks and listeners that changed after a version, and the progress if there may be more.
pub(super) fn changes(
    db: &Connection,
    key: &MainKey,
    since: i64,
    progress: Progress,
) -> Result<(Changes, Option<Progress>), StoreError> {
    // A caller that starts from nothing does not need deleted records.
    let deleted = if since == 0 { 0 } else { i64::MAX };
    let mut out = Changes { version: meta::get(db, "catalogue_version")?, ..Changes::default() };
    let mut statement = db.prepare_cached(HOOK_CHANGES)?;
    let mut rows = statement.query(params![progress.hooks, deleted, SLICE])?;
    while let Some(row) = rows.next()? {
        out.hooks.push((records::hook(&by_name(row))?, records::is_gone(&by_name(row))?));
    }
    let mut statement = db.prepare_cached(LISTENER_CHANGES)?;
    let mut rows = statement.query(params![progress.listeners, deleted, SLICE])?;
    while let Some(row) = rows.next()? {
        out.listeners.push(records::listener(&by_name(row), key)?);
    }
    let more = out.hooks.len() == SLICE || out.listeners.len() == SLICE;
    let next = Progress {
        hooks: out.hooks.last().map_or(progress.hooks, |(hook, _)| hook.version),
        listeners: out.listeners.last().map_or(progress.listeners, |(listener, _)| listener.version),
    };
    Ok((out, more.then_some(next)))
}

/// Adds a hook, or reuses the name of a deleted one.
pub(super) fn create_hook(db: &Connection, hook: &Hook) -> Result<(), StoreError> {
    let version = meta::bump(db, "catalogue_version")?;
    let changed = db
        .prepare_cached(
            "INSERT INTO hook (app, name, version, deleted, description, fields, schema, defaults, created_at,
             updated_at, fields_for)
             VALUES (?1, ?2, ?3, 0, ?4, ?5, ?6, ?7, ?8, ?9, ?10)
             ON CONFLICT (app, name) DO UPDATE SET version = ?3, deleted = 0, description = ?4, fields = ?5,
             schema = ?6, defaults = ?7,
             created_at = ?8, updated_at = ?9, fields_for = ?10 WHERE deleted = 1",
        )?
        .execute(params![
            hook.app.as_str(),
            hook.name,
            version,
            hook.description,
            fields_text(hook)?,
            schema_text(hook),
            serde_json::to_string(&DefaultsRecord::from(&hook.defaults))?,
            hook.created_at,
            hook.updated_at,
            hook.fields_for.as_str()
        ])?;
    if changed == 0 {
        return Err(StoreError::Exists);
    }
    keep_fields(db, hook, version)
}

/// Replaces a hook, if its version still is the expected one.
pub(super) fn replace_hook(db: &Connection, hook: &Hook, expected: i64) -> Result<(), StoreError> {
    let version = meta::bump(db, "catalogue_version")?;
    let changed = db
        .prepare_cached(
            "UPDATE hook SET version = ?3, description = ?4, fields = ?5, schema = ?6, defaults = ?7, updated_at = ?8,
             fields_for = ?10
             WHERE app = ?1 AND name = ?2 AND deleted = 0 AND version = ?9",
        )?
        .execute(params![
            hook.app.as_str(),
            hook.name,
            version,
            hook.description,
            fields_text(hook)?,
            schema_text(hook),
            serde_json::to_string(&DefaultsRecord::from(&hook.defaults))?,
            hook.updated_at,
            expected,
            hook.fields_for.as_str()
        ])?;
    if changed == 0 {
        let exists = db
            .prepare_cached("SELECT EXISTS (SELECT 1 FROM hook WHERE app = ?1 AND name = ?2 AND deleted = 0)")?
            .query_row(params![hook.app.as_str(), hook.name], |row| row.get(0))?;
        return Err(conflict_or_missing(exists));
    }
    keep_fields(db, hook, version)
}

fn keep_fields(db: &Connection, hook: &Hook, version: i64) -> Result<(), StoreError> {
    replace_fields(db, &hook.app, &hook.name, hook.updated_at)?;
    db.prepare_cached("INSERT INTO hook_fields (app, name, version, fields) VALUES (?1, ?2, ?3, ?4)")?
        .execute(params![hook.app.as_str(), hook.name, version, fields_text(hook)?])?;
    Ok(())
}

/// Records when a hook's current fields were replaced.
fn replace_fields(db: &Connection, app: &AppId, name: &str, now: Millis) -> Result<(), StoreError> {
    db.prepare_cached("UPDATE hook_fields SET replaced_at = ?3 WHERE app = ?1 AND name = ?2 AND replaced_at IS NULL")?
        .execute(params![app.as_str(), name, now])?;
    Ok(())
}

/// Marks a hook as deleted and erases its contents.
pub(super) fn delete_hook(db: &Connection, app: &AppId, name: &str, now: Millis) -> Result<(), StoreError> {
    let version = meta::bump(db, "catalogue_version")?;
    let changed = db
        .prepare_cached(
            "UPDATE hook SET version = ?3, deleted = 1, description = '', fields = NULL, schema = NULL,
             defaults = '{}', updated_at = ?4
             WHERE app = ?1 AND name = ?2 AND deleted = 0",
        )?
        .execute(params![app.as_str(), name, version, now])?;
    if changed == 0 { Err(StoreError::Missing) } else { replace_fields(db, app, name, now) }
}

/// The fields that a hook declared at a version.
#[allow(
    clippy::option_option,
    reason = "the outer option is whether the version existed, the inner whether it declared fields"
)]
pub(super) fn fields_at(
    db: &Connection,
    app: &AppId,
    hook: &str,
    version: i64,
) -> Result<Option<Option<Vec<Field>>>, StoreError> {
    let found: Option<Option<String>> = db
        .prepare_cached("SELECT fields FROM hook_fields WHERE app = ?1 AND name = ?2 AND version = ?3")?
        .query_row(params![app.as_str(), hook, version], |row| row.get(0))
        .optional()?;
    Ok(found.map(|text| text.map(|text| serde_json::from_str(&text)).transpose()).transpose()?)
}

/// Adds a listener.
pub(super) fn create_listener(
    db: &Connection,
    listener: &Listener,
    sealed: &[u8],
) -> Result<DestinationNo, StoreError> {
    let version = meta::bump(db, "catalogue_version")?;
    let disabled = listener.disabled.as_ref();
    let no = db
        .prepare_cached(
            "INSERT INTO listener (app, id, version, spec, sealed, disabled_reason, disabled_at, created_at, updated_at)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9) ON CONFLICT DO NOTHING RETURNING no",
        )?
        .query_row(
            params![
                listener.app.as_str(),
                listener.id,
                version,
                serde_json::to_string(&ListenerSpec::from(listener))?,
                sealed,
                disabled.map(|d| &d.reason),
                disabled.map(|d| d.at),
                listener.created_at,
                listener.updated_at
            ],
            |row| row.get(0),
        )
        .optional()?;
    no.map(DestinationNo).ok_or(StoreError::Exists)
}

/// Replaces a listener, if its version still is the expected one.
pub(super) fn replace_listener(
    db: &Connection,
    listener: &Listener,
    sealed: &[u8],
    expected: i64,
) -> Result<(), StoreError> {
    let version = meta::bump(db, "catalogue_version")?;
    let disabled = listener.disabled.as_ref();
    let no: Option<i64> = db
        .prepare_cached(
            "UPDATE listener SET version = ?3, spec = ?4, sealed = ?5, disabled_reason = ?6, disabled_at = ?7,
             unannounced = CASE WHEN disabled_at = ?7 THEN unannounced ELSE 0 END, updated_at = ?8
             WHERE app = ?1 AND id = ?2 AND deleted = 0 AND version = ?9 RETURNING no",
        )?
        .query_row(
            params![
                listener.app.as_str(),
                listener.id,
                version,
                serde_json::to_string(&ListenerSpec::from(listener))?,
                sealed,
                disabled.map(|d| &d.reason),
                disabled.map(|d| d.at),
                listener.updated_at,
                expected
            ],
            |row| row.get(0),
        )
        .optional()?;
    let Some(no) = no else {
        let exists = db
            .prepare_cached("SELECT EXISTS (SELECT 1 FROM listener WHERE app = ?1 AND id = ?2 AND deleted = 0)")?
            .query_row(params![listener.app.as_str(), listener.id], |row| row.get(0))?;
        return Err(conflict_or_missing(exists));
    };
    if disabled.is_none() {
        // It may have been disabled until now: its failures are cleared, and its pending deliveries are due again.
        db.prepare_cached("DELETE FROM failing WHERE destination = ?1")?.execute([no])?;
        lanes::refresh_due(db, DestinationNo(no))
    } else {
        lanes::forget_due(db, DestinationNo(no))
    }
}

/// Marks a listener as deleted and erases its contents: the tombstone has only its id and number.
pub(super) fn delete_listener(db: &Connection, app: &AppId, id: &str, now: Millis) -> Result<(), StoreError> {
    let version = meta::bump(db, "catalogue_version")?;
    let changed = db
        .prepare_cached(
            "UPDATE listener SET version = ?3, deleted = 1, spec = ?5, sealed = x'', unannounced = 0,
             updated_at = ?4 WHERE app = ?1 AND id = ?2 AND deleted = 0",
        )?
        .execute(params![app.as_str(), id, version, now, ERASED_SPEC])?;
    if changed == 0 { Err(StoreError::Missing) } else { Ok(()) }
}

/// Disables a destination because its deliveries failed. `announce`: an event about it has to be published. Returns
/// `false` if it is disabled already, or deleted.
pub(super) fn disable(
    db: &Connection,
    destination: DestinationNo,
    reason: &str,
    wall: Millis,
    announce: bool,
) -> Result<bool, StoreError> {
    let changed = db
        .prepare_cached(
            "UPDATE listener SET disabled_reason = ?2, disabled_at = ?3, unannounced = ?4, updated_at = ?3
             WHERE no = ?1 AND disabled_at IS NULL AND deleted = 0",
        )?
        .execute(params![destination.0, reason, wall, announce])?;
    if changed == 1 {
        let version = meta::bump(db, "catalogue_version")?;
        db.prepare_cached("UPDATE listener SET version = ?2 WHERE no = ?1")?
            .execute(params![destination.0, version])?;
        lanes::forget_due(db, destination)?;
    }
    Ok(changed == 1)
}

/// Whether a destination was deleted.
pub(super) fn is_deleted(db: &Connection, destination: DestinationNo) -> Result<bool, StoreError> {
    let deleted: Option<i64> = db
        .prepare_cached("SELECT deleted FROM listener WHERE no = ?1")?
        .query_row([destination.0], |row| row.get(0))
        .optional()?;
    Ok(deleted != Some(0))
}

/// Listeners that were disabled because their deliveries failed, and whose event about that is not published yet.
pub(super) fn unannounced(db: &Connection) -> Result<Vec<(AppId, String)>, StoreError> {
    let mut statement = db.prepare_cached("SELECT app, id FROM listener WHERE unannounced = 1 LIMIT 1000")?;
    let rows = statement.query_map([], |row| Ok((AppId::from(row.get::<_, String>(0)?), row.get(1)?)))?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// Records that the event about a disabled listener is published.
pub(super) fn announced(db: &Connection, app: &AppId, listener: &str) -> Result<(), StoreError> {
    db.prepare_cached("UPDATE listener SET unannounced = 0 WHERE app = ?1 AND id = ?2")?
        .execute(params![app.as_str(), listener])?;
    Ok(())
}
