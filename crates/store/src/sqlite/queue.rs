//! Claiming deliveries and recording what came of them.

use rusqlite::{Connection, OptionalExtension, params};
use tidings_model::clock::Millis;
use tidings_model::delivery::{Attempt, DeliveryState};
use tidings_model::id::{AppId, DeliveryKey, DestinationNo, EventNo};

use super::lanes::{self, Owed, Placed};
use super::{catalogue, destinations, log, meta};
use crate::error::StoreError;
use crate::log::{Lane, Lease};
use crate::queue::{Due, Expanded, Finished, Leased, Next, Recorded, Recording};

/// How many deliveries one slice of fan-out writes, and one slice of cancelling ends.
const SLICE: usize = 500;
/// A clock that stands so far before the newest event was set back; smaller differences are jitter.
const CLOCK_SET_BACK: Millis = 60_000;

/// Takes back every lease and puts right what a clock that was set back has moved.
pub(super) fn recover(db: &Connection, now: Millis) -> Result<u64, StoreError> {
    // Times in the store are from the clock as it was. If that ran ahead of what it says now, everything would wait for
    // the difference.
    let ahead = log::newest(db)? - now;
    if ahead > CLOCK_SET_BACK {
        tracing::warn!(ahead_ms = ahead, "the clock was set back; moving what is due by as much");
        db.execute("UPDATE delivery SET due = due - ?1, not_before = not_before - ?1", [ahead])?;
    }
    let taken =
        db.execute("UPDATE delivery SET due = ?1, lease = NULL, lease_until = NULL WHERE lease IS NOT NULL", [now])?;
    db.execute("DELETE FROM queue", [])?;
    db.execute(
        "INSERT INTO queue (destination, next_due) SELECT destination, MIN(due) FROM delivery WHERE due IS NOT NULL GROUP BY destination",
        [],
    )?;
    Ok(taken as u64)
}

/// The next incarnation of this node: part of every lease token it gives.
pub(super) fn incarnate(db: &Connection) -> Result<i64, StoreError> {
    meta::bump(db, "incarnation")
}

/// The statement of [`due`]: destinations with work, enabled and not to be skipped, the longest waiting first.
pub(super) const DUE: &str = "SELECT q.destination, q.next_due FROM queue q CROSS JOIN listener l ON l.no = q.destination
    WHERE l.disabled_at IS NULL AND l.deleted = 0 AND q.destination NOT IN (SELECT value FROM json_each(?1)) ORDER BY q.next_due LIMIT ?2";

/// Which destinations have work due, and when the next one will.
pub(super) fn due(db: &Connection, now: Millis, skip: &[DestinationNo], limit: usize) -> Result<Due, StoreError> {
    let skip = serde_json::to_string(&skip.iter().map(|d| d.0).collect::<Vec<_>>())?;
    let mut statement = db.prepare_cached(DUE)?;
    let mut rows = statement.query(params![skip, limit])?;
    let mut due = Due::default();
    while let Some(row) = rows.next()? {
        let next: Millis = row.get(1)?;
        if next > now {
            due.next = Some(next);
            break;
        }
        due.destinations.push(DestinationNo(row.get(0)?));
    }
    Ok(due)
}

/// The statement of [`claim`].
pub(super) const CLAIM: &str = "SELECT app, event, lane IS NOT NULL, attempts, forgiven FROM delivery
    WHERE destination = ?1 AND due IS NOT NULL AND due <= ?2 ORDER BY due LIMIT ?3";

/// Leases due deliveries.
pub(super) fn claim(
    db: &Connection,
    wanted: &[(DestinationNo, usize)],
    now: Millis,
    lease: Lease,
) -> Result<Vec<Leased>, StoreError> {
    let mut out = Vec::new();
    for &(destination, limit) in wanted {
        let first = out.len();
        {
            let mut statement = db.prepare_cached(CLAIM)?;
            let mut rows = statement.query(params![destination.0, now, limit])?;
            while let Some(row) = rows.next()? {
                let key = DeliveryKey {
                    app: AppId::from(row.get::<_, String>(0)?),
                    event: EventNo(row.get(1)?),
                    destination,
                };
                out.push(Leased { key, ordered: row.get(2)?, attempts: row.get(3)?, forgiven: row.get(4)?, lease });
            }
        }
        for leased in &out[first..] {
            lanes::set_lease(db, &leased.key, lease)?;
        }
        lanes::refresh_due(db, destination)?;
    }
    Ok(out)
}

/// Records the ends of attempts.
pub(super) fn finish(db: &Connection, batch: &[Finished], recording: Recording) -> Result<Vec<Recorded>, StoreError> {
    batch.iter().map(|finished| record(db, finished, recording)).collect()
}

fn record(db: &Connection, finished: &Finished, recording: Recording) -> Result<Recorded, StoreError> {
    let leased = &finished.delivery;
    let key = &leased.key;
    let error = finished.attempt.as_ref().and_then(|attempt| attempt.error.as_deref());
    let attempts = finished.attempt.as_ref().map_or(leased.attempts, |attempt| attempt.n);
    let state = match finished.next {
        Next::Retry(due) => {
            if !lanes::reschedule(db, key, leased.lease.token, due, attempts, error)? {
                return Ok(Recorded { stale: true, ..Recorded::default() });
            }
            insert_attempt(db, key, finished.attempt.as_ref())?;
            let disabled = failed(db, finished, recording)?;
            return Ok(Recorded { disabled, ..Recorded::default() });
        }
        Next::Delivered => DeliveryState::Delivered,
        Next::Undelivered => DeliveryState::Undelivered,
        Next::Canceled => DeliveryState::Canceled,
    };
    let lane: Option<Option<String>> = db
        .prepare_cached(
            "DELETE FROM delivery WHERE app = ?1 AND event = ?2 AND destination = ?3 AND lease = ?4 RETURNING lane",
        )?
        .query_row(params![key.app.as_str(), key.event.0, key.destination.0, leased.lease.token.0], |row| row.get(0))
        .optional()?;
    let Some(lane) = lane else {
        return Ok(Recorded { stale: true, ..Recorded::default() });
    };
    close(db, key, state, attempts, recording.wall, error)?;
    insert_attempt(db, key, finished.attempt.as_ref())?;
    let disabled = match state {
        DeliveryState::Undelivered => failed(db, finished, recording)?,
        DeliveryState::Delivered if finished.was_failing => {
            db.prepare_cached("DELETE FROM failing WHERE destination = ?1")?.execute([key.destination.0])?;
            false
        }
        _ => false,
    };
    let next_in_lane = match lane {
        Some(lane) => {
            lanes::advance(db, key.destination, &lane, (!disabled).then_some(recording.lease), recording.now)?
        }
        None => None,
    };
    Ok(Recorded { stale: false, next_in_lane, disabled })
}

/// Notes a failure of the destination; `true` when that disabled it.
fn failed(db: &Connection, finished: &Finished, recording: Recording) -> Result<bool, StoreError> {
    let destination = finished.delivery.key.destination;
    if let Some(reason) = finished.disable {
        return catalogue::disable(db, destination, reason, recording.wall);
    }
    let since: Millis = db
        .prepare_cached("INSERT INTO failing (destination, since) VALUES (?1, ?2) ON CONFLICT (destination) DO UPDATE SET since = min(since, excluded.since) RETURNING since")?
        .query_row(params![destination.0, recording.wall], |row| row.get(0))?;
    if since < recording.disable_failing_since {
        return catalogue::disable(db, destination, "failing", recording.wall);
    }
    Ok(false)
}

fn close(
    db: &Connection,
    key: &DeliveryKey,
    state: DeliveryState,
    attempts: u32,
    wall: Millis,
    error: Option<&str>,
) -> Result<(), StoreError> {
    db.prepare_cached(
        "INSERT OR REPLACE INTO closed (app, event, destination, state, attempts, closed_at, last_error) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
    )?
    .execute(params![key.app.as_str(), key.event.0, key.destination.0, state.as_str(), attempts, wall, error])?;
    Ok(())
}

fn insert_attempt(db: &Connection, key: &DeliveryKey, attempt: Option<&Attempt>) -> Result<(), StoreError> {
    let Some(attempt) = attempt else { return Ok(()) };
    db.prepare_cached(
        "INSERT OR REPLACE INTO attempt (event, destination, n, started_at, duration_us, outcome, status, error, remote, next_at, response_headers, response_body)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12)",
    )?
    .execute(params![
        key.event.0,
        key.destination.0,
        attempt.n,
        attempt.started_at,
        i64::try_from(attempt.duration.as_micros()).unwrap_or(i64::MAX),
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

/// Gives leased deliveries back.
pub(super) fn release(db: &Connection, batch: &[Leased], due: Millis) -> Result<(), StoreError> {
    for leased in batch {
        lanes::reschedule(db, &leased.key, leased.lease.token, due, leased.attempts, None)?;
    }
    Ok(())
}

struct Fanout {
    event: EventNo,
    app: AppId,
    key: Option<String>,
    not_before: Option<Millis>,
    cursor: usize,
    destinations: Vec<u8>,
}

/// Writes one slice of the oldest fan-out row's deliveries. Rows are expanded in the order of their events, so lanes are too.
pub(super) fn expand(db: &Connection, now: Millis, fresh: usize, lease: Lease) -> Result<Expanded, StoreError> {
    let mut out = Expanded::default();
    let row = db
        .prepare_cached("SELECT event, app, key, not_before, cursor, destinations FROM fanout ORDER BY event LIMIT 1")?
        .query_row([], |row| {
            Ok(Fanout {
                event: EventNo(row.get(0)?),
                app: AppId::from(row.get::<_, String>(1)?),
                key: row.get(2)?,
                not_before: row.get(3)?,
                cursor: row.get(4)?,
                destinations: row.get(5)?,
            })
        })
        .optional()?;
    let Some(fanout) = row else { return Ok(out) };
    let set = destinations::decode(&fanout.destinations)?;
    let end = (fanout.cursor + SLICE).min(set.len());
    for &(destination, lane) in set.get(fanout.cursor..end).unwrap_or_default() {
        if catalogue::gone(db, destination)? {
            continue;
        }
        let lane_name = lanes::name(lane, fanout.key.as_deref());
        let owed =
            Owed { app: &fanout.app, event: fanout.event, destination, lane: lane_name, not_before: fanout.not_before };
        let lease = (out.leased.len() < fresh).then_some(lease);
        match (lanes::insert(db, &owed, lease, now)?, lease) {
            (Placed::Leased, Some(lease)) => out.leased.push(Leased {
                key: DeliveryKey { app: fanout.app.clone(), event: fanout.event, destination },
                attempts: 0,
                forgiven: 0,
                ordered: lane != Lane::Own,
                lease,
            }),
            (Placed::Scheduled, _) => out.queued = true,
            _ => {}
        }
    }
    if end >= set.len() {
        db.prepare_cached("DELETE FROM fanout WHERE event = ?1")?.execute([fanout.event.0])?;
        out.more = db.prepare_cached("SELECT EXISTS (SELECT 1 FROM fanout)")?.query_row([], |row| row.get(0))?;
    } else {
        db.prepare_cached("UPDATE fanout SET cursor = ?2 WHERE event = ?1")?.execute(params![fanout.event.0, end])?;
        out.more = true;
    }
    Ok(out)
}

/// Leased deliveries whose lease has run out, for a reader: a look at every open delivery.
pub(super) fn expired(db: &Connection, now: Millis) -> Result<Vec<(DeliveryKey, i64)>, StoreError> {
    let mut statement =
        db.prepare_cached("SELECT app, event, destination, lease FROM delivery WHERE lease_until < ?1 LIMIT 1000")?;
    let rows = statement.query_map([now], |row| {
        let key = DeliveryKey {
            app: AppId::from(row.get::<_, String>(0)?),
            event: EventNo(row.get(1)?),
            destination: DestinationNo(row.get(2)?),
        };
        Ok((key, row.get(3)?))
    })?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// Takes back leases that a reader found run out, if they still are the same.
pub(super) fn take_back(db: &Connection, expired: &[(DeliveryKey, i64)], now: Millis) -> Result<u64, StoreError> {
    let mut taken = 0;
    for (key, lease) in expired {
        let changed = db
            .prepare_cached(
                "UPDATE delivery SET due = ?5, lease = NULL, lease_until = NULL WHERE app = ?1 AND event = ?2 AND destination = ?3 AND lease = ?4",
            )?
            .execute(params![key.app.as_str(), key.event.0, key.destination.0, lease, now])?;
        if changed == 1 {
            lanes::note_due(db, key.destination, now)?;
            taken += 1;
        }
    }
    Ok(taken)
}

/// Cancels a slice of what deleted listeners are still owed.
pub(super) fn cancel_orphans(db: &Connection, wall: Millis) -> Result<bool, StoreError> {
    let orphaned: Option<i64> = db
        .prepare_cached("SELECT no FROM listener WHERE deleted = 1 LIMIT 1")?
        .query_row([], |row| row.get(0))
        .optional()?;
    let Some(no) = orphaned else { return Ok(false) };
    let open: Vec<(String, i64, u32)> = {
        let mut statement = db.prepare_cached(
            "SELECT app, event, attempts FROM delivery WHERE destination = ?1 ORDER BY event LIMIT ?2",
        )?;
        let rows = statement.query_map(params![no, SLICE], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?;
        rows.collect::<Result<_, _>>()?
    };
    for (app, event, attempts) in &open {
        let key =
            DeliveryKey { app: AppId::from(app.as_str()), event: EventNo(*event), destination: DestinationNo(no) };
        db.prepare_cached("DELETE FROM delivery WHERE app = ?1 AND event = ?2 AND destination = ?3")?
            .execute(params![app, event, no])?;
        close(db, &key, DeliveryState::Canceled, *attempts, wall, None)?;
    }
    if open.len() < SLICE {
        db.prepare_cached("DELETE FROM queue WHERE destination = ?1")?.execute([no])?;
        db.prepare_cached("DELETE FROM failing WHERE destination = ?1")?.execute([no])?;
        db.prepare_cached("UPDATE listener SET deleted = 2 WHERE no = ?1")?.execute([no])?;
    }
    Ok(true)
}

/// Destinations that have done nothing but fail, and since when.
pub(super) fn failing(db: &Connection) -> Result<Vec<(DestinationNo, Millis)>, StoreError> {
    let mut statement = db.prepare_cached("SELECT destination, since FROM failing")?;
    let rows = statement.query_map([], |row| Ok((DestinationNo(row.get(0)?), row.get(1)?)))?;
    Ok(rows.collect::<Result<_, _>>()?)
}
