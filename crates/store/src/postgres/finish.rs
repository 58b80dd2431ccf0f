//! Records the results of attempts.
//!
//! Most changes are written for a whole batch of results at once: deliveries that leave their leased batches, closed
//! and reopened deliveries, and attempts. Deliveries with open rows (retried or ordered ones) are changed one by one.

use std::sync::atomic::{AtomicBool, Ordering};

use sqlx::{PgConnection, Row};
use tidings_model::delivery::Attempt;

use super::clock::ServerClock;
use super::closing::{self, Closing};
use super::connect::sql;
use super::lanes::{self, DueIndex};
use super::{catalogue, leased_batches, locks, paused, queue};
use crate::error::StoreError;
use crate::queue::{Finished, Leased, Next, Recorded, Recording};
use crate::rules::attempt::{self, AfterAttempt, DeliveryChange, DestinationChange, DestinationStatus};
use crate::rules::lane::{Advance, AdvanceTerms};

/// The state of recording one batch of results.
struct Recorder<'a> {
    clock: &'a ServerClock,
    recording: Recording,
    /// Whether the lock for changes of the catalogue is held: see [`finish`].
    changes: &'a AtomicBool,
    closing: Closing,
    due_index: DueIndex,
    reopened: Vec<leased_batches::Reopened>,
    /// Destinations of reopened deliveries that are not deleted.
    existing: std::collections::HashSet<i64>,
}

/// Records the results of attempts. If `changes` is set, the transaction takes the lock for changes of the catalogue
/// from the start. Few results disable a destination. If one does and the lock is not held, `changes` is set and the
/// call fails with [`StoreError::Locked`], so that the transaction is run again.
pub(super) async fn finish(
    db: &mut PgConnection,
    batch: &[Finished],
    recording: Recording,
    clock: &ServerClock,
    changes: &AtomicBool,
) -> Result<Vec<Recorded>, StoreError> {
    if changes.load(Ordering::Relaxed) {
        locks::change_catalogue(db).await?;
    } else {
        locks::hold_catalogue(db).await?;
    }
    let leased: Vec<&Leased> = batch.iter().map(|finished| &finished.delivery).collect();
    let ordered: Vec<&Leased> = leased.iter().copied().filter(|leased| leased.ordered && !leased.in_batch).collect();
    queue::hold_lanes_of(db, &ordered).await?;
    let taken = leased_batches::take_out(db, &leased).await?;
    let retried = batch.iter().zip(&taken).filter(|(end, taken)| **taken && matches!(end.next, Next::Retry(_)));
    let existing = catalogue::existing(db, retried.map(|(end, _)| end.delivery.key.destination)).await?;
    let (closing, due_index, reopened) = (Closing::default(), DueIndex::default(), Vec::new());
    let mut recorder = Recorder { clock, recording, changes, closing, due_index, reopened, existing };
    let mut out = Vec::with_capacity(batch.len());
    for (finished, taken) in batch.iter().zip(taken) {
        out.push(recorder.record(db, finished, taken).await?);
    }
    let Recorder { mut closing, mut due_index, reopened, existing, .. } = recorder;
    leased_batches::reopen(db, reopened, &existing, recording.wall, &mut closing, &mut due_index).await?;
    closing.write(db).await?;
    due_index.write(db).await?;
    paused::record(db, batch, clock).await?;
    Ok(out)
}

impl Recorder<'_> {
    /// Records the result of an attempt. `taken`: the delivery was taken out of its leased batch.
    async fn record(&mut self, db: &mut PgConnection, end: &Finished, taken: bool) -> Result<Recorded, StoreError> {
        let (leased, key) = (&end.delivery, &end.delivery.key);
        if leased.in_batch && !taken {
            return Ok(attempt::stale());
        }
        let AfterAttempt { delivery, destination, attempts } = attempt::after(end);
        let error = end.attempt.as_ref().and_then(|attempt| attempt.error.as_deref()).map(closing::text);
        let wall = self.recording.wall;
        let lane = match delivery {
            DeliveryChange::Reopen(due) => {
                let due = self.clock.server(due);
                if taken {
                    let is_gone = !self.existing.contains(&key.destination.0);
                    self.reopened.push(leased_batches::Reopened { key: key.clone(), due, attempts, last_error: error });
                    if is_gone {
                        self.keep_attempt(end);
                        return Ok(Recorded::default());
                    }
                } else {
                    let token = leased.lease.token;
                    if !lanes::reschedule(db, key, token, due, attempts, error, &mut self.due_index).await? {
                        return Ok(attempt::stale());
                    }
                }
                self.keep_attempt(end);
                None
            }
            DeliveryChange::Close { state, first } => {
                let lane = if taken { Some(None) } else { take_out(db, leased).await? };
                let Some(lane) = lane else { return Ok(attempt::stale()) };
                match first {
                    Some(attempt) => self.closing.close_at_first(key, attempt.clone(), wall),
                    None => {
                        self.closing.close(key, state, attempts, wall, error.as_deref());
                        self.keep_attempt(end);
                    }
                }
                lane
            }
        };
        let status = match destination {
            DestinationChange::Nothing => DestinationStatus::Enabled,
            DestinationChange::ClearFailures => {
                catalogue::clear_failures(db, key.destination).await?;
                DestinationStatus::Enabled
            }
            DestinationChange::NoteFailure => self.failed(db, end).await?,
        };
        let advance = match lane {
            Some(lane) => {
                let recording = Recording { now: self.clock.server(self.recording.now), ..self.recording };
                let terms = AdvanceTerms::after(end, &recording, status == DestinationStatus::Enabled);
                let until = self.clock.server(recording.lease.until);
                lanes::advance(db, key.destination, &lane, &terms, until, &mut self.due_index).await?
            }
            None => Advance::Nothing,
        };
        let recorded = attempt::recorded(status, advance);
        Ok(Recorded { lane_due: recorded.lane_due.map(|due| self.clock.caller(due)), ..recorded })
    }

    /// Adds the attempt, with its times in the server's time.
    fn keep_attempt(&mut self, end: &Finished) {
        let attempt = end.attempt.clone().map(|a| Attempt { next_at: a.next_at.map(|at| self.clock.server(at)), ..a });
        self.closing.attempt(&end.delivery.key, attempt);
    }

    /// Records a failure of the destination, and disables it if it has to be.
    async fn failed(&mut self, db: &mut PgConnection, end: &Finished) -> Result<DestinationStatus, StoreError> {
        let destination = end.delivery.key.destination;
        let reason = match end.disable {
            Some(reason) => Some(reason),
            None => {
                let row = sql("INSERT INTO failing (destination, since) VALUES ($1, $2)
                     ON CONFLICT (destination) DO UPDATE SET since = least(failing.since, excluded.since)
                     RETURNING since")
                .bind(destination.0)
                .bind(self.recording.wall)
                .fetch_one(&mut *db)
                .await?;
                attempt::failing_reason(row.try_get(0)?, self.recording.disable_failing_since)
            }
        };
        let Some(reason) = reason else { return Ok(DestinationStatus::Enabled) };
        if !catalogue::enabled(db, destination).await? {
            return Ok(DestinationStatus::DisabledBefore);
        }
        if !self.changes.swap(true, Ordering::Relaxed) {
            return Err(StoreError::Locked);
        }
        let event = sql("SELECT name FROM event WHERE no = $1").bind(end.delivery.key.event.0);
        let event = event.fetch_optional(&mut *db).await?;
        let announce = attempt::announces_disabling(event.as_ref().map(|row| row.try_get(0)).transpose()?);
        catalogue::disable(db, destination, reason, self.recording.wall, announce, &mut self.due_index).await?;
        Ok(DestinationStatus::DisabledNow)
    }
}

/// Removes an open delivery. Returns the lane that it was the head of; the outer `None` if the lease was lost.
#[allow(clippy::option_option, reason = "the outer option is whether it was there, the inner its lane")]
async fn take_out(db: &mut PgConnection, leased: &Leased) -> Result<Option<Option<String>>, StoreError> {
    let row =
        sql("DELETE FROM delivery WHERE app = $1 AND event = $2 AND destination = $3 AND lease = $4 RETURNING lane")
            .bind(leased.key.app.as_str().to_owned())
            .bind(leased.key.event.0)
            .bind(leased.key.destination.0)
            .bind(leased.lease.token.0)
            .fetch_optional(db)
            .await?;
    Ok(row.map(|row| row.try_get(0)).transpose()?)
}
