//! Fan-out: a row that stands for the deliveries of an event with many destinations, and writing those slice by slice.
//!
//! A slice and the cursor that counts it are one transaction, so a crash between slices repeats nothing and leaves
//! nothing out. One node expands at a time: rows of an app are expanded in the order of their events, so lanes are too.

use sqlx::postgres::PgRow;
use sqlx::{PgConnection, Row};
use tidings_model::clock::Millis;
use tidings_model::delivery::DeliveryState;
use tidings_model::id::{AppId, DeliveryKey, EventNo};

use super::closing::Closing;
use super::connect::sql;
use super::lanes::{self, DueIndex, NewDelivery, Placement};
use super::{catalogue, locks};
use crate::destinations;
use crate::error::StoreError;
use crate::log::{Lane, Lease};
use crate::queue::{Expanded, FanoutTurn, Leased};

/// How many deliveries one slice writes: few enough that a lane's lock is soon free again.
pub(super) const SLICE: usize = 500;

/// The oldest row of the first app after another.
async fn oldest(db: &mut PgConnection, after: &str) -> Result<Option<PgRow>, StoreError> {
    let statement = "SELECT event, app, key, not_before, cursor, destinations FROM fanout WHERE app > $1
        ORDER BY app, event LIMIT 1";
    Ok(sql(statement).bind(after).fetch_optional(db).await?)
}

/// Writes one slice of the deliveries of the oldest fan-out row of the app whose turn it is. `until` is the lease's end in
/// the server's time, as `now` is.
pub(super) async fn expand(
    db: &mut PgConnection,
    now: Millis,
    turn: &FanoutTurn,
    lease: Lease,
    until: Millis,
    slice: usize,
) -> Result<Expanded, StoreError> {
    let mut out = Expanded::default();
    locks::hold_catalogue(db).await?;
    locks::fanout(db).await?;
    let after = turn.after.as_ref().map_or("", AppId::as_str);
    let row = match oldest(db, after).await? {
        None if !after.is_empty() => oldest(db, "").await?,
        row => row,
    };
    let Some(row) = row else { return Ok(out) };
    let (event, app) = (EventNo(row.try_get(0)?), AppId::from(row.try_get::<String, _>(1)?));
    out.app = Some(app.clone());
    let (key, not_before): (Option<String>, Option<Millis>) = (row.try_get(2)?, row.try_get(3)?);
    let cursor =
        usize::try_from(row.try_get::<i64, _>(4)?).map_err(|_| StoreError::Corrupt("a fan-out row".to_owned()))?;
    let set = destinations::decode(row.try_get(5)?)?;
    let end = (cursor + slice).min(set.len());
    out.written = end - cursor.min(end);
    let part = set.get(cursor..end).unwrap_or_default();
    let named = |lane: Lane| lane.name(key.as_deref());
    locks::lanes(db, locks::stripes(part.iter().filter_map(|(no, lane)| Some((*no, named(*lane)?))))).await?;
    let there = catalogue::there(db, part.iter().map(|(no, _)| *no)).await?;
    let (open, gone): (Vec<_>, Vec<_>) = part.iter().copied().partition(|(no, _)| there.contains(&no.0));

    let mut closing = Closing::default();
    for (destination, _) in gone {
        let key = DeliveryKey { app: app.clone(), event, destination };
        closing.close(&key, DeliveryState::Canceled, 0, now, None);
    }
    let mut due_index = DueIndex::default();
    let server_lease = Lease { token: lease.token, until };
    let mut from = 0;
    // Deliveries that wait in their lanes take up none of those that are wanted fresh.
    while from < open.len() {
        let room = turn.fresh - out.leased.len();
        let to = if room == 0 { open.len() } else { (from + room).min(open.len()) };
        let new: Vec<NewDelivery<'_>> = open[from..to]
            .iter()
            .map(|&(destination, lane)| NewDelivery {
                app: &app,
                event,
                destination,
                lane: named(lane),
                not_before,
                lease: (room > 0 && turn.has_room(&app, destination)).then_some(server_lease),
                now,
            })
            .collect();
        let placements = lanes::insert(db, &new, &mut due_index).await?;
        for (&(destination, lane), placement) in open[from..to].iter().zip(placements) {
            match placement {
                Placement::Leased => out.leased.push(Leased {
                    key: DeliveryKey { app: app.clone(), event, destination },
                    attempts: 0,
                    forgiven: 0,
                    ordered: lane != Lane::Own,
                    follows: false,
                    in_batch: false,
                    lease,
                }),
                Placement::Scheduled => out.queued |= turn.has_room(&app, destination),
                Placement::Waiting => {}
            }
        }
        from = to;
    }
    if end >= set.len() {
        sql("DELETE FROM fanout WHERE event = $1").bind(event.0).execute(&mut *db).await?;
        out.more = sql("SELECT EXISTS (SELECT 1 FROM fanout)").fetch_one(&mut *db).await?.try_get(0)?;
    } else {
        sql("UPDATE fanout SET cursor = $2 WHERE event = $1").bind(event.0).bind(end as i64).execute(&mut *db).await?;
        out.more = true;
    }
    closing.write(db).await?;
    due_index.write(db).await?;
    Ok(out)
}
