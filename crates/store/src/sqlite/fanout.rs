//! Expansion of fan-out rows: a row stands for the deliveries of an event with many destinations, which are written
//! slice by slice.
//!
//! A slice and its row's new cursor are one transaction, so a crash between slices repeats nothing and omits nothing.

use rusqlite::params;
use tidings_model::clock::Millis;
use tidings_model::delivery::DeliveryState;
use tidings_model::id::{DeliveryKey, EventNo};
use tidings_supervisor::Units;

use super::db::Db;
use super::{catalogue, closed, lanes};
use crate::error::StoreError;
use crate::log::Lease;
use crate::queue::{Expanded, FanoutTurn};
use crate::rows::{self, by_name};
use crate::rules::fanout::{Expansion, FanoutRow, Slice, starting_points};

/// How many deliveries one slice writes. It is small, because each row may dirty a page of its own, and every job
/// that shares the transaction waits for all of them.
pub(super) const SLICE: usize = 128;

/// The fan-out rows of all apps after a given one, in the order of apps, the oldest row of each app first.
pub(super) const OLDEST: &str =
    "SELECT event, app, key, not_before, cursor, destinations FROM fanout WHERE app > ?1 ORDER BY app, event";

/// The first of those rows that is not parked.
fn oldest(db: &Db, after: &str, parked: &[EventNo]) -> Result<Option<FanoutRow>, StoreError> {
    let mut statement = db.prepare_cached(OLDEST)?;
    let mut found = statement.query([after])?;
    while let Some(row) = found.next()? {
        if !parked.contains(&EventNo(row.get("event")?)) {
            return rows::fanout(&by_name(row)).map(Some);
        }
    }
    Ok(None)
}

/// The oldest row of the app that has the turn.
fn next(db: &Db, turn: &FanoutTurn) -> Result<Option<FanoutRow>, StoreError> {
    for after in starting_points(turn) {
        if let Some(row) = oldest(db, after, &turn.parked)? {
            return Ok(Some(row));
        }
    }
    Ok(None)
}

/// Writes one slice of the oldest fan-out row of the app that has the turn. An app's rows are expanded in the order of
/// their events, so the order of lanes is kept.
pub(super) fn expand(
    db: &Db,
    now: Millis,
    turn: &FanoutTurn,
    lease: Lease,
    slice: usize,
    units: &Units,
) -> Result<Expanded, StoreError> {
    let Some(row) = next(db, turn)? else { return Ok(Expanded::default()) };
    let written = units.catch(row.event.0, || write(db, now, &row, turn, lease, slice));
    written.map_err(StoreError::from).flatten().map_err(|error| error.of_fanout(row.event))
}

/// Writes one slice of a row.
fn write(
    db: &Db,
    now: Millis,
    row: &FanoutRow,
    turn: &FanoutTurn,
    lease: Lease,
    slice: usize,
) -> Result<Expanded, StoreError> {
    let slice = Slice::of(row, slice)?;
    let mut expansion = Expansion::new(row, turn, lease, &slice);
    for one in slice.part {
        if catalogue::is_deleted(db, one.0)? {
            let key = DeliveryKey { app: row.app.clone(), event: row.event, destination: one.0 };
            closed::close(db, &key, DeliveryState::Canceled, 0, now, None)?;
            continue;
        }
        let placement = lanes::insert(db, &expansion.delivery(one, now))?;
        expansion.placed(one, placement);
    }
    let more = match slice.next {
        Some(next) => {
            db.prepare_cached("UPDATE fanout SET cursor = ?2 WHERE event = ?1")?.execute(params![row.event.0, next])?;
            true
        }
        None => {
            db.prepare_cached("DELETE FROM fanout WHERE event = ?1")?.execute([row.event.0])?;
            db.count_fanouts(-1);
            db.prepare_cached("SELECT EXISTS (SELECT 1 FROM fanout)")?.query_row([], |row| row.get(0))?
        }
    };
    Ok(expansion.end(more))
}
