//! Expansion of fan-out rows: a row stands for the deliveries of an event with many destinations, which are written
//! slice by slice.
//!
//! A slice and its row's new cursor are one transaction, so a crash between slices repeats nothing and omits nothing.
//! One node expands at a time. An app's rows are expanded in the order of their events, so the order of lanes is kept.

use sqlx::{PgConnection, Row};
use tidings_model::clock::Millis;
use tidings_model::delivery::DeliveryState;
use tidings_model::id::{DeliveryKey, DestinationNo, EventNo};
use tidings_supervisor::Units;

use super::closing::Closing;
use super::connect::sql;
use super::lanes::{self, DueIndex};
use super::{catalogue, locks};
use crate::error::StoreError;
use crate::log::{Lane, Lease};
use crate::queue::{Expanded, FanoutTurn};
use crate::rows;
use crate::rules::fanout::{Expansion, FanoutRow, Slice, starting_points};
use crate::rules::placement::NewDelivery;

/// How many deliveries one slice writes. It is bounded, because the locks of their lanes are held until the commit.
pub(super) const SLICE: usize = 500;

/// The oldest row of the app that has the turn.
async fn next(db: &mut PgConnection, turn: &FanoutTurn) -> Result<Option<FanoutRow>, StoreError> {
    let statement = "SELECT event, app, key, not_before, cursor, destinations FROM fanout WHERE app > $1
        ORDER BY app, event LIMIT $2";
    // Enough to find one that is not parked.
    let most = turn.parked.len() as i64 + 1;
    for after in starting_points(turn) {
        for row in sql(statement).bind(after.to_owned()).bind(most).fetch_all(&mut *db).await? {
            if !turn.parked.contains(&EventNo(row.try_get("event")?)) {
                return rows::fanout(&row).map(Some);
            }
        }
    }
    Ok(None)
}

/// Writes one slice of the oldest fan-out row of the app that has the turn. `until` is the end of the lease in the
/// server's time, as `now` is.
pub(super) async fn expand(
    db: &mut PgConnection,
    now: Millis,
    turn: &FanoutTurn,
    lease: Lease,
    until: Millis,
    slice: usize,
    units: &Units,
) -> Result<Expanded, StoreError> {
    locks::hold_catalogue(db).await?;
    locks::fanout(db).await?;
    let Some(row) = next(db, turn).await? else { return Ok(Expanded::default()) };
    let written = units.catch_async(row.event.0, write(db, now, &row, turn, lease, until, slice)).await;
    written.map_err(StoreError::from).flatten().map_err(|error| error.of_fanout(row.event))
}

/// Writes one slice of a row.
async fn write(
    db: &mut PgConnection,
    now: Millis,
    row: &FanoutRow,
    turn: &FanoutTurn,
    lease: Lease,
    until: Millis,
    slice: usize,
) -> Result<Expanded, StoreError> {
    let slice = Slice::of(row, slice)?;
    let lane = |(no, lane): &(DestinationNo, Lane)| Some((*no, lane.name(row.key.as_deref())?));
    locks::lanes(db, locks::stripes(slice.part.iter().filter_map(lane))).await?;
    let existing = catalogue::existing(db, slice.part.iter().map(|(no, _)| *no)).await?;
    let (open, gone): (Vec<_>, Vec<_>) = slice.part.iter().copied().partition(|(no, _)| existing.contains(&no.0));

    let mut closing = Closing::default();
    for (destination, _) in gone {
        let key = DeliveryKey { app: row.app.clone(), event: row.event, destination };
        closing.close(&key, DeliveryState::Canceled, 0, now, None);
    }
    let mut due_index = DueIndex::default();
    let server_lease = Lease { token: lease.token, until };
    let mut expansion = Expansion::new(row, turn, lease, &slice);
    let mut left = &open[..];
    while !left.is_empty() {
        let (run, rest) = left.split_at(expansion.run(left.len()));
        let written = |one: &_| {
            let new = expansion.delivery(*one, now);
            NewDelivery { lease: new.lease.map(|_| server_lease), ..new }
        };
        let new: Vec<NewDelivery<'_>> = run.iter().map(written).collect();
        let placements = lanes::insert(db, &new, &mut due_index).await?;
        run.iter().zip(placements).for_each(|(one, placement)| expansion.placed(*one, placement));
        left = rest;
    }
    let more = match slice.next {
        Some(next) => {
            sql("UPDATE fanout SET cursor = $2 WHERE event = $1")
                .bind(row.event.0)
                .bind(next as i64)
                .execute(&mut *db)
                .await?;
            true
        }
        None => {
            sql("DELETE FROM fanout WHERE event = $1").bind(row.event.0).execute(&mut *db).await?;
            sql("SELECT EXISTS (SELECT 1 FROM fanout)").fetch_one(&mut *db).await?.try_get(0)?
        }
    };
    closing.write(db).await?;
    due_index.write(db).await?;
    Ok(expansion.end(more))
}
