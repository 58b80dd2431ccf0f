//! Retention: forgetting events with what came of them, and idempotency keys, in slices.

use rusqlite::{Connection, params};
use tidings_model::clock::Millis;
use tidings_model::id::EventNo;

use crate::error::StoreError;

/// How many events one slice looks at, how many ended deliveries it deletes, and how many keys it forgets, at most.
const SLICE: usize = 500;
/// How many free pages one slice gives back to the file system.
const SHRINK: &str = "PRAGMA incremental_vacuum(500)";

/// The statements of a slice.
pub(super) const EVENTS: &str = "SELECT no, app, channels FROM event WHERE no >= ?1 AND no < ?2 ORDER BY no LIMIT ?3";
pub(super) const OPEN: &str = "SELECT EXISTS (SELECT 1 FROM delivery WHERE app = ?1 AND event = ?2)
    OR EXISTS (SELECT 1 FROM fanout WHERE event = ?2) OR EXISTS (SELECT 1 FROM lot WHERE event = ?2)";
pub(super) const CLOSED: &str = "SELECT destination FROM closed WHERE app = ?1 AND event = ?2 LIMIT ?3";
pub(super) const KEYS: &str = "DELETE FROM idempotency
    WHERE (app, key) IN (SELECT app, key FROM idempotency WHERE created_at < ?1 ORDER BY created_at LIMIT ?2)";

/// Deletes a slice of the events from `from` on that are older than `before` and have no open work. Answers where the next
/// slice begins; `None` when there is none.
pub(super) fn events(db: &Connection, from: EventNo, before: Millis) -> Result<Option<EventNo>, StoreError> {
    let old: Vec<(i64, String, Option<String>)> = {
        let mut statement = db.prepare_cached(EVENTS)?;
        let rows = statement.query_map(params![from.0, EventNo::first_of(before).0, SLICE], |row| {
            Ok((row.get(0)?, row.get(1)?, row.get(2)?))
        })?;
        rows.collect::<Result<_, _>>()?
    };
    let mut budget = SLICE;
    for (no, app, channels) in &old {
        if db.prepare_cached(OPEN)?.query_row(params![app, no], |row| row.get(0))? {
            continue;
        }
        let ended: Vec<i64> = {
            let mut statement = db.prepare_cached(CLOSED)?;
            let rows = statement.query_map(params![app, no, budget], |row| row.get(0))?;
            rows.collect::<Result<_, _>>()?
        };
        for destination in &ended {
            db.prepare_cached("DELETE FROM attempt WHERE event = ?1 AND destination = ?2")?
                .execute(params![no, destination])?;
            db.prepare_cached("DELETE FROM closed WHERE app = ?1 AND event = ?2 AND destination = ?3")?
                .execute(params![app, no, destination])?;
        }
        budget -= ended.len();
        if budget == 0 {
            // There may be more of this event's.
            return Ok(Some(EventNo(*no)));
        }
        let channels: Vec<String> = channels.as_deref().map_or_else(|| Ok(Vec::new()), serde_json::from_str)?;
        for channel in &channels {
            db.prepare_cached("DELETE FROM event_channel WHERE app = ?1 AND channel = ?2 AND no = ?3")?
                .execute(params![app, channel, no])?;
        }
        db.prepare_cached("DELETE FROM event WHERE no = ?1")?.execute([no])?;
    }
    Ok(old.last().filter(|_| old.len() == SLICE).map(|(no, ..)| EventNo(no + 1)))
}

/// Forgets a slice of the keys used before a time; `true` when there may be more.
pub(super) fn keys(db: &Connection, before: Millis) -> Result<bool, StoreError> {
    Ok(db.prepare_cached(KEYS)?.execute(params![before, SLICE])? == SLICE)
}

/// Gives free pages back to the file system, a few at a time.
pub(super) fn shrink(db: &Connection) -> Result<(), StoreError> {
    let mut vacuum = db.prepare_cached(SHRINK)?;
    let mut pages = vacuum.query([])?;
    // Each step frees one page.
    while pages.next()?.is_some() {}
    Ok(())
}
