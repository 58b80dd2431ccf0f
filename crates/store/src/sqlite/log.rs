//! The publish transaction, and reading the log back.

use std::ops::Range;
use std::sync::atomic::{AtomicI64, Ordering};

use rusqlite::{Connection, OptionalExtension, params};
use tidings_model::event::Event;
use tidings_model::id::{AppId, EventNo};

use super::db::Db;
use super::{lanes, leased_batches, meta};
use crate::destinations;
use crate::error::StoreError;
use crate::log::{EventFilter, Idempotency, Lane, Logged, Publish, Published};
use crate::page::{Page, Paged};
use crate::rows::{self, by_name};
use crate::rules::placement::{NewDelivery, Placement, PublishPlan};
use crate::rules::repeat;

/// Writes one publish. `digest` is the event's; the caller computes it, to keep hashing off the writer's thread. With
/// more than `direct` destinations it writes a fan-out row. `newest` is the number of the newest event ever written.
pub(super) fn publish(
    db: &Db,
    publish: &Publish,
    digest: &[u8; 32],
    direct: usize,
    newest: &AtomicI64,
) -> Result<Published, StoreError> {
    let event = &publish.event;
    if let Some(key) = &publish.idempotency
        && let Some(answer) = used_key(db, &event.app, key)?
    {
        return Ok(answer);
    }
    if !is_current(db, &event.app, publish.catalogue_version)? {
        // A repeated publish needs no new matching: it gets the first answer.
        return Ok(same_id(db, event, digest)?.unwrap_or(Published::StaleCatalogue));
    }
    let no = EventNo(newest.load(Ordering::Relaxed)).next(publish.received_at);
    // Few ids are repeated. So the insert is tried first; only if the index refuses it is the first event read.
    if !insert_event(db, no, publish, digest)? {
        return Ok(same_id(db, event, digest)?.unwrap_or(Published::IdTaken));
    }
    // If this is rolled back, a number is skipped, which does no harm.
    newest.store(no.0, Ordering::Relaxed);
    let published = place(db, no, publish, direct)?;
    if let Some(key) = &publish.idempotency {
        db.prepare_cached(
            "INSERT OR REPLACE INTO idempotency (app, key, digest, event_id, deliveries, created_at)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
        )?
        .execute(params![
            event.app.as_str(),
            key.key,
            key.digest,
            event.id,
            publish.destinations.len(),
            publish.received_at
        ])?;
    }
    Ok(published)
}

/// Whether none of the app's hooks and listeners has changed since a version. Changes of other apps are no reason to
/// match an event again.
fn is_current(db: &Connection, app: &AppId, version: i64) -> Result<bool, StoreError> {
    if meta::get(db, "catalogue_version")? == version {
        return Ok(true);
    }
    let changed: bool = db.prepare_cached(CHANGED)?.query_row(params![app.as_str(), version], |row| row.get(0))?;
    Ok(!changed)
}

/// The statement of [`is_current`]. Few changes are newer than the version that a publish was matched at, so it reads
/// those by their version.
pub(super) const CHANGED: &str =
    "SELECT EXISTS (SELECT 1 FROM hook INDEXED BY hook_version WHERE version > ?2 AND app = ?1)
    OR EXISTS (SELECT 1 FROM listener INDEXED BY listener_version WHERE version > ?2 AND app = ?1)";

fn used_key(db: &Connection, app: &AppId, key: &Idempotency) -> Result<Option<Published>, StoreError> {
    let found = db
        .prepare_cached(
            "SELECT digest, event_id, deliveries FROM idempotency WHERE app = ?1 AND key = ?2 AND created_at >= ?3",
        )?
        .query_row(params![app.as_str(), key.key, key.forget_before], |row| {
            Ok((row.get::<_, [u8; 32]>(0)?, row.get(1)?, row.get(2)?))
        })
        .optional()?;
    Ok(found.map(|(digest, id, deliveries)| repeat::of_key(digest == key.digest, id, deliveries)))
}

/// The answer to a publish whose event id is taken; `None` if it is free.
fn same_id(db: &Connection, event: &Event, digest: &[u8; 32]) -> Result<Option<Published>, StoreError> {
    let found = db
        .prepare_cached("SELECT digest, deliveries FROM event WHERE app = ?1 AND id = ?2")?
        .query_row(params![event.app.as_str(), event.id], |row| Ok((row.get::<_, [u8; 32]>(0)?, row.get(1)?)))
        .optional()?;
    Ok(found.map(|(known, deliveries)| repeat::of_id(known == *digest, &event.id, deliveries)))
}

/// The number of the newest event; 0 if there is none.
pub(super) fn newest(db: &Connection) -> Result<i64, StoreError> {
    Ok(db.prepare_cached("SELECT coalesce((SELECT MAX(no) FROM event), 0)")?.query_row([], |row| row.get(0))?)
}

/// Writes the event. Returns `false` if its id is taken.
fn insert_event(db: &Connection, no: EventNo, publish: &Publish, digest: &[u8; 32]) -> Result<bool, StoreError> {
    let event = &publish.event;
    let channels = if event.channels.is_empty() { None } else { Some(serde_json::to_string(&event.channels)?) };
    let written = db
        .prepare_cached(
            "INSERT INTO event (no, app, id, name, channels, content_type, time, op, key, except_session, hook_version,
         received_at, deliveries, digest, data)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15)
         ON CONFLICT (app, id) DO NOTHING",
        )?
        .execute(params![
            no.0,
            event.app.as_str(),
            event.id,
            event.name,
            channels,
            event.data.content_type,
            event.time,
            event.op,
            event.key,
            event.except,
            publish.hook_version,
            publish.received_at,
            publish.destinations.len(),
            digest,
            &event.data.bytes[..],
        ])?;
    if written == 0 {
        return Ok(false);
    }
    for channel in &event.channels {
        // The event may name a channel twice.
        db.prepare_cached("INSERT OR IGNORE INTO event_channel (app, channel, no) VALUES (?1, ?2, ?3)")?
            .execute(params![event.app.as_str(), channel, no.0])?;
    }
    Ok(true)
}

/// Writes the deliveries, or the rows that stand for them: the leased batch of those that are attempted at once, and
/// the fan-out row of those that are written later.
fn place(db: &Db, no: EventNo, publish: &Publish, direct: usize) -> Result<Published, StoreError> {
    let event = &publish.event;
    let is_ordered = publish.destinations.iter().any(|d| d.lane != Lane::Own);
    let PublishPlan { batch, rows, later } =
        PublishPlan::new(publish, direct, is_ordered && fanout_pending(db, &event.app)?);
    let mut queued = !later.is_empty();
    if !batch.is_empty() {
        leased_batches::insert(db, no, publish.lease, &batch)?;
    }
    let mut leased = batch;
    for destination in rows {
        let new = NewDelivery {
            app: &event.app,
            event: no,
            destination: destination.no,
            lane: destination.lane.name(event.key.as_deref()),
            not_before: publish.not_before,
            lease: destination.fresh.then_some(publish.lease),
            now: publish.now,
        };
        match lanes::insert(db, &new)? {
            Placement::Leased(_) => leased.push(destination.no),
            Placement::Scheduled(_) => queued = true,
            Placement::Waiting => {}
        }
    }
    leased.sort_unstable();
    if !later.is_empty() {
        db.prepare_cached(
            "INSERT INTO fanout (event, app, key, not_before, destinations) VALUES (?1, ?2, ?3, ?4, ?5)",
        )?
        .execute(params![
            no.0,
            event.app.as_str(),
            event.key,
            publish.not_before,
            destinations::encode(later.iter().copied())
        ])?;
        db.count_fanouts(1);
    }
    Ok(Published::Stored { no, leased, queued })
}

fn fanout_pending(db: &Connection, app: &AppId) -> Result<bool, StoreError> {
    Ok(db
        .prepare_cached("SELECT EXISTS (SELECT 1 FROM fanout WHERE app = ?1)")?
        .query_row([app.as_str()], |row| row.get(0))?)
}

/// The columns of [`rows::logged`]. A macro, so that statements are constants, not built for each call.
macro_rules! columns {
    ($rest:literal) => {
        concat!(
            "SELECT",
            " e.no, e.app, e.id, e.name, e.channels, e.content_type, e.time, e.op, e.key, e.except_session, ",
            "e.hook_version, e.received_at, e.deliveries, e.data ",
            $rest
        )
    };
}

/// The statement of [`event`].
pub(super) const BY_ID: &str = columns!("FROM event e WHERE e.app = ?1 AND e.id = ?2");

/// One event by its id.
pub(super) fn event(db: &Connection, app: &AppId, id: &str) -> Result<Option<Logged>, StoreError> {
    let mut found = db.prepare_cached(BY_ID)?;
    let mut found = found.query(params![app.as_str(), id])?;
    found.next()?.map(|row| rows::logged(&by_name(row))).transpose()
}

/// A page of the log, newest first.
pub(super) fn events(db: &Connection, app: &AppId, filter: &EventFilter) -> Result<Page<Logged>, StoreError> {
    let Range { start, end } = filter.range();
    let wanted = filter.name.as_ref().or(filter.channel.as_ref());
    let mut page = Paged::new(filter.limit, filter.bytes.unwrap_or(usize::MAX));
    let mut statement = db.prepare_cached(listing(filter.name.is_some(), filter.channel.is_some()))?;
    let mut found = statement.query(params![app.as_str(), start.0, end.0, page.rows_to_read(), wanted])?;
    while let Some(row) = found.next()? {
        if !page.take(rows::logged(&by_name(row))?, |logged| logged.event.weight()) {
            break;
        }
    }
    Ok(page.end())
}

/// The statement of [`events`].
pub(super) fn listing(by_name: bool, by_channel: bool) -> &'static str {
    match (by_name, by_channel) {
        (true, _) => columns!(
            "FROM event e WHERE e.app = ?1 AND e.name = ?5 AND e.no >= ?2 AND e.no < ?3 ORDER BY e.no DESC LIMIT ?4"
        ),
        (false, true) => columns!(
            "FROM event_channel c JOIN event e ON e.no = c.no
             WHERE c.app = ?1 AND c.channel = ?5 AND c.no >= ?2 AND c.no < ?3 ORDER BY c.no DESC LIMIT ?4"
        ),
        // The fifth parameter is unused, but must occur in the statement to be bound.
        (false, false) => columns!(
            "FROM event e WHERE e.app = ?1 AND e.no >= ?2 AND e.no < ?3 AND ?5 IS NULL ORDER BY e.no DESC LIMIT ?4"
        ),
    }
}

/// The statement of [`events_at`].
pub(super) const BY_PLACE: &str = columns!("FROM event e WHERE e.no = ?1");

/// Events by their numbers. Deleted events are left out.
pub(super) fn events_at(db: &Connection, places: &[EventNo]) -> Result<Vec<Logged>, StoreError> {
    let mut one = db.prepare_cached(BY_PLACE)?;
    let mut out = Vec::with_capacity(places.len());
    for place in places {
        let mut found = one.query([place.0])?;
        if let Some(row) = found.next()? {
            out.push(rows::logged(&by_name(row))?);
        }
    }
    Ok(out)
}
