//! Repairs what a crash, a clock that was set back, or a deletion has left behind.

use std::path::Path;

use rusqlite::{Connection, OpenFlags, OptionalExtension, params};
use tidings_model::clock::Millis;
use tidings_model::delivery::DeliveryState;
use tidings_model::id::{AppId, DeliveryKey, DestinationNo, EventNo};

use super::db::{Db, LOCKED_FOR};
use super::file::DatabaseFile;
use super::{closed, lanes, leased_batches, meta, migrate};
use crate::error::StoreError;
use crate::rules::clock;

/// The most deliveries that one transaction cancels, or whose expired leases it ends.
pub(super) const SLICE: usize = 500;
/// The most open deliveries that one read of a sweep covers: some twenty milliseconds, far below the time limit of a
/// read.
pub(super) const SWEEP_SLICE: usize = 50_000;

/// Ends every lease, and shifts due times if the clock was set back.
pub(super) fn recover(db: &Db, now: Millis) -> Result<u64, StoreError> {
    if let Some(ahead) = clock::set_back(clock_before(db)?, now) {
        tracing::warn!(ahead_ms = ahead, "the clock was set back; due times are moved back by as much");
        db.execute("UPDATE delivery SET due = due - ?1, not_before = not_before - ?1", [ahead])?;
        db.execute("UPDATE fanout SET not_before = not_before - ?1", [ahead])?;
    }
    meta::set(db, "clock", now)?;
    let taken = db.execute(
        "UPDATE delivery SET due = CASE WHEN lane IS NOT NULL
                 AND EXISTS (SELECT 1 FROM delivery o WHERE o.destination = delivery.destination
                 AND o.lane = delivery.lane AND o.event < delivery.event) THEN NULL ELSE ?1 END,
             lease = NULL, lease_until = NULL WHERE lease IS NOT NULL",
        [now],
    )?;
    let under_way: Vec<i64> = {
        let mut statement = db.prepare_cached("SELECT event FROM lot ORDER BY event")?;
        let rows = statement.query_map([], |row| row.get(0))?;
        rows.collect::<Result<_, _>>()?
    };
    let mut taken = taken as u64;
    for event in under_way {
        taken += leased_batches::dissolve(db, EventNo(event), None, now)?;
    }
    db.execute("DELETE FROM queue", [])?;
    db.execute(
        "INSERT INTO queue (destination, next_due) SELECT destination, MIN(due) FROM delivery WHERE due IS NOT NULL
         GROUP BY destination",
        [],
    )?;
    Ok(taken)
}

/// The latest reading of the clock that the database has, since the start before this one.
fn clock_before(db: &Connection) -> Result<Millis, StoreError> {
    let newest = db
        .prepare_cached("SELECT no, received_at FROM event WHERE no = (SELECT MAX(no) FROM event)")?
        .query_row([], |row| Ok((EventNo(row.get(0)?), row.get(1)?)))
        .optional()?;
    let clock = meta::get(db, "clock")?;
    let Some(newest) = newest else { return Ok(clock) };
    let known = meta::get(db, "clock_event")?;
    meta::set(db, "clock_event", newest.0.0)?;
    Ok(clock::latest_reading(clock, EventNo(known), newest))
}

/// The next incarnation of this node. It is part of every lease token of the node.
pub(super) fn incarnate(db: &Connection) -> Result<i64, StoreError> {
    meta::bump(db, "incarnation")
}

/// A delivery, and the token of its lease.
pub(super) type UnderLease = (DeliveryKey, i64);

/// The statement of [`expired`]. Leases hardly ever expire, so they have no index: every open delivery is read, in
/// slices.
pub(super) const OPEN_AFTER: &str = "SELECT app, event, destination, lease, lease_until FROM delivery
    WHERE (app, event, destination) > (?1, ?2, ?3) ORDER BY app, event, destination LIMIT ?4";

/// The expired leases among a slice of open deliveries, and where the next slice begins, if there is one.
pub(super) fn expired(
    db: &Connection,
    now: Millis,
    after: Option<&DeliveryKey>,
    slice: usize,
) -> Result<(Vec<UnderLease>, Option<DeliveryKey>), StoreError> {
    let mut out = Vec::new();
    let mut last = None;
    let mut seen = 0;
    let mut statement = db.prepare_cached(OPEN_AFTER)?;
    let (app, event, destination) =
        after.map_or(("", i64::MIN, i64::MIN), |key| (key.app.as_str(), key.event.0, key.destination.0));
    let mut rows = statement.query(params![app, event, destination, slice])?;
    while let Some(row) = rows.next()? {
        seen += 1;
        let until: Option<Millis> = row.get(4)?;
        let has_expired = until.is_some_and(|until| until < now);
        if has_expired || seen == slice {
            let key = DeliveryKey {
                app: AppId::from(row.get::<_, String>(0)?),
                event: EventNo(row.get(1)?),
                destination: DestinationNo(row.get(2)?),
            };
            if has_expired {
                out.push((key.clone(), row.get(3)?));
            }
            last = (seen == slice).then_some(key);
        }
    }
    Ok((out, last))
}

/// Ends leases that a reader found expired, if the deliveries still have them.
pub(super) fn end_expired(db: &Connection, expired: &[UnderLease], now: Millis) -> Result<u64, StoreError> {
    let mut taken = 0;
    for (key, lease) in expired {
        let due: Option<Option<Millis>> = db
            .prepare_cached(
                "UPDATE delivery SET lease = NULL, lease_until = NULL,
                 due = CASE WHEN lane IS NOT NULL
                 AND EXISTS (SELECT 1 FROM delivery o WHERE o.destination = delivery.destination
                 AND o.lane = delivery.lane AND o.event < delivery.event) THEN NULL ELSE ?5 END
                 WHERE app = ?1 AND event = ?2 AND destination = ?3 AND lease = ?4 RETURNING due",
            )?
            .query_row(params![key.app.as_str(), key.event.0, key.destination.0, lease, now], |row| row.get(0))
            .optional()?;
        if let Some(Some(due)) = due {
            lanes::note_due(db, key.destination, due)?;
        }
        taken += u64::from(due.is_some());
    }
    Ok(taken)
}

/// The statement of [`idle`].
pub(super) const IDLE: &str = "SELECT q.destination FROM queue q CROSS JOIN listener l ON l.no = q.destination
    WHERE l.disabled_at IS NOT NULL OR l.deleted <> 0 LIMIT 1000";

/// Disabled or deleted destinations in table `queue`. They enter it when an attempt that was in flight while the
/// destination was disabled ends.
pub(super) fn idle(db: &Connection) -> Result<Vec<DestinationNo>, StoreError> {
    let mut statement = db.prepare_cached(IDLE)?;
    let rows = statement.query_map([], |row| row.get(0).map(DestinationNo))?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// Removes destinations that a reader found idle from table `queue`, if they still are; otherwise each poll would read
/// them.
pub(super) fn unlist(db: &Connection, idle: &[DestinationNo]) -> Result<(), StoreError> {
    for destination in idle {
        db.prepare_cached(
            "DELETE FROM queue WHERE destination = ?1
             AND EXISTS (SELECT 1 FROM listener WHERE no = ?1 AND (disabled_at IS NOT NULL OR deleted <> 0))",
        )?
        .execute([destination.0])?;
    }
    Ok(())
}

/// The statements of [`cancel_orphans`].
pub(super) const ORPHANED: &str = "SELECT no FROM listener WHERE deleted = 1 LIMIT 1";
pub(super) const PENDING_OF: &str =
    "SELECT app, event, attempts FROM delivery WHERE destination = ?1 ORDER BY event LIMIT ?2";

/// Cancels a slice of the pending deliveries of deleted listeners.
pub(super) fn cancel_orphans(db: &Db, wall: Millis) -> Result<bool, StoreError> {
    let orphaned: Option<i64> = db.prepare_cached(ORPHANED)?.query_row([], |row| row.get(0)).optional()?;
    let Some(no) = orphaned else { return Ok(false) };
    let open: Vec<(String, i64, u32)> = {
        let mut statement = db.prepare_cached(PENDING_OF)?;
        let rows = statement.query_map(params![no, SLICE], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?;
        rows.collect::<Result<_, _>>()?
    };
    for (app, event, attempts) in &open {
        let key =
            DeliveryKey { app: AppId::from(app.as_str()), event: EventNo(*event), destination: DestinationNo(no) };
        db.prepare_cached("DELETE FROM delivery WHERE app = ?1 AND event = ?2 AND destination = ?3")?
            .execute(params![app, event, no])?;
        db.count_deliveries(-1);
        closed::close(db, &key, DeliveryState::Canceled, *attempts, wall, None)?;
    }
    if open.len() < SLICE {
        lanes::forget_due(db, DestinationNo(no))?;
        db.prepare_cached("DELETE FROM failing WHERE destination = ?1")?.execute([no])?;
        db.prepare_cached("UPDATE listener SET deleted = 2 WHERE no = ?1")?.execute([no])?;
    }
    Ok(true)
}

/// Opens the database at `path` to copy it: migrates the schema, and ends every lease.
pub(crate) fn open_for_copy(path: &Path, now: Millis) -> Result<(Connection, DatabaseFile), StoreError> {
    let file = DatabaseFile::take(path)?;
    // Without SQLITE_OPEN_CREATE: a missing database must not be created.
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let mut db = Connection::open_with_flags(path, flags)?;
    db.busy_timeout(LOCKED_FOR)?;
    migrate::migrate(&mut db)?;
    let db = Db::new(db);
    let recovery = db.unchecked_transaction()?;
    recover(&db, now)?;
    recovery.commit()?;
    Ok((db.into_inner(), file))
}
