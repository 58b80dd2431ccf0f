//! Repairs what a crash, a clock that was set back, or a deletion has left behind.

use sqlx::postgres::PgRow;
use sqlx::{PgConnection, Row};
use tidings_model::clock::Millis;
use tidings_model::delivery::DeliveryState;
use tidings_model::id::{AppId, DeliveryKey, DestinationNo, EventNo};

use super::closing::Closing;
use super::connect::sql;
use super::lanes::DueIndex;
use super::{catalogue, locks, meta};
use crate::error::StoreError;
use crate::rows::Row as _;
use crate::rules::clock;

/// The most deliveries that one transaction cancels.
pub(super) const SLICE: usize = 500;
/// How many earlier incarnations of a node are considered: leases of those before have long expired.
const EARLIER: i64 = 1_000;

/// The next incarnation of a node. It is part of every lease token of the node.
pub(super) async fn incarnate(db: &mut PgConnection, node: &str) -> Result<i64, StoreError> {
    let row = sql("INSERT INTO incarnation (node) VALUES ($1) RETURNING no").bind(node.to_owned());
    Ok(row.fetch_one(db).await?.try_get(0)?)
}

/// The earlier incarnations of a node. Their leases are void: the node has started again, so they have ended.
pub(super) async fn earlier(db: &mut PgConnection, node: &str, incarnation: i64) -> Result<Vec<i64>, StoreError> {
    let rows = sql("SELECT no FROM incarnation WHERE node = $1 AND no < $2 ORDER BY no DESC LIMIT $3")
        .bind(node.to_owned())
        .bind(incarnation)
        .bind(EARLIER)
        .fetch_all(db)
        .await?;
    Ok(rows.iter().map(|row| row.try_get(0)).collect::<Result<_, _>>()?)
}

/// Shifts due times and leases if the server's clock was set back. All nodes share that clock, so one node does it for
/// all.
pub(super) async fn adjust_to_clock(db: &mut PgConnection, now: Millis) -> Result<(), StoreError> {
    let before = clock_before(db).await?;
    meta::set(db, "clock", now).await?;
    let Some(ahead) = clock::set_back(before, now) else { return Ok(()) };
    tracing::warn!(ahead_ms = ahead, "the database server's clock was set back; due times are moved back by as much");
    sql("UPDATE delivery SET due = due - $1, not_before = not_before - $1, lease_until = lease_until - $1")
        .bind(ahead)
        .execute(&mut *db)
        .await?;
    sql("UPDATE lot SET lease_until = lease_until - $1").bind(ahead).execute(&mut *db).await?;
    sql("UPDATE fanout SET not_before = not_before - $1").bind(ahead).execute(&mut *db).await?;
    sql("UPDATE queue SET next_due = next_due - $1").bind(ahead).execute(db).await?;
    Ok(())
}

/// The latest reading of the clock that the database has, since the start before this one. It locks the row `clock`, so
/// that nodes that start at once adjust one after the other.
async fn clock_before(db: &mut PgConnection) -> Result<Millis, StoreError> {
    let row = sql("SELECT value FROM meta WHERE name = 'clock' FOR UPDATE").fetch_one(&mut *db).await?;
    let clock: Millis = row.try_get(0)?;
    let newest = sql("SELECT no, received_at FROM event ORDER BY no DESC LIMIT 1").fetch_optional(&mut *db).await?;
    let Some(newest) = newest else { return Ok(clock) };
    let newest = (EventNo(newest.try_get(0)?), newest.try_get(1)?);
    let known = meta::get(db, "clock_event").await?;
    meta::set(db, "clock_event", newest.0.0).await?;
    Ok(clock::latest_reading(clock, EventNo(known), newest))
}

/// Ends the leases of these incarnations on deliveries with open rows.
pub(super) async fn end_leases_of(db: &mut PgConnection, incarnations: &[i64], now: Millis) -> Result<u64, StoreError> {
    let lanes = sql("SELECT DISTINCT destination, lane FROM delivery
         WHERE lease IS NOT NULL AND lease >> 40 = ANY($1) AND lane IS NOT NULL")
    .bind(incarnations.to_vec())
    .fetch_all(&mut *db)
    .await?;
    hold_lanes(db, &lanes).await?;
    let rows = sql("UPDATE delivery d SET lease = NULL, lease_until = NULL,
             due = CASE WHEN lane IS NOT NULL AND EXISTS (SELECT 1 FROM delivery o WHERE o.destination = d.destination
                 AND o.lane = d.lane AND o.event < d.event) THEN NULL ELSE $2 END
         WHERE lease IS NOT NULL AND lease >> 40 = ANY($1) RETURNING destination, due")
    .bind(incarnations.to_vec())
    .bind(now)
    .fetch_all(&mut *db)
    .await?;
    note_due(db, &rows).await?;
    sql("DELETE FROM written WHERE incarnation = ANY($1)").bind(incarnations.to_vec()).execute(db).await?;
    Ok(rows.len() as u64)
}

/// Ends a slice of the expired leases of any node.
pub(super) async fn end_expired(db: &mut PgConnection, now: Millis, slice: usize) -> Result<u64, StoreError> {
    let lanes = sql("SELECT DISTINCT destination, lane FROM (
             SELECT destination, lane FROM delivery WHERE lease IS NOT NULL AND lease_until < $1 ORDER BY lease_until
             LIMIT $2
         ) AS run_out WHERE lane IS NOT NULL")
    .bind(now)
    .bind(slice as i64)
    .fetch_all(&mut *db)
    .await?;
    hold_lanes(db, &lanes).await?;
    let rows = sql("WITH picked AS MATERIALIZED (
             SELECT app, event, destination FROM delivery WHERE lease IS NOT NULL AND lease_until < $1
             ORDER BY lease_until LIMIT $2 FOR UPDATE SKIP LOCKED
         )
         UPDATE delivery d SET lease = NULL, lease_until = NULL,
             due = CASE WHEN lane IS NOT NULL AND EXISTS (SELECT 1 FROM delivery o WHERE o.destination = d.destination
                 AND o.lane = d.lane AND o.event < d.event) THEN NULL ELSE $1 END
         FROM picked p WHERE d.app = p.app AND d.event = p.event AND d.destination = p.destination
         RETURNING d.destination, d.due")
    .bind(now)
    .bind(slice as i64)
    .fetch_all(&mut *db)
    .await?;
    note_due(db, &rows).await?;
    Ok(rows.len() as u64)
}

/// Locks the lanes in these rows of (destination, lane).
async fn hold_lanes(db: &mut PgConnection, rows: &[PgRow]) -> Result<(), StoreError> {
    let lanes: Vec<(i64, String)> =
        rows.iter().map(|row| Ok((row.try_get(0)?, row.try_get(1)?))).collect::<Result<_, sqlx::Error>>()?;
    locks::lanes(db, locks::stripes(lanes.iter().map(|(no, lane)| (DestinationNo(*no), lane.as_str())))).await
}

/// Updates table `queue` from rows of (destination, due). Deliveries without a time wait in their lanes.
async fn note_due(db: &mut PgConnection, rows: &[PgRow]) -> Result<(), StoreError> {
    let mut due_index = DueIndex::default();
    for row in rows {
        if let Some(due) = row.try_get(1)? {
            due_index.note(DestinationNo(row.try_get(0)?), due);
        }
    }
    due_index.write(db).await
}

/// Removes disabled and deleted destinations from table `queue`, or each poll would read them. They enter it when an
/// attempt that was in flight while the destination was disabled ends.
pub(super) async fn unlist_idle(db: &mut PgConnection) -> Result<(), StoreError> {
    let idle = sql("SELECT q.destination FROM queue q JOIN listener l ON l.no = q.destination
         WHERE l.disabled_at IS NOT NULL OR l.deleted <> 0 ORDER BY q.destination LIMIT 1000")
    .fetch_all(&mut *db)
    .await?;
    if idle.is_empty() {
        return Ok(());
    }
    // So that none of them is enabled meanwhile: its row would be deleted.
    locks::hold_catalogue(db).await?;
    let idle: Vec<i64> = idle.iter().map(|row| row.try_get(0)).collect::<Result<_, _>>()?;
    sql("DELETE FROM queue q USING listener l WHERE q.destination = ANY($1) AND l.no = q.destination
         AND (l.disabled_at IS NOT NULL OR l.deleted <> 0)")
    .bind(idle)
    .execute(db)
    .await?;
    Ok(())
}

/// Cancels a slice of the pending deliveries of deleted listeners.
pub(super) async fn cancel_orphans(db: &mut PgConnection, wall: Millis) -> Result<bool, StoreError> {
    let orphaned = sql("SELECT no FROM listener WHERE deleted = 1 ORDER BY no LIMIT 1 FOR UPDATE SKIP LOCKED")
        .fetch_optional(&mut *db)
        .await?;
    let Some(orphaned) = orphaned else { return Ok(false) };
    let no = DestinationNo(orphaned.try_get(0)?);
    let open = sql("WITH picked AS MATERIALIZED (
             SELECT app, event, destination FROM delivery WHERE destination = $1 ORDER BY event LIMIT $2 FOR UPDATE
         )
         DELETE FROM delivery d USING picked p WHERE d.app = p.app AND d.event = p.event
         AND d.destination = p.destination
         RETURNING d.app, d.event, d.attempts")
    .bind(no.0)
    .bind(SLICE as i64)
    .fetch_all(&mut *db)
    .await?;
    let mut closing = Closing::default();
    for row in &open {
        let app = AppId::from(row.try_get::<String, _>(0)?);
        let key = DeliveryKey { app, event: EventNo(row.try_get(1)?), destination: no };
        closing.close(&key, DeliveryState::Canceled, row.count("attempts")?, wall, None);
    }
    closing.write(db).await?;
    if open.len() < SLICE {
        catalogue::clear_failures(db, no).await?;
        sql("UPDATE listener SET deleted = 2 WHERE no = $1").bind(no.0).execute(&mut *db).await?;
        let mut due_index = DueIndex::default();
        due_index.forget(no);
        due_index.write(db).await?;
    }
    Ok(true)
}
