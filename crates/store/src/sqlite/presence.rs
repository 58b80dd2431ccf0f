//! The presence journal (table `standing`).

use rusqlite::{Connection, OptionalExtension, params};
use tidings_model::clock::Millis;
use tidings_model::delivery::DeliveryState;
use tidings_model::id::{AppId, DeliveryKey, DestinationNo, EventNo};

use super::db::Db;
use super::{closed, lanes};
use crate::error::StoreError;
use crate::presence::{Applied, PresenceChange, PresenceKey, PresenceRecord, SLICE};
use crate::rows::{self, by_name};
use crate::rules::lane::AdvanceTerms;
use crate::rules::presence::{self, departure_to_revert, is_within_window};

/// The statements of [`records`] and [`forget`].
pub(super) const OPEN: &str = "SELECT app, channel, member, present, number, event, told, changed_at FROM standing
    WHERE (present = 1 OR told = 0) AND (app, channel, member) > (?1, ?2, ?3) ORDER BY app, channel, member LIMIT ?4";
pub(super) const FORGET: &str = "DELETE FROM standing WHERE (app, channel, member) IN
    (SELECT app, channel, member FROM standing WHERE present = 0 AND told = 1 AND changed_at < ?1 LIMIT ?2)";

/// Records a change.
pub(super) fn apply(db: &Db, change: &PresenceChange) -> Result<Applied, StoreError> {
    let PresenceKey { app, channel, user } = &change.key;
    let member = user.as_deref().unwrap_or_default();
    let mut statement = db.prepare_cached(
        "SELECT app, channel, member, present, number, event, told, changed_at FROM standing
         WHERE app = ?1 AND channel = ?2 AND member = ?3",
    )?;
    let known = statement
        .query_and_then(params![app.as_str(), channel, member], |row| rows::presence(&by_name(row)))?
        .next()
        .transpose()?;
    let reverted = match departure_to_revert(change, known.as_ref()) {
        Some(departure) => revert(db, departure, change)?,
        None => false,
    };
    let (applied, record) = presence::apply(change, known.as_ref(), reverted);
    if let Some(new) = record {
        db.prepare_cached(
            "INSERT OR REPLACE INTO standing (app, channel, member, present, number, event, told, changed_at)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
        )?
        .execute(params![
            app.as_str(),
            channel,
            member,
            new.present,
            new.number,
            new.event,
            new.announced,
            new.since
        ])?;
    }
    Ok(applied)
}

/// Cancels the deliveries that announce a departure, if all of them are still pending and none was attempted.
fn revert(db: &Db, gone: &PresenceRecord, change: &PresenceChange) -> Result<bool, StoreError> {
    let event: Option<(i64, i64)> = db
        .prepare_cached("SELECT no, deliveries FROM event WHERE app = ?1 AND id = ?2")?
        .query_row(params![change.key.app.as_str(), gone.event], |row| Ok((row.get(0)?, row.get(1)?)))
        .optional()?;
    let Some((event, deliveries)) = event.filter(|(_, deliveries)| *deliveries > 0) else {
        return Ok(is_within_window(change, gone));
    };
    let app = change.key.app.as_str();
    let pending: Vec<(i64, Option<String>)> = {
        let mut statement = db.prepare_cached(
            "SELECT destination, lane FROM delivery
             WHERE app = ?1 AND event = ?2 AND lease IS NULL AND attempts = 0 AND not_before > ?3",
        )?;
        let rows = statement.query_map(params![app, event, change.now], |row| Ok((row.get(0)?, row.get(1)?)))?;
        rows.collect::<Result<_, _>>()?
    };
    if pending.len() as i64 != deliveries {
        return Ok(false);
    }
    for (destination, lane) in pending {
        let no = DestinationNo(destination);
        let key = DeliveryKey { app: AppId::from(app), event: EventNo(event), destination: no };
        db.prepare_cached("DELETE FROM delivery WHERE app = ?1 AND event = ?2 AND destination = ?3")?
            .execute(params![app, event, destination])?;
        db.count_deliveries(-1);
        closed::close(db, &key, DeliveryState::Canceled, 0, change.wall, None)?;
        if let Some(lane) = lane {
            lanes::advance(db, no, &lane, &AdvanceTerms::without_lease(change.now))?;
        }
        lanes::refresh_due(db, no)?;
    }
    Ok(true)
}

/// Marks a change as announced.
pub(super) fn mark_announced(db: &Connection, key: &PresenceKey, number: i64) -> Result<(), StoreError> {
    // A later change to the same state may have raised the number. The announcement is still valid for it.
    db.prepare_cached(
        "UPDATE standing SET told = 1 WHERE app = ?1 AND channel = ?2 AND member = ?3 AND number >= ?4 AND told = 0",
    )?
    .execute(params![key.app.as_str(), key.channel, key.user.as_deref().unwrap_or_default(), number])?;
    Ok(())
}

/// A page of the records that are present or not announced.
pub(super) fn records(
    db: &Connection,
    after: Option<&PresenceKey>,
    limit: usize,
) -> Result<Vec<PresenceRecord>, StoreError> {
    let (app, channel, member) = match after {
        Some(PresenceKey { app, channel, user }) => {
            (app.as_str(), channel.as_str(), user.as_deref().unwrap_or_default())
        }
        None => ("", "", ""),
    };
    let mut statement = db.prepare_cached(OPEN)?;
    statement.query_and_then(params![app, channel, member, limit], |row| rows::presence(&by_name(row)))?.collect()
}

/// The highest number of any change.
pub(super) fn last(db: &Connection) -> Result<i64, StoreError> {
    Ok(db.query_row("SELECT coalesce(MAX(number), 0) FROM standing", [], |row| row.get(0))?)
}

/// Deletes a slice of the records that are absent and announced.
pub(super) fn forget(db: &Connection, before: Millis) -> Result<bool, StoreError> {
    Ok(db.prepare_cached(FORGET)?.execute(params![before, SLICE])? == SLICE)
}
