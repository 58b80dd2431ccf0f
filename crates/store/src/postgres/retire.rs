//! Retention: forgetting events with what came of them, and idempotency keys, in slices.

use sqlx::{PgConnection, Row};
use tidings_model::clock::Millis;
use tidings_model::id::EventNo;

use super::connect::sql;
use crate::error::StoreError;

/// How many events one slice looks at, how many ended deliveries it deletes, and how many keys it forgets, at most.
const SLICE: i64 = 500;

/// Deletes a slice of the events from `from` on that are older than `before` and have no open work. Answers where the next
/// slice begins; `None` when there is none.
pub(super) async fn events(
    db: &mut PgConnection,
    from: EventNo,
    before: Millis,
) -> Result<Option<EventNo>, StoreError> {
    let old = sql("SELECT no FROM event WHERE no >= $1 AND no < $2 ORDER BY no LIMIT $3 FOR UPDATE")
        .bind(from.0)
        .bind(EventNo::first_of(before).0)
        .bind(SLICE)
        .fetch_all(&mut *db)
        .await?;
    let old: Vec<i64> = old.iter().map(|row| row.try_get(0)).collect::<Result<_, _>>()?;
    let Some(&last) = old.last() else { return Ok(None) };
    // Whoever opens what has ended again holds the event, so it is looked at in a statement after the one that waited for that.
    let idle = sql("SELECT e.no FROM event e WHERE e.no = ANY($1)
         AND NOT EXISTS (SELECT 1 FROM delivery d WHERE d.app = e.app AND d.event = e.no)
         AND NOT EXISTS (SELECT 1 FROM fanout f WHERE f.event = e.no) AND NOT EXISTS (SELECT 1 FROM lot t WHERE t.event = e.no)
         ORDER BY e.no")
    .bind(old.clone())
    .fetch_all(&mut *db)
    .await?;
    let idle: Vec<i64> = idle.iter().map(|row| row.try_get(0)).collect::<Result<_, _>>()?;
    let ended = sql("WITH picked AS MATERIALIZED (
             SELECT c.app, c.event, c.destination FROM event e JOIN closed c ON c.app = e.app AND c.event = e.no
             WHERE e.no = ANY($1) ORDER BY c.event LIMIT $2
         ), attempts AS (
             DELETE FROM attempt a USING picked p WHERE a.event = p.event AND a.destination = p.destination
         )
         DELETE FROM closed c USING picked p WHERE c.app = p.app AND c.event = p.event AND c.destination = p.destination
         RETURNING c.event")
    .bind(idle.clone())
    .bind(SLICE)
    .fetch_all(&mut *db)
    .await?;
    let mut reached = i64::MAX;
    if ended.len() as i64 == SLICE {
        // There may be more of the last one's.
        let events: Vec<i64> = ended.iter().map(|row| row.try_get(0)).collect::<Result<_, _>>()?;
        reached = events.into_iter().max().unwrap_or(i64::MAX);
    }
    let gone: Vec<i64> = idle.into_iter().filter(|no| *no < reached).collect();
    sql("WITH gone AS (DELETE FROM event WHERE no = ANY($1) RETURNING app, no, channels)
         DELETE FROM event_channel c USING gone g
         WHERE c.app = g.app AND c.no = g.no AND c.channel IN (SELECT json_array_elements_text(coalesce(g.channels, '[]')::json))")
    .bind(gone)
    .execute(db)
    .await?;
    if reached != i64::MAX {
        return Ok(Some(EventNo(reached)));
    }
    Ok((old.len() as i64 == SLICE).then_some(EventNo(last + 1)))
}

/// Forgets a slice of the keys used before a time; `true` when there may be more.
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
