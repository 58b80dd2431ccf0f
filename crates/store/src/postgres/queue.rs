//! Claims deliveries, and releases them.

use std::collections::BTreeMap;

use sqlx::{PgConnection, Row};
use tidings_model::clock::{Millis, millis};
use tidings_model::id::DestinationNo;

use super::closing::Closing;
use super::connect::{names, numbers, numeric, sql};
use super::lanes::{self, DueIndex};
use super::{catalogue, leased_batches, locks};
use crate::error::StoreError;
use crate::log::Lease;
use crate::nodes::{GONE_AFTER, KNOWN_AFTER};
use crate::queue::{Due, Leased, NodeRank, Skip, Wanted};
use crate::rows;
use crate::rules::lane::ClaimRoom;

/// The kinds of rows that the statement of [`due`] returns.
const DUE: i32 = 0;
const PAUSED: i32 = 1;
const NODES: i32 = 2;

/// Which destinations have work due, when the next one will have, which are paused, and the rank of this incarnation
/// among the nodes: all in one round trip, since every node asks every second.
pub(super) async fn due(
    db: &mut PgConnection,
    now: Millis,
    skip: &Skip,
    limit: usize,
    incarnation: i64,
) -> Result<Due, StoreError> {
    let rows = numeric(format!(
        "(SELECT {DUE}, q.destination, q.next_due FROM queue q JOIN listener l ON l.no = q.destination
         WHERE l.disabled_at IS NULL AND l.deleted = 0 AND q.destination <> ALL({}) AND l.app <> ALL({})
         ORDER BY q.next_due, q.destination LIMIT {limit})
         UNION ALL SELECT {PAUSED}, destination, until FROM paused WHERE until > {now}
         UNION ALL SELECT {NODES}, CASE WHEN bool_or(incarnation = {incarnation} AND clock_timestamp() - started_at < \
         {} * interval '1 ms')
             AND count(*) > 1 THEN count(*) ELSE count(*) FILTER (WHERE incarnation < {incarnation}) END,
             count(*) FILTER (WHERE incarnation <> {incarnation})
         FROM node WHERE abs(extract(epoch FROM clock_timestamp() - seen_at) * 1000) <= {}
         ORDER BY 1, 3, 2",
        numbers(skip.destinations.iter().map(|no| no.0)),
        names(&skip.apps),
        millis(KNOWN_AFTER),
        millis(GONE_AFTER)
    ))
    .fetch_all(db)
    .await?;
    let mut due = Due::default();
    for row in rows {
        let (kind, first, second): (i32, i64, i64) = (row.try_get(0)?, row.try_get(1)?, row.try_get(2)?);
        match kind {
            DUE if second <= now => due.destinations.push(DestinationNo(first)),
            DUE => due.next = due.next.or(Some(second)),
            PAUSED => due.paused.push((DestinationNo(first), second)),
            _ => due.rank = NodeRank { rank: first.unsigned_abs(), nodes: second.unsigned_abs() + 1 },
        }
    }
    Ok(due)
}

/// Leases due deliveries, and skips those that another node is claiming right now. `until` is the end of the lease in
/// the server's time.
pub(super) async fn claim(
    db: &mut PgConnection,
    wanted: &[Wanted],
    now: Millis,
    lease: Lease,
    until: Millis,
) -> Result<Vec<Leased>, StoreError> {
    let destinations = numbers(wanted.iter().map(|one| one.destination.0));
    let most = numbers(wanted.iter().map(|one| i64::try_from(one.most).unwrap_or(i64::MAX)));
    let token = lease.token.0;
    let found = numeric(format!(
        "WITH picked AS MATERIALIZED (
             SELECT d.app, d.event, d.destination, d.due, w.place
             FROM unnest({destinations}, {most}) WITH ORDINALITY AS w (destination, most, place)
             CROSS JOIN LATERAL (
                 SELECT app, event, destination, due FROM delivery
                 WHERE destination = w.destination AND due IS NOT NULL AND due <= {now}
                 ORDER BY due LIMIT w.most FOR UPDATE SKIP LOCKED
             ) d
         ), leased AS (
             UPDATE delivery d SET due = NULL, lease = {token}, lease_until = {until} FROM picked p
             WHERE d.app = p.app AND d.event = p.event AND d.destination = p.destination
             RETURNING d.app, d.event, d.destination, d.lane IS NOT NULL AS ordered, d.attempts, d.forgiven, p.place,
             p.due
         )
         SELECT app, event, destination, ordered, attempts, forgiven FROM leased ORDER BY place, due"
    ))
    .fetch_all(&mut *db)
    .await?;
    let out = found.iter().map(|row| rows::leased(row, lease)).collect::<Result<_, _>>()?;
    let mut due_index = DueIndex::default();
    wanted.iter().for_each(|one| due_index.refresh(one.destination));
    due_index.write(db).await?;
    Ok(out)
}

/// Whether a claim has to be completed by [`follow`].
pub(super) fn may_follow(wanted: &[Wanted], claimed: &[Leased]) -> bool {
    wanted.iter().any(|one| one.batch > 1) && claimed.iter().any(|leased| leased.ordered)
}

/// Leases those behind claimed heads of lanes that may go in the same request. It needs a transaction of its own: lanes
/// have to be locked before rows, but which lanes they are is known only after the rows are claimed.
pub(super) async fn follow(
    db: &mut PgConnection,
    wanted: &[Wanted],
    claimed: &[Leased],
    now: Millis,
    until: Millis,
) -> Result<Vec<Leased>, StoreError> {
    let ordered: Vec<&Leased> = claimed.iter().filter(|leased| leased.ordered).collect();
    let lanes = hold_lanes_of(db, &ordered).await?;
    let heads = |of: DestinationNo| claimed.iter().filter(|leased| leased.key.destination == of).count();
    let mut room: BTreeMap<DestinationNo, ClaimRoom> =
        wanted.iter().map(|one| (one.destination, ClaimRoom::after(one, heads(one.destination)))).collect();
    let mut out = Vec::with_capacity(claimed.len());
    for head in claimed {
        out.push(head.clone());
        let Some(lane) = lanes.get(&(head.key.event.0, head.key.destination.0)) else { continue };
        let Some(room) = room.get_mut(&head.key.destination) else { continue };
        let most = room.behind_head();
        if most > 0 {
            let behind = lanes::follow(db, head, lane, most, now, until).await?;
            room.take(behind.len());
            out.extend(behind);
        }
    }
    Ok(out)
}

/// Releases leased deliveries.
pub(super) async fn release(db: &mut PgConnection, batch: &[Leased], due: Millis) -> Result<(), StoreError> {
    locks::hold_catalogue(db).await?;
    let all: Vec<&Leased> = batch.iter().collect();
    let ordered: Vec<&Leased> = all.iter().copied().filter(|leased| leased.ordered && !leased.in_batch).collect();
    hold_lanes_of(db, &ordered).await?;
    let (mut closing, mut due_index, mut back) = (Closing::default(), DueIndex::default(), Vec::new());
    for (leased, taken) in batch.iter().zip(leased_batches::take_out(db, &all).await?) {
        let (key, attempts) = (leased.key.clone(), leased.attempts);
        if taken {
            back.push(leased_batches::Reopened { key, due, attempts, last_error: None });
        } else if !leased.in_batch {
            lanes::reschedule(db, &key, leased.lease.token, due, attempts, None, &mut due_index).await?;
        }
    }
    let existing = catalogue::existing(db, back.iter().map(|one| one.key.destination)).await?;
    leased_batches::reopen(db, back, &existing, due, &mut closing, &mut due_index).await?;
    closing.write(db).await?;
    due_index.write(db).await
}

/// Locks the lanes of ordered deliveries, and returns them. As [`locks::lanes`], at most once in a transaction.
pub(super) async fn hold_lanes_of(
    db: &mut PgConnection,
    ordered: &[&Leased],
) -> Result<BTreeMap<(i64, i64), String>, StoreError> {
    let lanes = lanes_of(db, ordered).await?;
    locks::lanes(db, locks::stripes(lanes.iter().map(|((_, no), lane)| (DestinationNo(*no), lane.as_str())))).await?;
    Ok(lanes)
}

/// The lanes of ordered deliveries, by event and destination. A delivery never changes its lane while it is open.
async fn lanes_of(db: &mut PgConnection, ordered: &[&Leased]) -> Result<BTreeMap<(i64, i64), String>, StoreError> {
    if ordered.is_empty() {
        return Ok(BTreeMap::new());
    }
    let rows = sql("SELECT d.event, d.destination, d.lane
         FROM unnest($1::text[], $2::bigint[], $3::bigint[]) AS w (app, event, destination)
         JOIN delivery d ON d.app = w.app AND d.event = w.event AND d.destination = w.destination
         WHERE d.lane IS NOT NULL")
    .bind(ordered.iter().map(|l| l.key.app.as_str().to_owned()).collect::<Vec<_>>())
    .bind(ordered.iter().map(|l| l.key.event.0).collect::<Vec<_>>())
    .bind(ordered.iter().map(|l| l.key.destination.0).collect::<Vec<_>>())
    .fetch_all(db)
    .await?;
    let read = |row: &sqlx::postgres::PgRow| Ok(((row.try_get(0)?, row.try_get(1)?), row.try_get(2)?));
    Ok(rows.iter().map(read).collect::<Result<_, sqlx::Error>>()?)
}

/// Failing destinations, and since when they have only failed.
pub(super) async fn failing(db: &mut PgConnection) -> Result<Vec<(DestinationNo, Millis)>, StoreError> {
    let found = sql("SELECT destination, since FROM failing ORDER BY destination").fetch_all(db).await?;
    found.iter().map(rows::failing).collect()
}

/// Which of these destinations are failing, and since when they have only failed.
pub(super) async fn failing_of(
    db: &mut PgConnection,
    destinations: &[DestinationNo],
) -> Result<Vec<(DestinationNo, Millis)>, StoreError> {
    let destinations: Vec<i64> = destinations.iter().map(|no| no.0).collect();
    let statement = "SELECT destination, since FROM failing WHERE destination = ANY($1) ORDER BY destination";
    let found = sql(statement).bind(destinations).fetch_all(db).await?;
    found.iter().map(rows::failing).collect()
}
