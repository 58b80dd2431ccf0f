//! Fan-out: a row that stands for the deliveries of an event with many destinations, and writing those slice by slice.
//!
//! A slice and the cursor that counts it are one transaction, so a crash between slices repeats nothing and leaves
//! nothing out.

use rusqlite::{OptionalExtension, params};
use tidings_model::clock::Millis;
use tidings_model::delivery::DeliveryState;
use tidings_model::id::{AppId, DeliveryKey, EventNo};

use super::db::Db;
use super::lanes::{self, NewDelivery, Placement};
use super::{catalogue, queue};
use crate::destinations;
use crate::error::StoreError;
use crate::log::{Lane, Lease};
use crate::queue::{Expanded, FanoutTurn, Leased};

/// How many deliveries one slice writes: few enough that a publisher hardly notices the wait. Each row may dirty a page of
/// its own, and every job that shares the transaction waits for all of them.
pub(super) const SLICE: usize = 128;

/// The oldest row of the first app after another.
pub(super) const OLDEST: &str =
    "SELECT event, app, key, not_before, cursor, destinations FROM fanout WHERE app > ?1 ORDER BY app, event LIMIT 1";

struct Fanout {
    event: EventNo,
    app: AppId,
    key: Option<String>,
    not_before: Option<Millis>,
    cursor: usize,
    destinations: Vec<u8>,
}

/// The oldest row of the first app after another.
fn oldest(db: &Db, after: &str) -> Result<Option<Fanout>, StoreError> {
    let row = db.prepare_cached(OLDEST)?.query_row([after], |row| {
        Ok(Fanout {
            event: EventNo(row.get(0)?),
            app: AppId::from(row.get::<_, String>(1)?),
            key: row.get(2)?,
            not_before: row.get(3)?,
            cursor: row.get(4)?,
            destinations: row.get(5)?,
        })
    });
    Ok(row.optional()?)
}

/// Writes one slice of the deliveries of the oldest fan-out row of the app whose turn it is. Rows of an app are expanded in
/// the order of their events, so lanes are too.
pub(super) fn expand(
    db: &Db,
    now: Millis,
    turn: &FanoutTurn,
    lease: Lease,
    slice: usize,
) -> Result<Expanded, StoreError> {
    let mut out = Expanded::default();
    let after = turn.after.as_ref().map_or("", AppId::as_str);
    let row = match oldest(db, after)? {
        None if !after.is_empty() => oldest(db, "")?,
        row => row,
    };
    let Some(fanout) = row else { return Ok(out) };
    out.app = Some(fanout.app.clone());
    let set = destinations::decode(&fanout.destinations)?;
    let end = (fanout.cursor + slice).min(set.len());
    out.written = end - fanout.cursor.min(end);
    for &(destination, lane) in set.get(fanout.cursor..end).unwrap_or_default() {
        if catalogue::gone(db, destination)? {
            let key = DeliveryKey { app: fanout.app.clone(), event: fanout.event, destination };
            queue::close(db, &key, DeliveryState::Canceled, 0, now, None)?;
            continue;
        }
        let has_room = turn.has_room(&fanout.app, destination);
        let lane_name = lane.name(fanout.key.as_deref());
        let new = NewDelivery {
            app: &fanout.app,
            event: fanout.event,
            destination,
            lane: lane_name,
            not_before: fanout.not_before,
        };
        let lease = (has_room && out.leased.len() < turn.fresh).then_some(lease);
        match (lanes::insert(db, &new, lease, now)?, lease) {
            (Placement::Leased, Some(lease)) => out.leased.push(Leased {
                key: DeliveryKey { app: fanout.app.clone(), event: fanout.event, destination },
                attempts: 0,
                forgiven: 0,
                ordered: lane != Lane::Own,
                follows: false,
                in_batch: false,
                lease,
            }),
            (Placement::Scheduled, _) => out.queued |= has_room,
            _ => {}
        }
    }
    if end >= set.len() {
        db.prepare_cached("DELETE FROM fanout WHERE event = ?1")?.execute([fanout.event.0])?;
        db.count_fanouts(-1);
        out.more = db.prepare_cached("SELECT EXISTS (SELECT 1 FROM fanout)")?.query_row([], |row| row.get(0))?;
    } else {
        db.prepare_cached("UPDATE fanout SET cursor = ?2 WHERE event = ?1")?.execute(params![fanout.event.0, end])?;
        out.more = true;
    }
    Ok(out)
}
