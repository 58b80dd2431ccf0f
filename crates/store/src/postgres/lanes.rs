//! Places open deliveries: leased, scheduled, or waiting behind an older one of their lane.
//!
//! Two invariants hold after every transaction. Of a lane, only one open delivery is scheduled or leased: the oldest at
//! the time when the lane advanced; or it and those right behind it are leased, to go in one request. And an enabled
//! destination with a scheduled delivery has a `queue` row whose `next_due` is not later than the first of them. A
//! transaction that puts deliveries into a lane, removes its head, or releases leased deliveries holds the lane's lock.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use sqlx::{PgConnection, Row};
use tidings_model::clock::Millis;
use tidings_model::id::{DeliveryKey, DestinationNo, EventNo};

use super::connect::{numbers, numeric, sql};
use crate::error::StoreError;
use crate::log::LeaseToken;
use crate::queue::Leased;
use crate::rows;
use crate::rules::lane::{self, Advance, AdvanceTerms, InLane};
use crate::rules::placement::{NewDelivery, Placement};

/// The changes that a transaction makes to table `queue`, the list of destinations with work. They are written at the
/// transaction's end, in one order, so that transactions do not deadlock on its rows.
#[derive(Debug, Default)]
pub(super) struct DueIndex {
    noted: BTreeMap<i64, Millis>,
    refreshed: BTreeSet<i64>,
    forgotten: BTreeSet<i64>,
}

impl DueIndex {
    /// Records that a delivery to a destination is due at `due`.
    pub(super) fn note(&mut self, destination: DestinationNo, due: Millis) {
        let first = self.noted.entry(destination.0).or_insert(due);
        *first = due.min(*first);
    }

    /// Recomputes a destination's row, because its scheduled deliveries have changed.
    pub(super) fn refresh(&mut self, destination: DestinationNo) {
        self.refreshed.insert(destination.0);
    }

    /// Removes a destination's row: its scheduled deliveries are not claimed until it is refreshed.
    pub(super) fn forget(&mut self, destination: DestinationNo) {
        self.forgotten.insert(destination.0);
    }

    /// Writes the changes.
    pub(super) async fn write(mut self, db: &mut PgConnection) -> Result<(), StoreError> {
        // The insert also locks the rows that are recomputed or removed. Otherwise a time that another transaction
        // records meanwhile would be lost.
        for &destination in self.refreshed.iter().chain(&self.forgotten) {
            self.noted.entry(destination).or_insert(i64::MAX);
        }
        if self.noted.is_empty() {
            return Ok(());
        }
        let (destinations, due_index): (Vec<i64>, Vec<i64>) = self.noted.into_iter().unzip();
        let mut all = vec![format!(
            "INSERT INTO queue (destination, next_due) SELECT * FROM unnest({}, {})
             ON CONFLICT (destination) DO UPDATE SET next_due = excluded.next_due
             WHERE excluded.next_due < queue.next_due",
            numbers(destinations),
            numbers(due_index)
        )];
        if !self.refreshed.is_empty() {
            let refreshed = numbers(self.refreshed);
            all.push(format!(
                "DELETE FROM queue q WHERE destination = ANY({refreshed})
                 AND NOT EXISTS (SELECT 1 FROM delivery d WHERE d.destination = q.destination AND d.due IS NOT NULL)"
            ));
            all.push(format!(
                "UPDATE queue q SET next_due = (SELECT MIN(due) FROM delivery d WHERE d.destination = q.destination
                 AND d.due IS NOT NULL)
                 WHERE destination = ANY({refreshed})"
            ));
        }
        if !self.forgotten.is_empty() {
            all.push(format!("DELETE FROM queue WHERE destination = ANY({})", numbers(self.forgotten)));
        }
        numeric(all.join("; ")).execute(db).await?;
        Ok(())
    }
}

/// Writes deliveries, in this order. Returns the placement of each; one that was written before is left as it is. The
/// caller has locked the lanes.
pub(super) async fn insert(
    db: &mut PgConnection,
    new: &[NewDelivery<'_>],
    due_index: &mut DueIndex,
) -> Result<Vec<Placement>, StoreError> {
    if new.is_empty() {
        return Ok(Vec::new());
    }
    let mut occupied = occupied(db, new).await?;
    // Deliveries before it in the list may be of the same lane.
    let mut is_behind =
        |one: &NewDelivery<'_>| one.lane.is_some_and(|lane| !occupied.insert((one.destination.0, lane.to_owned())));
    let mut placements: Vec<Placement> = new.iter().map(|one| one.place(is_behind(one))).collect();
    let leases = || placements.iter().map(|placement| placement.lease());
    let written =
        sql("INSERT INTO delivery (app, event, destination, lane, attempts, forgiven, due, not_before, lease,
         lease_until)
         SELECT app, event, destination, lane, 0, 0, due, not_before, lease, lease_until
         FROM unnest($1::text[], $2::bigint[], $3::bigint[], $4::text[], $5::bigint[], $6::bigint[], $7::bigint[],
         $8::bigint[])
         AS o (app, event, destination, lane, due, not_before, lease, lease_until)
         ON CONFLICT DO NOTHING RETURNING event, destination")
        .bind(new.iter().map(|o| o.app.as_str().to_owned()).collect::<Vec<_>>())
        .bind(new.iter().map(|o| o.event.0).collect::<Vec<_>>())
        .bind(new.iter().map(|o| o.destination.0).collect::<Vec<_>>())
        .bind(new.iter().map(|o| o.lane.map(str::to_owned)).collect::<Vec<_>>())
        .bind(placements.iter().map(|placement| placement.due()).collect::<Vec<_>>())
        .bind(new.iter().map(|o| o.not_before).collect::<Vec<_>>())
        .bind(leases().map(|lease| lease.map(|l| l.token.0)).collect::<Vec<_>>())
        .bind(leases().map(|lease| lease.map(|l| l.until)).collect::<Vec<_>>())
        .fetch_all(db)
        .await?;
    let written: HashSet<(i64, i64)> =
        written.iter().map(|row| Ok((row.try_get(0)?, row.try_get(1)?))).collect::<Result<_, sqlx::Error>>()?;
    for (one, placement) in new.iter().zip(&mut placements) {
        if !written.contains(&(one.event.0, one.destination.0)) {
            *placement = Placement::Waiting;
        } else if let Some(due) = placement.due() {
            due_index.note(one.destination, due);
        }
    }
    Ok(placements)
}

/// The lanes of these deliveries that have open deliveries already.
async fn occupied(db: &mut PgConnection, new: &[NewDelivery<'_>]) -> Result<HashSet<(i64, String)>, StoreError> {
    let lanes: BTreeSet<(i64, &str)> = new.iter().filter_map(|o| Some((o.destination.0, o.lane?))).collect();
    if lanes.is_empty() {
        return Ok(HashSet::new());
    }
    let (destinations, names): (Vec<i64>, Vec<String>) =
        lanes.into_iter().map(|(no, name)| (no, name.to_owned())).unzip();
    let rows = sql("SELECT destination, lane FROM unnest($1::bigint[], $2::text[]) AS w (destination, lane)
         WHERE EXISTS (SELECT 1 FROM delivery d WHERE d.destination = w.destination AND d.lane = w.lane)")
    .bind(destinations)
    .bind(names)
    .fetch_all(db)
    .await?;
    Ok(rows.iter().map(|row| Ok((row.try_get(0)?, row.try_get(1)?))).collect::<Result<_, sqlx::Error>>()?)
}

/// Advances a lane after its head has ended: leases or schedules the next. `until` is the end of the lease in the
/// server's time, as all times of `terms` are. The caller has locked the lane.
pub(super) async fn advance(
    db: &mut PgConnection,
    destination: DestinationNo,
    lane: &str,
    terms: &AdvanceTerms,
    until: Millis,
    due_index: &mut DueIndex,
) -> Result<Advance, StoreError> {
    let mut open = behind(db, destination, lane, EventNo(i64::MIN), 1).await?;
    let more = terms.behind_oldest(open.first());
    if let Some(oldest) = open.first().filter(|_| more > 0) {
        let after = oldest.key.event;
        open.append(&mut behind(db, destination, lane, after, more).await?);
    }
    let advance = lane::advance(&open, terms);
    match &advance {
        Advance::Nothing => {}
        Advance::Lease(next) => lease_all(db, next, until).await?,
        Advance::Schedule(key, due) => {
            sql("UPDATE delivery SET due = $4 WHERE app = $1 AND event = $2 AND destination = $3")
                .bind(key.app.as_str().to_owned())
                .bind(key.event.0)
                .bind(destination.0)
                .bind(*due)
                .execute(db)
                .await?;
            due_index.note(destination, *due);
        }
    }
    Ok(advance)
}

/// Leases those right behind the head of a lane that may go in the same request, if the head still has its lease. The
/// caller has locked the lane.
pub(super) async fn follow(
    db: &mut PgConnection,
    head: &Leased,
    lane: &str,
    most: usize,
    now: Millis,
    until: Millis,
) -> Result<Vec<Leased>, StoreError> {
    let held = sql("SELECT 1 FROM delivery WHERE app = $1 AND event = $2 AND destination = $3 AND lease = $4")
        .bind(head.key.app.as_str().to_owned())
        .bind(head.key.event.0)
        .bind(head.key.destination.0)
        .bind(head.lease.token.0)
        .fetch_optional(&mut *db)
        .await?;
    if held.is_none() {
        return Ok(Vec::new());
    }
    let behind = behind(db, head.key.destination, lane, head.key.event, most).await?;
    let next = lane::follow(&behind, now, head.lease);
    lease_all(db, &next, until).await?;
    Ok(next)
}

/// Leases deliveries of one lane.
async fn lease_all(db: &mut PgConnection, all: &[Leased], until: Millis) -> Result<(), StoreError> {
    let Some(first) = all.first() else { return Ok(()) };
    sql("UPDATE delivery SET due = NULL, lease = $4, lease_until = $5 WHERE app = $1 AND event = ANY($2)
         AND destination = $3")
    .bind(first.key.app.as_str().to_owned())
    .bind(all.iter().map(|leased| leased.key.event.0).collect::<Vec<_>>())
    .bind(first.key.destination.0)
    .bind(first.lease.token.0)
    .bind(until)
    .execute(db)
    .await?;
    Ok(())
}

/// The open deliveries of a lane after an event, the oldest first.
async fn behind(
    db: &mut PgConnection,
    destination: DestinationNo,
    lane: &str,
    after: EventNo,
    most: usize,
) -> Result<Vec<InLane>, StoreError> {
    let found = sql("SELECT app, event, destination, attempts, forgiven, not_before, due IS NULL
         AND lease IS NULL AS waits FROM delivery
         WHERE destination = $1 AND lane = $2 AND event > $3 ORDER BY event LIMIT $4")
    .bind(destination.0)
    .bind(lane.to_owned())
    .bind(after.0)
    .bind(i64::try_from(most).unwrap_or(i64::MAX))
    .fetch_all(db)
    .await?;
    found.iter().map(rows::in_lane).collect()
}

/// Ends a delivery's lease: it is scheduled again, or waits if an older one of its lane is open (several of a lane may
/// be leased to go in one request). Returns `false` if the lease was lost. The caller has locked the lane.
pub(super) async fn reschedule(
    db: &mut PgConnection,
    key: &DeliveryKey,
    lease: LeaseToken,
    due: Millis,
    attempts: u32,
    last_error: Option<String>,
    due_index: &mut DueIndex,
) -> Result<bool, StoreError> {
    let row = sql(
        "UPDATE delivery d SET lease = NULL, lease_until = NULL, attempts = $6, last_error = coalesce($7, last_error),
             due = CASE WHEN lane IS NOT NULL AND EXISTS (SELECT 1 FROM delivery o WHERE o.destination = d.destination
                 AND o.lane = d.lane AND o.event < d.event) THEN NULL ELSE $5 END
         WHERE app = $1 AND event = $2 AND destination = $3 AND lease = $4 RETURNING due",
    )
    .bind(key.app.as_str().to_owned())
    .bind(key.event.0)
    .bind(key.destination.0)
    .bind(lease.0)
    .bind(due)
    .bind(i64::from(attempts))
    .bind(last_error)
    .fetch_optional(db)
    .await?;
    let Some(row) = row else { return Ok(false) };
    if let Some(due) = row.try_get(0)? {
        due_index.note(key.destination, due);
    }
    Ok(true)
}
