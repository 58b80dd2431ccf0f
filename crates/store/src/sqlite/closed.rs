//! Closed deliveries, and attempts.

use rusqlite::{Connection, Statement, params};
use tidings_model::clock::Millis;
use tidings_model::delivery::{Attempt, DeliveryState};
use tidings_model::id::DeliveryKey;

use super::db::Db;
use crate::error::StoreError;
use crate::records::micros;

/// Writes a delivery's closed row. The caller removes its open row.
pub(super) fn close(
    db: &Db,
    key: &DeliveryKey,
    state: DeliveryState,
    attempts: u32,
    wall: Millis,
    error: Option<&str>,
) -> Result<(), StoreError> {
    db.prepare_cached(
        "INSERT OR REPLACE INTO closed (app, event, destination, state, attempts, closed_at, last_error)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
    )?
    .execute(params![key.app.as_str(), key.event.0, key.destination.0, state.as_str(), attempts, wall, error])?;
    db.count_undelivered(i64::from(state == DeliveryState::Undelivered));
    Ok(())
}

/// The statement of [`close_at_first`], which a batch prepares once.
pub(super) const AT_FIRST: &str = "INSERT OR REPLACE INTO closed (app, event, destination, state, attempts, closed_at,
    started_at, duration_us, status, remote, response_body)
    VALUES (?1, ?2, ?3, 'delivered', 1, ?4, ?5, ?6, ?7, ?8, ?9)";

/// Writes the closed row of a delivery that its first attempt delivered. Most do; the row then holds both delivery and
/// attempt.
pub(super) fn close_at_first(
    at_first: &mut Statement<'_>,
    key: &DeliveryKey,
    attempt: &Attempt,
    wall: Millis,
) -> Result<(), StoreError> {
    at_first.execute(params![
        key.app.as_str(),
        key.event.0,
        key.destination.0,
        wall,
        attempt.started_at,
        micros(attempt.duration),
        attempt.status,
        attempt.remote,
        // Most responses have no body: NULL takes less room.
        (!attempt.response_body.is_empty()).then_some(&attempt.response_body),
    ])?;
    Ok(())
}

/// Writes an attempt, if there was one.
pub(super) fn insert_attempt(db: &Connection, key: &DeliveryKey, attempt: Option<&Attempt>) -> Result<(), StoreError> {
    let Some(attempt) = attempt else { return Ok(()) };
    db.prepare_cached(
        "INSERT OR REPLACE INTO attempt (event, destination, n, started_at, duration_us, outcome, status, error,
         remote, next_at, response_headers, response_body)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12)",
    )?
    .execute(params![
        key.event.0,
        key.destination.0,
        attempt.n,
        attempt.started_at,
        micros(attempt.duration),
        attempt.outcome,
        attempt.status,
        attempt.error,
        attempt.remote,
        attempt.next_at,
        attempt.response_headers,
        attempt.response_body,
    ])?;
    Ok(())
}
