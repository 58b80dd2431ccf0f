//! Places open deliveries: leased, scheduled, or waiting behind an older one of their lane.
//!
//! Two invariants hold after every transaction. Of a lane, either only the oldest open delivery is scheduled, or only
//! it and those right behind it are leased, to go in one request. And an enabled destination with a scheduled delivery
//! has a `queue` row whose `next_due` is not later than the first of them.

use rusqlite::{Connection, OptionalExtension, params};
use tidings_model::clock::Millis;
use tidings_model::id::{DeliveryKey, DestinationNo, EventNo};

use super::db::Db;
use crate::error::StoreError;
use crate::log::{Lease, LeaseToken};
use crate::queue::Leased;
use crate::rows::{self, by_name};
use crate::rules::lane::{self, Advance, AdvanceTerms, InLane};
use crate::rules::placement::{NewDelivery, Placement};

/// Writes a delivery. Returns its placement; if it was written before, it is left as it is.
pub(super) fn insert(db: &Db, new: &NewDelivery<'_>) -> Result<Placement, StoreError> {
    let is_behind = match new.lane {
        Some(lane) => occupied(db, new.destination, lane)?,
        None => false,
    };
    let placement = new.place(is_behind);
    let lease = placement.lease();
    let written = db
        .prepare_cached(
            "INSERT OR IGNORE INTO delivery (app, event, destination, lane, attempts, forgiven, due, not_before, lease,
             lease_until)
             VALUES (?1, ?2, ?3, ?4, 0, 0, ?5, ?6, ?7, ?8)",
        )?
        .execute(params![
            new.app.as_str(),
            new.event.0,
            new.destination.0,
            new.lane,
            placement.due(),
            new.not_before,
            lease.map(|l| l.token.0),
            lease.map(|l| l.until),
        ])?;
    if written == 0 {
        return Ok(Placement::Waiting);
    }
    db.count_deliveries(1);
    if let Some(due) = placement.due() {
        note_due(db, new.destination, due)?;
    }
    Ok(placement)
}

fn occupied(db: &Connection, destination: DestinationNo, lane: &str) -> Result<bool, StoreError> {
    Ok(db
        .prepare_cached("SELECT EXISTS (SELECT 1 FROM delivery WHERE destination = ?1 AND lane = ?2)")?
        .query_row(params![destination.0, lane], |row| row.get(0))?)
}

/// Records in `queue` that a delivery to a destination is due at `due`.
pub(super) fn note_due(db: &Connection, destination: DestinationNo, due: Millis) -> Result<(), StoreError> {
    db.prepare_cached(
        "INSERT INTO queue (destination, next_due) VALUES (?1, ?2)
         ON CONFLICT (destination) DO UPDATE SET next_due = excluded.next_due WHERE excluded.next_due < queue.next_due",
    )?
    .execute(params![destination.0, due])?;
    Ok(())
}

/// Recomputes a destination's `queue` row after its scheduled deliveries have changed.
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

/// Removes a destination's `queue` row: its scheduled deliveries are not claimed until [`refresh_due`].
pub(super) fn forget_due(db: &Connection, destination: DestinationNo) -> Result<(), StoreError> {
    db.prepare_cached("DELETE FROM queue WHERE destination = ?1")?.execute([destination.0])?;
    Ok(())
}

/// Advances a lane after its head has ended: leases or schedules the next.
pub(super) fn advance(
    db: &Connection,
    destination: DestinationNo,
    lane: &str,
    terms: &AdvanceTerms,
) -> Result<Advance, StoreError> {
    let mut open = behind(db, destination, lane, EventNo(i64::MIN), 1)?;
    let more = terms.behind_oldest(open.first());
    if let Some(oldest) = open.first().filter(|_| more > 0) {
        let after = oldest.key.event;
        open.append(&mut behind(db, destination, lane, after, more)?);
    }
    let advance = lane::advance(&open, terms);
    match &advance {
        Advance::Nothing => {}
        Advance::Lease(next) => lease_all(db, next)?,
        Advance::Schedule(key, due) => {
            db.prepare_cached("UPDATE delivery SET due = ?4 WHERE app = ?1 AND event = ?2 AND destination = ?3")?
                .execute(params![key.app.as_str(), key.event.0, key.destination.0, due])?;
            note_due(db, destination, *due)?;
        }
    }
    Ok(advance)
}

/// Leases those right behind the head of a lane that may go in the same request.
pub(super) fn follow(
    db: &Connection,
    head: &DeliveryKey,
    lane: &str,
    most: usize,
    now: Millis,
    lease: Lease,
) -> Result<Vec<Leased>, StoreError> {
    let next = lane::follow(&behind(db, head.destination, lane, head.event, most)?, now, lease);
    lease_all(db, &next)?;
    Ok(next)
}

fn lease_all(db: &Connection, all: &[Leased]) -> Result<(), StoreError> {
    all.iter().try_for_each(|leased| set_lease(db, &leased.key, leased.lease))
}

/// The open deliveries of a lane after an event, the oldest first.
fn behind(
    db: &Connection,
    destination: DestinationNo,
    lane: &str,
    after: EventNo,
    most: usize,
) -> Result<Vec<InLane>, StoreError> {
    let mut statement = db.prepare_cached(
        "SELECT app, event, destination, attempts, forgiven, not_before, due IS NULL AND lease IS NULL AS waits
         FROM delivery
         WHERE destination = ?1 AND lane = ?2 AND event > ?3 ORDER BY event LIMIT ?4",
    )?;
    statement.query_and_then(params![destination.0, lane, after.0, most], |row| rows::in_lane(&by_name(row)))?.collect()
}

/// Leases a delivery that is scheduled, or the next of its lane.
pub(super) fn set_lease(db: &Connection, key: &DeliveryKey, lease: Lease) -> Result<(), StoreError> {
    db.prepare_cached(
        "UPDATE delivery SET due = NULL, lease = ?4, lease_until = ?5 WHERE app = ?1 AND event = ?2
         AND destination = ?3",
    )?
    .execute(params![key.app.as_str(), key.event.0, key.destination.0, lease.token.0, lease.until])?;
    Ok(())
}

/// Ends a delivery's lease: it is scheduled again, or waits if an older one of its lane is open (several of a lane may
/// be leased to go in one request). Returns `false` if the lease was lost.
pub(super) fn reschedule(
    db: &Connection,
    key: &DeliveryKey,
    lease: LeaseToken,
    due: Millis,
    attempts: u32,
    last_error: Option<&str>,
) -> Result<bool, StoreError> {
    let due: Option<Option<Millis>> = db
        .prepare_cached(
            "UPDATE delivery SET lease = NULL, lease_until = NULL, attempts = ?6, last_error = coalesce(?7, last_error),
             due = CASE WHEN lane IS NOT NULL AND EXISTS (SELECT 1 FROM delivery o
             WHERE o.destination = delivery.destination
                 AND o.lane = delivery.lane AND o.event < delivery.event) THEN NULL ELSE ?5 END
             WHERE app = ?1 AND event = ?2 AND destination = ?3 AND lease = ?4 RETURNING due",
        )?
        .query_row(
            params![key.app.as_str(), key.event.0, key.destination.0, lease.0, due, attempts, last_error],
            |row| row.get(0),
        )
        .optional()?;
    if let Some(Some(due)) = due {
        note_due(db, key.destination, due)?;
    }
    Ok(due.is_some())
}
