//! Retention, in slices: deletes events with their deliveries and attempts, idempotency keys, and tombstones, and
//! returns free space to the file system.

use std::time::Duration;

use rusqlite::{Connection, params};
use tidings_model::clock::{Millis, Stopwatch};
use tidings_model::id::EventNo;

use super::db::{self, Db};
use crate::error::StoreError;
use crate::queue::Retired;
use crate::records::REPLACED_MARGIN;

/// The most events that one slice reads, closed deliveries that it deletes, and keys that it deletes.
const SLICE: usize = 500;
/// The longest time of a slice: publishers wait for it.
const SLICE_TIME: Duration = Duration::from_millis(4);
/// The least number of free pages that are kept for later writes.
const RESERVE: u64 = 256;
/// The part of all pages (one in so many) that is kept free for later writes.
const RESERVED_PART: u64 = 32;

/// The statements of a slice.
pub(super) const EVENTS: &str = "SELECT no, app, channels FROM event WHERE no >= ?1 AND no < ?2 ORDER BY no LIMIT ?3";
pub(super) const OPEN: &str = "SELECT EXISTS (SELECT 1 FROM delivery WHERE app = ?1 AND event = ?2)
    OR EXISTS (SELECT 1 FROM fanout WHERE event = ?2) OR EXISTS (SELECT 1 FROM lot WHERE event = ?2)";
pub(super) const CLOSED: &str =
    "SELECT destination, state = 'undelivered' FROM closed WHERE app = ?1 AND event = ?2 LIMIT ?3";
pub(super) const KEYS: &str = "DELETE FROM idempotency
    WHERE (app, key) IN (SELECT app, key FROM idempotency WHERE created_at < ?1 ORDER BY created_at LIMIT ?2)";

/// Deletes a slice of the events from `from` up to `until` that have no open work; with `most`, only while more bytes
/// than that are in use. Also returns where the next slice begins; `None` if there is none.
pub(super) fn events(
    db: &Db,
    from: EventNo,
    until: EventNo,
    most: Option<u64>,
) -> Result<(Retired, Option<EventNo>), StoreError> {
    let watch = Stopwatch::start();
    let mut retired = Retired::default();
    let old: Vec<(i64, String, Option<String>)> = {
        let mut statement = db.prepare_cached(EVENTS)?;
        let rows =
            statement.query_map(params![from.0, until.0, SLICE], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?;
        rows.collect::<Result<_, _>>()?
    };
    let mut budget = SLICE;
    for (no, app, channels) in &old {
        if let Some(most) = most
            && db::used(db)? <= most
        {
            return Ok((retired, None));
        }
        if watch.elapsed() > SLICE_TIME {
            return Ok((retired, Some(EventNo(*no))));
        }
        if db.prepare_cached(OPEN)?.query_row(params![app, no], |row| row.get(0))? {
            continue;
        }
        let ended: Vec<(i64, bool)> = {
            let mut statement = db.prepare_cached(CLOSED)?;
            let rows = statement.query_map(params![app, no, budget], |row| Ok((row.get(0)?, row.get(1)?)))?;
            rows.collect::<Result<_, _>>()?
        };
        for (destination, undelivered) in &ended {
            db.prepare_cached("DELETE FROM attempt WHERE event = ?1 AND destination = ?2")?
                .execute(params![no, destination])?;
            db.prepare_cached("DELETE FROM closed WHERE app = ?1 AND event = ?2 AND destination = ?3")?
                .execute(params![app, no, destination])?;
            db.count_undelivered(-i64::from(*undelivered));
        }
        budget -= ended.len();
        if budget == 0 {
            // The event may have more closed deliveries.
            return Ok((retired, Some(EventNo(*no))));
        }
        let channels: Vec<String> = channels.as_deref().map_or_else(|| Ok(Vec::new()), serde_json::from_str)?;
        for channel in &channels {
            db.prepare_cached("DELETE FROM event_channel WHERE app = ?1 AND channel = ?2 AND no = ?3")?
                .execute(params![app, channel, no])?;
        }
        db.prepare_cached("DELETE FROM event WHERE no = ?1")?.execute([no])?;
        retired.count(EventNo(*no));
    }
    let next = old.last().filter(|_| old.len() == SLICE).map(|(no, ..)| EventNo(no + 1));
    Ok((retired, next))
}

/// Deletes a slice of the idempotency keys used before a time. Returns `true` if there may be more.
pub(super) fn keys(db: &Connection, before: Millis) -> Result<bool, StoreError> {
    Ok(db.prepare_cached(KEYS)?.execute(params![before, SLICE])? == SLICE)
}

/// The statements of [`deleted`]. A hook's earlier fields are kept while an event that was matched with them is.
const DELETED: [&str; 4] = [
    "DELETE FROM listener WHERE no IN (SELECT no FROM listener WHERE deleted = 2 AND updated_at < ?1 LIMIT ?2)",
    "DELETE FROM hook WHERE (app, name) IN (SELECT app, name FROM hook WHERE deleted = 1 AND updated_at < ?1 LIMIT ?2)",
    "DELETE FROM app WHERE id IN (SELECT id FROM app WHERE deleted = 1 AND updated_at < ?1 LIMIT ?2)",
    "DELETE FROM failing WHERE destination IN (SELECT f.destination FROM failing f
     LEFT JOIN listener l ON l.no = f.destination WHERE l.no IS NULL AND ?1 > 0 LIMIT ?2)",
];
const FIELDS: &str = "DELETE FROM hook_fields WHERE (app, name, version) IN (SELECT f.app, f.name, f.version
    FROM hook_fields f
    WHERE f.replaced_at < ?1 AND NOT EXISTS (SELECT 1 FROM event e
        WHERE e.app = f.app AND e.name = f.name AND e.no < (f.replaced_at + ?3) << ?4 AND e.hook_version = f.version)
        LIMIT ?2)";

/// Removes a slice of the tombstones and replaced fields from before a time. Returns `true` if there may be more.
pub(super) fn deleted(db: &Connection, before: Millis) -> Result<bool, StoreError> {
    let mut more = false;
    for sql in DELETED {
        more |= db.prepare_cached(sql)?.execute(params![before, SLICE])? == SLICE;
    }
    let fields = params![before, SLICE, REPLACED_MARGIN, EventNo::COUNTER_BITS];
    Ok(db.prepare_cached(FIELDS)?.execute(fields)? == SLICE || more)
}

/// Returns free pages to the file system, for one slice of time. Returns `true` if there are more.
pub(super) fn shrink(db: &Connection) -> Result<bool, StoreError> {
    let reserve = RESERVE.max(db::pages(db)? / RESERVED_PART);
    let spare = db::free_pages(db)?.saturating_sub(reserve);
    if spare == 0 {
        return Ok(false);
    }
    let watch = Stopwatch::start();
    let mut vacuum = db.prepare_cached("PRAGMA incremental_vacuum")?;
    let mut pages = vacuum.query([])?;
    // Each step frees one page.
    for _ in 0..spare {
        if pages.next()?.is_none() {
            return Ok(false);
        }
        if watch.elapsed() > SLICE_TIME {
            return Ok(true);
        }
    }
    Ok(false)
}
