//! Placing open deliveries: leased, scheduled, or waiting behind an older one of their lane.
//!
//! Two invariants hold after every transaction. Of a lane, only the oldest open delivery is scheduled or leased. And an
//! enabled destination with anything scheduled has a `queue` row whose `next_due` is not later than the first of them.

use rusqlite::{Connection, OptionalExtension, params};
use tidings_model::clock::Millis;
use tidings_model::id::{AppId, DeliveryKey, DestinationNo, EventNo};

use super::db::Db;
use crate::error::StoreError;
use crate::log::{Lease, LeaseToken};
use crate::queue::{Advanced, Leased};

/// A delivery to be written.
pub(super) struct Owed<'a> {
    pub(super) app: &'a AppId,
    pub(super) event: EventNo,
    pub(super) destination: DestinationNo,
    pub(super) lane: Option<&'a str>,
    pub(super) not_before: Option<Millis>,
}

/// What a written delivery is now.
pub(super) enum Placed {
    Leased,
    Scheduled,
    Waiting,
}

/// Writes a delivery; leased when a lease is given and nothing stands in the way. Written before, it is left as it is.
pub(super) fn insert(db: &Db, owed: &Owed<'_>, lease: Option<Lease>, now: Millis) -> Result<Placed, StoreError> {
    let early = owed.not_before.is_some_and(|time| time > now);
    let behind = match owed.lane {
        Some(lane) => occupied(db, owed.destination, lane)?,
        None => false,
    };
    let (placed, due, lease) = match lease {
        _ if behind => (Placed::Waiting, None, None),
        Some(lease) if !early => (Placed::Leased, None, Some(lease)),
        _ => (Placed::Scheduled, Some(owed.not_before.unwrap_or(now).max(now)), None),
    };
    let written = db
        .prepare_cached(
            "INSERT OR IGNORE INTO delivery (app, event, destination, lane, attempts, forgiven, due, not_before, lease, lease_until)
             VALUES (?1, ?2, ?3, ?4, 0, 0, ?5, ?6, ?7, ?8)",
        )?
        .execute(params![
            owed.app.as_str(),
            owed.event.0,
            owed.destination.0,
            owed.lane,
            due,
            owed.not_before,
            lease.map(|l| l.token.0),
            lease.map(|l| l.until),
        ])?;
    if written == 0 {
        return Ok(Placed::Waiting);
    }
    db.count_deliveries(1);
    if let Some(due) = due {
        note_due(db, owed.destination, due)?;
    }
    Ok(placed)
}

fn occupied(db: &Connection, destination: DestinationNo, lane: &str) -> Result<bool, StoreError> {
    Ok(db
        .prepare_cached("SELECT EXISTS (SELECT 1 FROM delivery WHERE destination = ?1 AND lane = ?2)")?
        .query_row(params![destination.0, lane], |row| row.get(0))?)
}

/// Notes that something of a destination's is due at `due`.
pub(super) fn note_due(db: &Connection, destination: DestinationNo, due: Millis) -> Result<(), StoreError> {
    db.prepare_cached(
        "INSERT INTO queue (destination, next_due) VALUES (?1, ?2)
         ON CONFLICT (destination) DO UPDATE SET next_due = min(next_due, excluded.next_due)",
    )?
    .execute(params![destination.0, due])?;
    Ok(())
}

/// Puts a destination's `queue` row right after its scheduled deliveries have changed.
pub(super) fn refresh_due(db: &Connection, destination: DestinationNo) -> Result<(), StoreError> {
    let next: Option<Millis> = db
        .prepare_cached("SELECT MIN(due) FROM delivery WHERE destination = ?1 AND due IS NOT NULL")?
        .query_row([destination.0], |row| row.get(0))?;
    match next {
        Some(due) => db
            .prepare_cached("INSERT OR REPLACE INTO queue (destination, next_due) VALUES (?1, ?2)")?
            .execute(params![destination.0, due])?,
        None => db.prepare_cached("DELETE FROM queue WHERE destination = ?1")?.execute([destination.0])?,
    };
    Ok(())
}

/// Leaves a destination's scheduled deliveries alone until [`refresh_due`].
pub(super) fn forget_due(db: &Connection, destination: DestinationNo) -> Result<(), StoreError> {
    db.prepare_cached("DELETE FROM queue WHERE destination = ?1")?.execute([destination.0])?;
    Ok(())
}

/// Lets the next of a lane go, after its head has ended: leased when a lease is given, scheduled otherwise.
pub(super) fn advance(
    db: &Connection,
    destination: DestinationNo,
    lane: &str,
    lease: Option<Lease>,
    now: Millis,
) -> Result<Advanced, StoreError> {
    let head = db
        .prepare_cached(
            "SELECT app, event, attempts, forgiven, not_before, due IS NULL AND lease IS NULL FROM delivery
             WHERE destination = ?1 AND lane = ?2 ORDER BY event LIMIT 1",
        )?
        .query_row(params![destination.0, lane], |row| {
            let key =
                DeliveryKey { app: AppId::from(row.get::<_, String>(0)?), event: EventNo(row.get(1)?), destination };
            let attempts: u32 = row.get(2)?;
            let forgiven: u32 = row.get(3)?;
            Ok((key, attempts, forgiven, row.get::<_, Option<Millis>>(4)?, row.get::<_, bool>(5)?))
        })
        .optional()?;
    let Some((key, attempts, forgiven, not_before, true)) = head else {
        return Ok(Advanced::Nothing);
    };
    match lease {
        Some(lease) if not_before.is_none_or(|time| time <= now) => {
            set_lease(db, &key, lease)?;
            Ok(Advanced::Leased(Leased { key, attempts, forgiven, ordered: true, lot: false, lease }))
        }
        _ => {
            let due = not_before.unwrap_or(now).max(now);
            db.prepare_cached("UPDATE delivery SET due = ?4 WHERE app = ?1 AND event = ?2 AND destination = ?3")?
                .execute(params![key.app.as_str(), key.event.0, key.destination.0, due])?;
            note_due(db, destination, due)?;
            Ok(Advanced::Due(due))
        }
    }
}

/// Leases a delivery that is scheduled or next of its lane.
pub(super) fn set_lease(db: &Connection, key: &DeliveryKey, lease: Lease) -> Result<(), StoreError> {
    db.prepare_cached(
        "UPDATE delivery SET due = NULL, lease = ?4, lease_until = ?5 WHERE app = ?1 AND event = ?2 AND destination = ?3",
    )?
    .execute(params![key.app.as_str(), key.event.0, key.destination.0, lease.token.0, lease.until])?;
    Ok(())
}

/// Makes a leased delivery scheduled again; `false` when the lease was lost.
pub(super) fn reschedule(
    db: &Connection,
    key: &DeliveryKey,
    lease: LeaseToken,
    due: Millis,
    attempts: u32,
    last_error: Option<&str>,
) -> Result<bool, StoreError> {
    let changed = db
        .prepare_cached(
            "UPDATE delivery SET due = ?5, lease = NULL, lease_until = NULL, attempts = ?6, last_error = coalesce(?7, last_error)
             WHERE app = ?1 AND event = ?2 AND destination = ?3 AND lease = ?4",
        )?
        .execute(params![key.app.as_str(), key.event.0, key.destination.0, lease.0, due, attempts, last_error])?;
    if changed == 1 {
        note_due(db, key.destination, due)?;
    }
    Ok(changed == 1)
}
