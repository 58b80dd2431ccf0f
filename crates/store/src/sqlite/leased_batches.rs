//! Leased batches (table `lot`): the fresh deliveries of an event that are in no lane, leased together to the node that
//! published it.
//!
//! Most deliveries are attempted at once, and only once. An open row for each would cost more than everything else that
//! is written about it. So a leased batch is one row that lists the destinations whose attempt has not ended. When an
//! attempt ends, its delivery leaves the batch: it becomes a closed row or, if it has to be attempted again, an open
//! row of its own. When the batch's lease expires or becomes void, each of its deliveries gets an open row.

use rusqlite::{Connection, OptionalExtension, params};
use tidings_model::clock::Millis;
use tidings_model::delivery::DeliveryState;
use tidings_model::id::{AppId, DeliveryKey, DestinationNo, EventNo};

use super::db::Db;
use super::{catalogue, closed, lanes};
use crate::destinations::{decode_batch, encode_batch};
use crate::error::StoreError;
use crate::log::Lease;
use crate::queue::{DeliveryFilter, DeliveryRow, Leased};
use crate::rules::listing::BatchPage;

/// How many leased batches one transaction dissolves: few have more than a handful of deliveries.
pub(super) const SLICE: usize = 64;

/// Writes the leased batch of an event, in ascending order of its destinations.
pub(super) fn insert(db: &Db, event: EventNo, lease: Lease, destinations: &[DestinationNo]) -> Result<(), StoreError> {
    db.prepare_cached("INSERT INTO lot (event, lease, lease_until, destinations) VALUES (?1, ?2, ?3, ?4)")?
        .execute(params![event.0, lease.token.0, lease.until, encode_batch(destinations)])?;
    db.count_deliveries(destinations.len() as i64);
    Ok(())
}

/// Takes deliveries out of their leased batches, if the batch still has the delivery's lease. Returns, in their order,
/// which were taken out; those that are in no leased batch never are.
pub(super) fn take_out(db: &Db, batch: &[&Leased]) -> Result<Vec<bool>, StoreError> {
    let mut taken = vec![false; batch.len()];
    let mut order: Vec<usize> = (0..batch.len()).filter(|&i| batch[i].in_batch).collect();
    let batch_of = |i: usize| (batch[i].key.event, batch[i].lease.token.0);
    order.sort_unstable_by_key(|&i| (batch_of(i), batch[i].key.destination));
    for group in order.chunk_by(|&a, &b| batch_of(a) == batch_of(b)) {
        let (event, token) = batch_of(group[0]);
        let wanted: Vec<DestinationNo> = group.iter().map(|&i| batch[i].key.destination).collect();
        // Small leased batches usually end as a whole. Deleting by their contents needs no read.
        let all = db
            .prepare_cached("DELETE FROM lot WHERE event = ?1 AND lease = ?2 AND destinations = ?3")?
            .execute(params![event.0, token, encode_batch(&wanted)])?;
        if all == 1 {
            group.iter().for_each(|&i| taken[i] = true);
            continue;
        }
        let Some((_, mut left)) = read(db, event, Some(token))? else { continue };
        for &i in group {
            if let Ok(at) = left.binary_search(&batch[i].key.destination) {
                left.remove(at);
                taken[i] = true;
            }
        }
        if left.is_empty() {
            remove(db, event)?;
        } else {
            db.prepare_cached("UPDATE lot SET destinations = ?2 WHERE event = ?1")?
                .execute(params![event.0, encode_batch(&left)])?;
        }
    }
    db.count_deliveries(-(taken.iter().filter(|taken| **taken).count() as i64));
    Ok(taken)
}

/// Gives a delivery that was taken out of its leased batch an open row, due at `due`. If its destination is deleted,
/// the delivery is canceled instead; returns `false` then.
pub(super) fn reopen(
    db: &Db,
    key: &DeliveryKey,
    due: Millis,
    attempts: u32,
    last_error: Option<&str>,
    now: Millis,
) -> Result<bool, StoreError> {
    if catalogue::is_deleted(db, key.destination)? {
        closed::close(db, key, DeliveryState::Canceled, attempts, now, last_error)?;
        return Ok(false);
    }
    db.prepare_cached(
        "INSERT INTO delivery (app, event, destination, attempts, forgiven, due, last_error)
         VALUES (?1, ?2, ?3, ?4, 0, ?5, ?6)",
    )?
    .execute(params![key.app.as_str(), key.event.0, key.destination.0, attempts, due, last_error])?;
    db.count_deliveries(1);
    lanes::note_due(db, key.destination, due)?;
    Ok(true)
}

/// Dissolves a leased batch: gives each of its deliveries an open row, due now. With a `lease`, only if the batch still
/// has that lease. Returns how many deliveries there were.
pub(super) fn dissolve(db: &Db, event: EventNo, lease: Option<i64>, now: Millis) -> Result<u64, StoreError> {
    let Some((app, left)) = read(db, event, lease)? else { return Ok(0) };
    remove(db, event)?;
    db.count_deliveries(-(left.len() as i64));
    for &destination in &left {
        reopen(db, &DeliveryKey { app: app.clone(), event, destination }, now, 0, None, now)?;
    }
    Ok(left.len() as u64)
}

/// Dissolves leased batches whose leases a reader found expired, if they still have those leases. Returns how many
/// deliveries there were.
pub(super) fn dissolve_all(db: &Db, expired: &[(EventNo, i64)], now: Millis) -> Result<u64, StoreError> {
    expired.iter().map(|(event, lease)| dissolve(db, *event, Some(*lease), now)).sum()
}

/// The statement that walks all leased batches, in slices.
pub(super) const AFTER: &str = "SELECT event, lease, lease_until FROM lot WHERE event > ?1 ORDER BY event LIMIT ?2";

/// The expired leases among a slice of leased batches, and where the next slice begins, if there is one.
#[expect(clippy::type_complexity, reason = "a list and where it goes on")]
pub(super) fn expired(
    db: &Connection,
    now: Millis,
    after: EventNo,
    slice: usize,
) -> Result<(Vec<(EventNo, i64)>, Option<EventNo>), StoreError> {
    let (mut out, mut last, mut seen) = (Vec::new(), after, 0);
    let mut statement = db.prepare_cached(AFTER)?;
    let mut rows = statement.query(params![after.0, slice])?;
    while let Some(row) = rows.next()? {
        seen += 1;
        last = EventNo(row.get(0)?);
        if row.get::<_, Millis>(2)? < now {
            out.push((last, row.get(1)?));
        }
    }
    Ok((out, (seen == slice).then_some(last)))
}

/// Whether a delivery is in its event's leased batch.
pub(super) fn holds(db: &Connection, key: &DeliveryKey) -> Result<bool, StoreError> {
    let held = read(db, key.event, None)?;
    Ok(held.is_some_and(|(app, left)| app == key.app && left.binary_search(&key.destination).is_ok()))
}

/// How many deliveries there are in leased batches.
pub(super) fn count(db: &Connection) -> Result<i64, StoreError> {
    let mut statement = db.prepare_cached("SELECT destinations FROM lot ORDER BY event")?;
    let mut rows = statement.query([])?;
    let mut all = 0;
    while let Some(row) = rows.next()? {
        all += decode_batch(row.get_ref(0)?.as_blob().map_err(rusqlite::Error::from)?)?.len() as i64;
    }
    Ok(all)
}

/// The statement of [`page`]. Leased batches are few, since memory bounds them; so those of other apps are skipped one
/// by one. CROSS JOIN makes SQLite read `lot` first.
pub(super) const NEWEST: &str =
    "SELECT t.event, t.destinations, e.id, e.name FROM lot t CROSS JOIN event e ON e.no = t.event
    WHERE t.event >= ?1 AND t.event <= ?2 AND e.app = ?3 ORDER BY t.event DESC";

/// A page of the deliveries in leased batches, newest event first.
pub(super) fn page(db: &Connection, app: &AppId, filter: &DeliveryFilter) -> Result<Vec<DeliveryRow>, StoreError> {
    let mut page = BatchPage::new(app, filter);
    let (oldest, newest) = page.events();
    let mut statement = db.prepare_cached(NEWEST)?;
    let mut rows = statement.query(params![oldest.0, newest.0, app.as_str()])?;
    while !page.is_full()
        && let Some(row) = rows.next()?
    {
        let batch = decode_batch(row.get_ref(1)?.as_blob().map_err(rusqlite::Error::from)?)?;
        let (id, name): (String, String) = (row.get(2)?, row.get(3)?);
        page.add(EventNo(row.get(0)?), &id, &name, &batch);
    }
    let mut out = page.rows();
    for row in &mut out {
        row.listener = listener(db, row.key.destination)?;
    }
    Ok(out)
}

fn listener(db: &Connection, destination: DestinationNo) -> Result<String, StoreError> {
    let id = db
        .prepare_cached("SELECT id FROM listener WHERE no = ?1")?
        .query_row([destination.0], |row| row.get(0))
        .optional()?;
    Ok(id.unwrap_or_default())
}

/// The leased batch of an event, if it has this lease (or any, if that is `None`): its app, and the destinations whose
/// attempts have not ended.
fn read(
    db: &Connection,
    event: EventNo,
    lease: Option<i64>,
) -> Result<Option<(AppId, Vec<DestinationNo>)>, StoreError> {
    let mut statement = db.prepare_cached(
        "SELECT e.app, t.destinations FROM lot t CROSS JOIN event e ON e.no = t.event WHERE t.event = ?1
         AND (?2 IS NULL OR t.lease = ?2)",
    )?;
    let mut rows = statement.query(params![event.0, lease])?;
    let Some(row) = rows.next()? else { return Ok(None) };
    let left = decode_batch(row.get_ref(1)?.as_blob().map_err(rusqlite::Error::from)?)?;
    Ok(Some((AppId::from(row.get::<_, String>(0)?), left)))
}

fn remove(db: &Connection, event: EventNo) -> Result<(), StoreError> {
    db.prepare_cached("DELETE FROM lot WHERE event = ?1")?.execute([event.0])?;
    Ok(())
}
