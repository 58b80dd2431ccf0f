//! Lists of deliveries and attempts, and retries by hand.

use rusqlite::types::Value;
use rusqlite::{Connection, OptionalExtension, params, params_from_iter};
use tidings_model::clock::Millis;
use tidings_model::delivery::{Attempt, DeliveryState};
use tidings_model::id::{AppId, DeliveryKey};

use super::db::Db;
use super::{catalogue, lanes, leased_batches};
use crate::error::StoreError;
use crate::page::{Page, Paged};
use crate::queue::{AttemptRange, DeliveryFilter, DeliveryRow, Retried};
use crate::rows::{self, by_name};
use crate::rules::{listing as rules, placement};

/// A page of deliveries, newest event first: the open ones, with those in leased batches, and the closed ones merged.
pub(super) fn deliveries(
    db: &Connection,
    app: &AppId,
    filter: &DeliveryFilter,
) -> Result<Vec<DeliveryRow>, StoreError> {
    let mut out = Vec::new();
    if rules::has_open(filter) {
        out.extend(page(db, "delivery", app, filter)?);
        out.extend(leased_batches::page(db, app, filter)?);
    }
    if rules::has_ended(filter) {
        out.extend(page(db, "closed", app, filter)?);
    }
    Ok(rules::merge(out, filter.limit))
}

/// The statement that lists one of the two tables, and its parameters.
pub(super) fn statement(table: &str, app: &AppId, filter: &DeliveryFilter) -> (String, Vec<Value>) {
    let open = table == "delivery";
    let columns = if open {
        "'pending' AS state, d.attempts, d.due, NULL AS closed_at, d.last_error"
    } else {
        "d.state, d.attempts, NULL AS due, d.closed_at, d.last_error"
    };
    let mut sql = format!(
        "SELECT d.app, d.event, d.destination, {columns}, coalesce(e.id, '') AS event_id,
         coalesce(e.name, '') AS event_name, coalesce(l.id, '') AS listener
         FROM {table} d LEFT JOIN event e ON e.no = d.event LEFT JOIN listener l ON l.no = d.destination
         WHERE d.app = ?1"
    );
    let mut values = vec![Value::from(app.as_str().to_owned())];
    let mut also = |condition: &str, value: Value| {
        values.push(value);
        sql.push_str(&format!(" AND {condition}{}", values.len()));
    };
    if let Some(event) = filter.event {
        also("d.event = ?", event.0.into());
    }
    if let Some(destination) = filter.destination {
        also("d.destination = ?", destination.0.into());
    }
    if let Some(state) = filter.state
        && !open
    {
        also("d.state = ?", state.as_str().to_owned().into());
    }
    // The plain comparison lets SQLite use the index; the comparison of row values then excludes the rest.
    let (event, destination) = rules::before(filter);
    also("d.event <= ?", event.0.into());
    also("(d.event, d.destination) < (?", event.0.into());
    values.push(destination.0.into());
    sql.push_str(&format!(", ?{})", values.len()));
    if !open && filter.state.is_some_and(|state| state != DeliveryState::Delivered) {
        // Redundant, but it lets SQLite use the partial indexes without delivered rows.
        sql.push_str(" AND d.state <> 'delivered'");
    }
    values.push(Value::from(filter.limit as i64));
    sql.push_str(&format!(" ORDER BY d.event DESC, d.destination DESC LIMIT ?{}", values.len()));
    (sql, values)
}

fn page(db: &Connection, table: &str, app: &AppId, filter: &DeliveryFilter) -> Result<Vec<DeliveryRow>, StoreError> {
    let (sql, values) = statement(table, app, filter);
    let mut page = db.prepare_cached(&sql)?;
    page.query_and_then(params_from_iter(values), |row| rows::delivery(&by_name(row)))?.collect()
}

/// One delivery.
pub(super) fn delivery(db: &Connection, key: &DeliveryKey) -> Result<Option<DeliveryRow>, StoreError> {
    let filter = DeliveryFilter {
        event: Some(key.event),
        destination: Some(key.destination),
        limit: 1,
        ..DeliveryFilter::default()
    };
    Ok(deliveries(db, &key.app, &filter)?.pop())
}

/// The statement of [`attempts`].
pub(super) const ATTEMPTS: &str =
    "SELECT n, started_at, duration_us, outcome, status, error, remote, next_at, response_headers, response_body
    FROM attempt WHERE event = ?1 AND destination = ?2 AND n > ?3 ORDER BY n LIMIT ?4";

/// The first attempt of a delivery that it delivered, from the closed row that holds both.
pub(super) const FIRST: &str =
    "SELECT 1 AS n, started_at, duration_us, 'delivered' AS outcome, status, NULL AS error, remote, NULL AS next_at,
        NULL AS response_headers, coalesce(response_body, x'') AS response_body
    FROM closed WHERE app = ?3 AND event = ?1 AND destination = ?2 AND started_at IS NOT NULL";

/// A page of the attempts of a delivery, oldest first.
pub(super) fn attempts(db: &Connection, key: &DeliveryKey, range: AttemptRange) -> Result<Page<Attempt>, StoreError> {
    // Attempts have no column `app`: the delivery proves that they belong to it.
    if delivery(db, key)?.is_none() {
        return Err(StoreError::Missing);
    }
    let mut page = Paged::new(range.limit, range.bytes);
    let mut statement = db.prepare_cached(ATTEMPTS)?;
    let mut found = statement.query(params![key.event.0, key.destination.0, range.after, page.rows_to_read()])?;
    while let Some(row) = found.next()? {
        if !page.take(rows::attempt(&by_name(row))?, Attempt::weight) {
            break;
        }
    }
    if page.is_empty() && range.after == 0 {
        let mut statement = db.prepare_cached(FIRST)?;
        let mut found = statement.query(params![key.event.0, key.destination.0, key.app.as_str()])?;
        while let Some(row) = found.next()? {
            page.take(rows::attempt(&by_name(row))?, Attempt::weight);
        }
    }
    Ok(page.end())
}

/// Makes a delivery due now. One that has ended is opened again, in no lane, and its schedule starts anew.
pub(super) fn retry(db: &Db, key: &DeliveryKey, now: Millis) -> Result<Retried, StoreError> {
    let place = params![key.app.as_str(), key.event.0, key.destination.0];
    let open = db
        .prepare_cached(
            "SELECT due IS NOT NULL, lease IS NOT NULL FROM delivery WHERE app = ?1 AND event = ?2
             AND destination = ?3",
        )?
        .query_row(place, |row| Ok((row.get::<_, bool>(0)?, row.get::<_, bool>(1)?)))
        .optional()?;
    match open.map(|(is_scheduled, is_leased)| placement::retry(is_scheduled, is_leased)) {
        Some(Retried::Due) => {
            db.prepare_cached("UPDATE delivery SET due = ?4 WHERE app = ?1 AND event = ?2 AND destination = ?3")?
                .execute(params![key.app.as_str(), key.event.0, key.destination.0, now])?;
        }
        Some(refused) => return Ok(refused),
        None if leased_batches::holds(db, key)? => return Ok(Retried::UnderWay),
        None if catalogue::is_deleted(db, key.destination)? => return Err(StoreError::Missing),
        None => {
            db.prepare_cached(
                "INSERT INTO attempt (event, destination, n, started_at, duration_us, outcome, status, remote,
                 response_body)
                 SELECT event, destination, 1, started_at, duration_us, 'delivered', status, remote,
                 coalesce(response_body, x'')
                 FROM closed WHERE app = ?1 AND event = ?2 AND destination = ?3 AND started_at IS NOT NULL",
            )?
            .execute(place)?;
            let closed: Option<(u32, bool)> = db
                .prepare_cached(
                    "DELETE FROM closed WHERE app = ?1 AND event = ?2 AND destination = ?3
                     RETURNING attempts, state = 'undelivered'",
                )?
                .query_row(place, |row| Ok((row.get(0)?, row.get(1)?)))
                .optional()?;
            let (attempts, undelivered) = closed.ok_or(StoreError::Missing)?;
            db.count_undelivered(-i64::from(undelivered));
            db.prepare_cached(
                "INSERT INTO delivery (app, event, destination, lane, attempts, forgiven, due)
                 VALUES (?1, ?2, ?3, NULL, ?4, ?4, ?5)",
            )?
            .execute(params![key.app.as_str(), key.event.0, key.destination.0, attempts, now])?;
            db.count_deliveries(1);
        }
    }
    lanes::note_due(db, key.destination, now)?;
    Ok(Retried::Due)
}
