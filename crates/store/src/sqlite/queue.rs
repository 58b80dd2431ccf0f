//! Claims deliveries, records the results of attempts, and releases leases.

use rusqlite::{Connection, OptionalExtension, Statement, params};
use tidings_model::clock::Millis;
use tidings_model::id::{AppId, DestinationNo};

use super::db::Db;
use super::{catalogue, closed, lanes, leased_batches};
use crate::error::StoreError;
use crate::log::Lease;
use crate::queue::{Due, Finished, Leased, Recorded, Recording, Skip, Wanted};
use crate::rows::{self, Row as _, by_name};
use crate::rules::attempt::{self, AfterAttempt, DeliveryChange, DestinationChange, DestinationStatus};
use crate::rules::lane::{Advance, AdvanceTerms, ClaimRoom};

/// The statement of [`due`]: enabled destinations with work, without those to skip, the longest waiting first.
pub(super) const DUE: &str =
    "SELECT q.destination, q.next_due FROM queue q CROSS JOIN listener l ON l.no = q.destination
    WHERE l.disabled_at IS NULL AND l.deleted = 0 AND q.destination NOT IN (SELECT value FROM json_each(?1))
    AND l.app NOT IN (SELECT value FROM json_each(?3)) ORDER BY q.next_due LIMIT ?2";

/// Which destinations have work due, and when the next one will have.
pub(super) fn due(db: &Connection, now: Millis, skip: &Skip, limit: usize) -> Result<Due, StoreError> {
    let destinations = serde_json::to_string(&skip.destinations.iter().map(|no| no.0).collect::<Vec<_>>())?;
    let apps = serde_json::to_string(&skip.apps.iter().map(AppId::as_str).collect::<Vec<_>>())?;
    let mut statement = db.prepare_cached(DUE)?;
    let mut rows = statement.query(params![destinations, limit, apps])?;
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
pub(super) const CLAIM: &str =
    "SELECT app, event, destination, lane IS NOT NULL AS ordered, attempts, forgiven, lane FROM delivery
    WHERE destination = ?1 AND due IS NOT NULL AND due <= ?2 ORDER BY due LIMIT ?3";

/// Leases due deliveries, and those behind heads of lanes that go in the same request.
pub(super) fn claim(db: &Connection, wanted: &[Wanted], now: Millis, lease: Lease) -> Result<Vec<Leased>, StoreError> {
    let mut out = Vec::new();
    for wanted in wanted {
        let Wanted { destination, most, .. } = *wanted;
        let mut heads = Vec::new();
        {
            let mut statement = db.prepare_cached(CLAIM)?;
            let mut due = statement.query(params![destination.0, now, most])?;
            while let Some(row) = due.next()? {
                let row = by_name(row);
                heads.push((rows::leased(&row, lease)?, row.get::<Option<String>>("lane")?));
            }
        }
        let mut room = ClaimRoom::after(wanted, heads.len());
        for (head, lane) in heads {
            lanes::set_lease(db, &head.key, lease)?;
            let key = head.key.clone();
            out.push(head);
            let most = room.behind_head();
            if let Some(lane) = lane.filter(|_| most > 0) {
                let behind = lanes::follow(db, &key, &lane, most, now, lease)?;
                room.take(behind.len());
                out.extend(behind);
            }
        }
        lanes::refresh_due(db, destination)?;
    }
    Ok(out)
}

/// Records the results of attempts.
pub(super) fn finish(db: &Db, batch: &[Finished], recording: Recording) -> Result<Vec<Recorded>, StoreError> {
    let leased: Vec<&Leased> = batch.iter().map(|finished| &finished.delivery).collect();
    let taken = leased_batches::take_out(db, &leased)?;
    let mut at_first = db.prepare_cached(closed::AT_FIRST)?;
    let ends = batch.iter().zip(taken);
    ends.map(|(end, taken)| record(db, &mut at_first, end, taken, &recording)).collect()
}

/// Records the result of an attempt. `taken`: the delivery was taken out of its leased batch.
fn record(
    db: &Db,
    at_first: &mut Statement<'_>,
    end: &Finished,
    taken: bool,
    recording: &Recording,
) -> Result<Recorded, StoreError> {
    let (leased, key) = (&end.delivery, &end.delivery.key);
    if leased.in_batch && !taken {
        return Ok(attempt::stale());
    }
    let AfterAttempt { delivery, destination, attempts } = attempt::after(end);
    let error = end.attempt.as_ref().and_then(|attempt| attempt.error.as_deref());
    let lane = match delivery {
        DeliveryChange::Reopen(due) => {
            if taken {
                if !leased_batches::reopen(db, key, due, attempts, error, recording.wall)? {
                    closed::insert_attempt(db, key, end.attempt.as_ref())?;
                    return Ok(Recorded::default());
                }
            } else if !lanes::reschedule(db, key, leased.lease.token, due, attempts, error)? {
                return Ok(attempt::stale());
            }
            closed::insert_attempt(db, key, end.attempt.as_ref())?;
            None
        }
        DeliveryChange::Close { state, first } => {
            let lane = if taken { Some(None) } else { take_out(db, leased)? };
            let Some(lane) = lane else { return Ok(attempt::stale()) };
            match first {
                Some(attempt) => closed::close_at_first(at_first, key, attempt, recording.wall)?,
                None => {
                    closed::close(db, key, state, attempts, recording.wall, error)?;
                    closed::insert_attempt(db, key, end.attempt.as_ref())?;
                }
            }
            lane
        }
    };
    let status = match destination {
        DestinationChange::Nothing => DestinationStatus::Enabled,
        DestinationChange::ClearFailures => {
            db.prepare_cached("DELETE FROM failing WHERE destination = ?1")?.execute([key.destination.0])?;
            DestinationStatus::Enabled
        }
        DestinationChange::NoteFailure => failed(db, end, recording)?,
    };
    let advance = match lane {
        Some(lane) => {
            let terms = AdvanceTerms::after(end, recording, status == DestinationStatus::Enabled);
            lanes::advance(db, key.destination, &lane, &terms)?
        }
        None => Advance::Nothing,
    };
    Ok(attempt::recorded(status, advance))
}

/// Removes an open delivery. Returns the lane that it was the head of; the outer `None` if the lease was lost.
#[allow(clippy::option_option, reason = "the outer option is whether it was there, the inner its lane")]
fn take_out(db: &Db, leased: &Leased) -> Result<Option<Option<String>>, StoreError> {
    let key = &leased.key;
    let place = params![key.app.as_str(), key.event.0, key.destination.0, leased.lease.token.0];
    if !leased.ordered {
        // Most deliveries are in no lane. RETURNING it would cost as much as the deletion.
        let deleted = db
            .prepare_cached("DELETE FROM delivery WHERE app = ?1 AND event = ?2 AND destination = ?3 AND lease = ?4")?
            .execute(place)?;
        db.count_deliveries(-(deleted as i64));
        return Ok((deleted == 1).then_some(None));
    }
    let lane = db
        .prepare_cached(
            "DELETE FROM delivery WHERE app = ?1 AND event = ?2 AND destination = ?3 AND lease = ?4 RETURNING lane",
        )?
        .query_row(place, |row| row.get(0))
        .optional()?;
    db.count_deliveries(-i64::from(lane.is_some()));
    Ok(lane)
}

/// Records a failure of the destination, and disables it if it has to be.
fn failed(db: &Connection, end: &Finished, recording: &Recording) -> Result<DestinationStatus, StoreError> {
    let destination = end.delivery.key.destination;
    let reason = match end.disable {
        Some(reason) => Some(reason),
        None => {
            let since = db
                .prepare_cached(
                    "INSERT INTO failing (destination, since) VALUES (?1, ?2) ON CONFLICT (destination)
                     DO UPDATE SET since = min(since, excluded.since) RETURNING since",
                )?
                .query_row(params![destination.0, recording.wall], |row| row.get(0))?;
            attempt::failing_reason(since, recording.disable_failing_since)
        }
    };
    let Some(reason) = reason else { return Ok(DestinationStatus::Enabled) };
    let name: Option<String> = db
        .prepare_cached("SELECT name FROM event WHERE no = ?1")?
        .query_row([end.delivery.key.event.0], |row| row.get(0))
        .optional()?;
    let announce = attempt::announces_disabling(name.as_deref());
    let now = catalogue::disable(db, destination, reason, recording.wall, announce)?;
    Ok(if now { DestinationStatus::DisabledNow } else { DestinationStatus::DisabledBefore })
}

/// Releases leased deliveries.
pub(super) fn release(db: &Db, batch: &[Leased], due: Millis) -> Result<(), StoreError> {
    let all: Vec<&Leased> = batch.iter().collect();
    for (leased, taken) in batch.iter().zip(leased_batches::take_out(db, &all)?) {
        if taken {
            leased_batches::reopen(db, &leased.key, due, leased.attempts, None, due)?;
        } else if !leased.in_batch {
            lanes::reschedule(db, &leased.key, leased.lease.token, due, leased.attempts, None)?;
        }
    }
    Ok(())
}

/// Failing destinations, and since when they have only failed.
pub(super) fn failing(db: &Connection) -> Result<Vec<(DestinationNo, Millis)>, StoreError> {
    let mut statement = db.prepare_cached("SELECT destination, since FROM failing")?;
    statement.query_and_then([], |row| rows::failing(&by_name(row)))?.collect()
}

/// The statement of [`failing_of`]. It reads the rows of the given destinations only.
pub(super) const FAILING_OF: &str =
    "SELECT destination, since FROM failing WHERE destination IN (SELECT value FROM json_each(?1))";

/// Which of these destinations are failing, and since when they have only failed.
pub(super) fn failing_of(
    db: &Connection,
    destinations: &[DestinationNo],
) -> Result<Vec<(DestinationNo, Millis)>, StoreError> {
    let destinations = serde_json::to_string(&destinations.iter().map(|no| no.0).collect::<Vec<_>>())?;
    let mut statement = db.prepare_cached(FAILING_OF)?;
    statement.query_and_then([destinations], |row| rows::failing(&by_name(row)))?.collect()
}
