//! Leased batches (table `lot`): the fresh deliveries of an event that are in no lane, leased together to the node that
//! published it.
//!
//! When an attempt ends, its delivery leaves the batch: it becomes a closed row or, if it has to be attempted again, an
//! open row of its own. When the batch's lease expires or becomes void, each of its deliveries gets an open row.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use sqlx::{PgConnection, Row};
use tidings_model::clock::Millis;
use tidings_model::delivery::DeliveryState;
use tidings_model::id::{AppId, DeliveryKey, DestinationNo, EventNo};

use super::catalogue;
use super::closing::Closing;
use super::connect::sql;
use super::lanes::DueIndex;
use crate::destinations::{decode_batch, encode_batch};
use crate::error::StoreError;
use crate::log::Lease;
use crate::queue::{DeliveryFilter, DeliveryRow, Leased};
use crate::rules::listing::BatchPage;

/// How many leased batches one transaction dissolves: few have more than a handful of deliveries.
const SLICE: i64 = 64;

/// Writes leased batches, each in ascending order of its destinations.
pub(super) async fn insert(
    db: &mut PgConnection,
    batches: &[(EventNo, Lease, Vec<DestinationNo>)],
) -> Result<(), StoreError> {
    if batches.is_empty() {
        return Ok(());
    }
    sql("INSERT INTO lot (event, lease, lease_until, destinations)
         SELECT * FROM unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::bytea[])")
    .bind(batches.iter().map(|(event, ..)| event.0).collect::<Vec<_>>())
    .bind(batches.iter().map(|(_, lease, _)| lease.token.0).collect::<Vec<_>>())
    .bind(batches.iter().map(|(_, lease, _)| lease.until).collect::<Vec<_>>())
    .bind(batches.iter().map(|(.., set)| encode_batch(set)).collect::<Vec<_>>())
    .execute(db)
    .await?;
    Ok(())
}

/// Takes deliveries out of their leased batches, if the batch still has the delivery's lease. Returns, in their order,
/// which were taken out; those that are in no leased batch never are.
pub(super) async fn take_out(db: &mut PgConnection, batch: &[&Leased]) -> Result<Vec<bool>, StoreError> {
    let mut taken = vec![false; batch.len()];
    let wanted: BTreeSet<(i64, i64)> =
        batch.iter().filter(|l| l.in_batch).map(|l| (l.key.event.0, l.lease.token.0)).collect();
    if wanted.is_empty() {
        return Ok(taken);
    }
    let (events, leases): (Vec<i64>, Vec<i64>) = wanted.into_iter().unzip();
    let rows =
        sql("SELECT t.event, t.lease, t.destinations FROM unnest($1::bigint[], $2::bigint[]) AS w (event, lease)
         JOIN lot t ON t.event = w.event AND t.lease = w.lease ORDER BY t.event FOR UPDATE OF t")
        .bind(events)
        .bind(leases)
        .fetch_all(&mut *db)
        .await?;
    let mut batches: BTreeMap<(i64, i64), (Vec<DestinationNo>, bool)> = BTreeMap::new();
    for row in rows {
        let left = decode_batch(row.try_get(2)?)?;
        batches.insert((row.try_get(0)?, row.try_get(1)?), (left, false));
    }
    for (leased, taken) in batch.iter().zip(&mut taken).filter(|(leased, _)| leased.in_batch) {
        let held = batches.get_mut(&(leased.key.event.0, leased.lease.token.0));
        if let Some((left, changed)) = held
            && let Ok(at) = left.binary_search(&leased.key.destination)
        {
            left.remove(at);
            (*taken, *changed) = (true, true);
        }
    }
    let changed = batches.into_iter().filter(|(_, (_, changed))| *changed).map(|((event, _), (left, _))| (event, left));
    let (ended, others): (Vec<_>, Vec<_>) = changed.partition(|(_, left)| left.is_empty());
    if !ended.is_empty() {
        let events: Vec<i64> = ended.into_iter().map(|(event, _)| event).collect();
        sql("DELETE FROM lot WHERE event = ANY($1)").bind(events).execute(&mut *db).await?;
    }
    if !others.is_empty() {
        sql("UPDATE lot t SET destinations = n.destinations
             FROM unnest($1::bigint[], $2::bytea[]) AS n (event, destinations)
             WHERE t.event = n.event")
        .bind(others.iter().map(|(event, _)| *event).collect::<Vec<_>>())
        .bind(others.iter().map(|(_, left)| encode_batch(left)).collect::<Vec<_>>())
        .execute(db)
        .await?;
    }
    Ok(taken)
}

/// A delivery that was taken out of its leased batch, and is attempted again.
pub(super) struct Reopened {
    pub(super) key: DeliveryKey,
    pub(super) due: Millis,
    pub(super) attempts: u32,
    pub(super) last_error: Option<String>,
}

/// Gives deliveries that were taken out of their leased batches open rows. Those whose destination is not in `existing`
/// are canceled instead. The caller holds the lock of the catalogue.
pub(super) async fn reopen(
    db: &mut PgConnection,
    all: Vec<Reopened>,
    existing: &HashSet<i64>,
    wall: Millis,
    closing: &mut Closing,
    due_index: &mut DueIndex,
) -> Result<(), StoreError> {
    let (open, gone): (Vec<_>, Vec<_>) = all.into_iter().partition(|one| existing.contains(&one.key.destination.0));
    for one in gone {
        closing.close(&one.key, DeliveryState::Canceled, one.attempts, wall, one.last_error.as_deref());
    }
    if open.is_empty() {
        return Ok(());
    }
    for one in &open {
        due_index.note(one.key.destination, one.due);
    }
    sql("INSERT INTO delivery (app, event, destination, attempts, forgiven, due, last_error)
         SELECT app, event, destination, attempts, 0, due, last_error
         FROM unnest($1::text[], $2::bigint[], $3::bigint[], $4::bigint[], $5::bigint[], $6::text[])
         AS o (app, event, destination, attempts, due, last_error)")
    .bind(open.iter().map(|o| o.key.app.as_str().to_owned()).collect::<Vec<_>>())
    .bind(open.iter().map(|o| o.key.event.0).collect::<Vec<_>>())
    .bind(open.iter().map(|o| o.key.destination.0).collect::<Vec<_>>())
    .bind(open.iter().map(|o| i64::from(o.attempts)).collect::<Vec<_>>())
    .bind(open.iter().map(|o| o.due).collect::<Vec<_>>())
    .bind(open.into_iter().map(|o| o.last_error).collect::<Vec<_>>())
    .execute(db)
    .await?;
    Ok(())
}

/// Which leased batches to dissolve.
pub(super) enum Which<'a> {
    /// Those whose lease expired before this time of the server.
    Expired(Millis),
    /// Those leased by these incarnations.
    LeasedBy(&'a [i64]),
}

/// Dissolves a slice of such leased batches: gives each of their deliveries an open row, due now. Returns how many
/// deliveries there were, and whether there may be more batches.
pub(super) async fn dissolve(db: &mut PgConnection, which: Which<'_>, now: Millis) -> Result<(u64, bool), StoreError> {
    super::locks::hold_catalogue(db).await?;
    // SKIP LOCKED: another node may be doing the same, or recording results of some.
    let found = match which {
        Which::Expired(time) => sql("SELECT t.event, e.app, t.destinations FROM lot t JOIN event e ON e.no = t.event
             WHERE t.lease_until < $1 ORDER BY t.event LIMIT $2 FOR UPDATE OF t SKIP LOCKED")
        .bind(time)
        .bind(SLICE),
        Which::LeasedBy(incarnations) => {
            sql("SELECT t.event, e.app, t.destinations FROM lot t JOIN event e ON e.no = t.event
             WHERE t.lease >> 40 = ANY($1) ORDER BY t.event LIMIT $2 FOR UPDATE OF t SKIP LOCKED")
            .bind(incarnations.to_vec())
            .bind(SLICE)
        }
    };
    let rows = found.fetch_all(&mut *db).await?;
    let mut back = Vec::new();
    let mut events: Vec<i64> = Vec::with_capacity(rows.len());
    for row in &rows {
        let event: i64 = row.try_get(0)?;
        events.push(event);
        let app = AppId::from(row.try_get::<String, _>(1)?);
        for destination in decode_batch(row.try_get(2)?)? {
            let key = DeliveryKey { app: app.clone(), event: EventNo(event), destination };
            back.push(Reopened { key, due: now, attempts: 0, last_error: None });
        }
    }
    let taken = back.len() as u64;
    if !events.is_empty() {
        let more = events.len() as i64 == SLICE;
        sql("DELETE FROM lot WHERE event = ANY($1)").bind(events).execute(&mut *db).await?;
        let existing = catalogue::existing(db, back.iter().map(|one| one.key.destination)).await?;
        let (mut closing, mut due_index) = (Closing::default(), DueIndex::default());
        reopen(db, back, &existing, now, &mut closing, &mut due_index).await?;
        closing.write(db).await?;
        due_index.write(db).await?;
        return Ok((taken, more));
    }
    Ok((0, false))
}

/// Whether a delivery is in its event's leased batch.
pub(super) async fn holds(db: &mut PgConnection, key: &DeliveryKey) -> Result<bool, StoreError> {
    let row = sql("SELECT t.destinations FROM lot t JOIN event e ON e.no = t.event WHERE t.event = $1 AND e.app = $2")
        .bind(key.event.0)
        .bind(key.app.as_str().to_owned())
        .fetch_optional(db)
        .await?;
    Ok(match row {
        Some(row) => decode_batch(row.try_get(0)?)?.binary_search(&key.destination).is_ok(),
        None => false,
    })
}

/// A page of the deliveries in leased batches, newest event first. Leased batches are few, since memory bounds them.
pub(super) async fn page(
    db: &mut PgConnection,
    app: &AppId,
    filter: &DeliveryFilter,
) -> Result<Vec<DeliveryRow>, StoreError> {
    let mut page = BatchPage::new(app, filter);
    let (oldest, newest) = page.events();
    let rows = sql("SELECT t.event, t.destinations, e.id, e.name FROM lot t JOIN event e ON e.no = t.event
         WHERE t.event >= $1 AND t.event <= $2 AND e.app = $3 ORDER BY t.event DESC LIMIT $4")
    .bind(oldest.0)
    .bind(newest.0)
    .bind(app.as_str().to_owned())
    .bind(i64::try_from(page.batches()).unwrap_or(i64::MAX))
    .fetch_all(&mut *db)
    .await?;
    for row in &rows {
        page.add(EventNo(row.try_get(0)?), row.try_get(2)?, row.try_get(3)?, &decode_batch(row.try_get(1)?)?);
    }
    let mut out = page.rows();
    let nos: Vec<i64> = out.iter().map(|row| row.key.destination.0).collect();
    let names = sql("SELECT no, id FROM listener WHERE no = ANY($1)").bind(nos).fetch_all(db).await?;
    let names: BTreeMap<i64, String> =
        names.iter().map(|row| Ok((row.try_get(0)?, row.try_get(1)?))).collect::<Result<_, sqlx::Error>>()?;
    for row in &mut out {
        row.listener = names.get(&row.key.destination.0).cloned().unwrap_or_default();
    }
    Ok(out)
}
