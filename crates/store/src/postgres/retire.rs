//! Retention, in slices: deletes events with their deliveries and attempts, idempotency keys, and tombstones.

use sqlx::{PgConnection, Row};
use tidings_model::clock::Millis;
use tidings_model::id::EventNo;

use super::connect::sql;
use super::{listing, locks};
use crate::error::StoreError;
use crate::queue::Retired;
use crate::records::REPLACED_MARGIN;

/// The most events that one slice reads, closed deliveries that it deletes, and keys that it deletes.
const SLICE: i64 = 500;

/// Deletes a slice of the events from `from` up to `until` that have no open work; with `excess`, only until about that
/// many bytes are deleted. Also returns where the next slice begins; `None` if there is none.
pub(super) async fn events(
    db: &mut PgConnection,
    from: EventNo,
    until: EventNo,
    excess: Option<u64>,
) -> Result<(Retired, Option<EventNo>), StoreError> {
    let mut retired = Retired::default();
    let old = sql("SELECT no FROM event WHERE no >= $1 AND no < $2 ORDER BY no LIMIT $3 FOR UPDATE")
        .bind(from.0)
        .bind(until.0)
        .bind(SLICE)
        .fetch_all(&mut *db)
        .await?;
    let old: Vec<i64> = old.iter().map(|row| row.try_get(0)).collect::<Result<_, _>>()?;
    let Some(&last) = old.last() else { return Ok((retired, None)) };
    // A transaction that reopens a delivery locks its event. So open work is checked in a statement after the one that
    // waited for that lock.
    let idle = sql("SELECT e.no, 400 + octet_length(e.data)::bigint + 300 * e.deliveries FROM event e
         WHERE e.no = ANY($1)
         AND NOT EXISTS (SELECT 1 FROM delivery d WHERE d.app = e.app AND d.event = e.no)
         AND NOT EXISTS (SELECT 1 FROM fanout f WHERE f.event = e.no)
         AND NOT EXISTS (SELECT 1 FROM lot t WHERE t.event = e.no)
         ORDER BY e.no")
    .bind(old.clone())
    .fetch_all(&mut *db)
    .await?;
    let mut left = excess.map_or(i64::MAX, |excess| i64::try_from(excess).unwrap_or(i64::MAX));
    let mut enough = None;
    let mut going = Vec::with_capacity(idle.len());
    for row in &idle {
        let no: i64 = row.try_get(0)?;
        if left <= 0 {
            enough = Some(EventNo(no));
            break;
        }
        going.push(no);
        left = left.saturating_sub(row.try_get(1)?);
    }
    let ended = sql("WITH picked AS MATERIALIZED (
             SELECT c.app, c.event, c.destination FROM event e JOIN closed c ON c.app = e.app AND c.event = e.no
             WHERE e.no = ANY($1) ORDER BY c.event LIMIT $2
         ), attempts AS (
             DELETE FROM attempt a USING picked p WHERE a.event = p.event AND a.destination = p.destination
         )
         DELETE FROM closed c USING picked p WHERE c.app = p.app AND c.event = p.event AND c.destination = p.destination
         RETURNING c.event")
    .bind(going.clone())
    .bind(SLICE)
    .fetch_all(&mut *db)
    .await?;
    let mut reached = i64::MAX;
    if ended.len() as i64 == SLICE {
        // The last event may have more closed deliveries.
        let events: Vec<i64> = ended.iter().map(|row| row.try_get(0)).collect::<Result<_, _>>()?;
        reached = events.into_iter().max().unwrap_or(i64::MAX);
    }
    let gone: Vec<i64> = going.into_iter().filter(|no| *no < reached).collect();
    gone.iter().for_each(|no| retired.count(EventNo(*no)));
    sql("WITH gone AS (DELETE FROM event WHERE no = ANY($1) RETURNING app, no, channels)
         DELETE FROM event_channel c USING gone g
         WHERE c.app = g.app AND c.no = g.no AND c.channel IN (SELECT json_array_elements_text(coalesce(g.channels,
         '[]')::json))")
    .bind(gone)
    .execute(db)
    .await?;
    if reached != i64::MAX {
        return Ok((retired, Some(EventNo(reached))));
    }
    Ok((retired, enough.or((old.len() as i64 == SLICE).then_some(EventNo(last + 1)))))
}

/// Deletes a slice of the oldest events while more bytes than `most` are used. One node at a time, or each would delete
/// the excess. Returns the same as [`events`].
pub(super) async fn above(
    db: &mut PgConnection,
    from: EventNo,
    most: u64,
) -> Result<(Retired, Option<EventNo>), StoreError> {
    locks::retention(db).await?;
    match listing::depth(db).await?.bytes.checked_sub(most) {
        None | Some(0) => Ok((Retired::default(), None)),
        Some(excess) => events(db, from, EventNo(i64::MAX), Some(excess)).await,
    }
}

/// Deletes a slice of the idempotency keys used before a time. Returns `true` if there may be more.
pub(super) async fn keys(db: &mut PgConnection, before: Millis) -> Result<bool, StoreError> {
    let gone = sql("DELETE FROM idempotency i USING (
             SELECT app, key FROM idempotency WHERE created_at < $1 ORDER BY created_at LIMIT $2 FOR UPDATE SKIP LOCKED
         ) o WHERE i.app = o.app AND i.key = o.key")
    .bind(before)
    .bind(SLICE)
    .execute(db)
    .await?;
    Ok(gone.rows_affected() as i64 == SLICE)
}

/// The statements of [`deleted`]. A hook's earlier fields are kept while an event that was matched with them is.
const DELETED: [&str; 4] = [
    "DELETE FROM listener WHERE no IN (SELECT no FROM listener WHERE deleted = 2 AND updated_at < $1 LIMIT $2)",
    "DELETE FROM hook WHERE deleted = 1 AND (app, name) IN (SELECT app, name FROM hook WHERE deleted = 1
     AND updated_at < $1 LIMIT $2)",
    "DELETE FROM app WHERE deleted = 1 AND id IN (SELECT id FROM app WHERE deleted = 1 AND updated_at < $1 LIMIT $2)",
    "DELETE FROM failing WHERE destination IN
        (SELECT f.destination FROM failing f LEFT JOIN listener l ON l.no = f.destination WHERE l.no IS NULL
        AND $1::bigint > 0 LIMIT $2)",
];

/// Removes a slice of the tombstones and replaced fields from before a time. Returns `true` if there may be more.
pub(super) async fn deleted(db: &mut PgConnection, before: Millis) -> Result<bool, StoreError> {
    let mut more = false;
    for text in DELETED {
        more |= sql(text).bind(before).bind(SLICE).execute(&mut *db).await?.rows_affected() as i64 == SLICE;
    }
    let fields = sql("DELETE FROM hook_fields WHERE (app, name, version) IN (SELECT f.app, f.name, f.version
         FROM hook_fields f
         WHERE f.replaced_at < $1 AND NOT EXISTS (SELECT 1 FROM event e
             WHERE e.app = f.app AND e.name = f.name AND e.no < (f.replaced_at + $3) << $4
             AND e.hook_version = f.version) LIMIT $2)")
    .bind(before)
    .bind(SLICE)
    .bind(REPLACED_MARGIN)
    .bind(EventNo::COUNTER_BITS as i32)
    .execute(db)
    .await?;
    Ok(more || fields.rows_affected() as i64 == SLICE)
}

/// Sums up the rows of `tally` whose server processes have ended. Rows that another transaction has locked are left for
/// the next time.
pub(super) async fn sum_up(db: &mut PgConnection) -> Result<(), StoreError> {
    sql("WITH old AS MATERIALIZED (
             SELECT t.backend FROM tally t WHERE t.backend <> 0
             AND NOT EXISTS (SELECT 1 FROM pg_stat_activity a WHERE a.pid = t.backend)
             FOR UPDATE OF t SKIP LOCKED
         ), gone AS (
             DELETE FROM tally t USING old o WHERE t.backend = o.backend
             RETURNING t.deliveries, t.fanouts, t.undelivered, t.bytes
         )
         INSERT INTO tally AS t
         SELECT 0, sum(deliveries), sum(fanouts), sum(undelivered), sum(bytes) FROM gone HAVING count(*) > 0
         ON CONFLICT (backend) DO UPDATE SET deliveries = t.deliveries + excluded.deliveries,
         fanouts = t.fanouts + excluded.fanouts,
             undelivered = t.undelivered + excluded.undelivered, bytes = t.bytes + excluded.bytes")
    .execute(db)
    .await?;
    Ok(())
}
