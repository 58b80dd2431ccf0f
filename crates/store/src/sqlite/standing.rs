//! How channels and their members stand.

use rusqlite::{Connection, OptionalExtension, Row, params};
use tidings_model::clock::Millis;
use tidings_model::delivery::DeliveryState;
use tidings_model::id::{AppId, DeliveryKey, DestinationNo, EventNo};

use super::db::Db;
use super::{lanes, queue};
use crate::error::StoreError;
use crate::standing::{QUIET_AGE, SLICE, Standing, Step, Subject, Turn, Turned, step};

/// The statements of [`standings`] and [`forget`].
pub(super) const OPEN: &str = "SELECT app, channel, member, present, number, event, told, changed_at FROM standing
    WHERE (present = 1 OR told = 0) AND (app, channel, member) > (?1, ?2, ?3) ORDER BY app, channel, member LIMIT ?4";
pub(super) const FORGET: &str = "DELETE FROM standing WHERE (app, channel, member) IN
    (SELECT app, channel, member FROM standing WHERE present = 0 AND told = 1 AND changed_at < ?1 LIMIT ?2)";

/// Writes a turn down.
pub(super) fn turn(db: &Db, turn: &Turn) -> Result<Turned, StoreError> {
    let Subject { app, channel, user } = &turn.subject;
    let member = user.as_deref().unwrap_or_default();
    let known = db
        .prepare_cached(
            "SELECT app, channel, member, present, number, event, told, changed_at FROM standing
             WHERE app = ?1 AND channel = ?2 AND member = ?3",
        )?
        .query_row(params![app.as_str(), channel, member], standing)
        .optional()?;
    let (told, turned) = match known.as_ref().map_or(Step::Turn, |known| step(turn, known)) {
        Step::Nothing(turned) => return Ok(turned),
        Step::Renumber => {
            db.prepare_cached("UPDATE standing SET number = ?4 WHERE app = ?1 AND channel = ?2 AND member = ?3")?
                .execute(params![app.as_str(), channel, member, turn.number])?;
            return Ok(Turned::Known);
        }
        Step::TurnOrTakeBack if take_back(db, known.as_ref(), turn)? => (true, Turned::TakenBack),
        Step::Turn | Step::TurnOrTakeBack if turn.quiet && turn.present => (true, Turned::Dropped),
        Step::Turn | Step::TurnOrTakeBack => (false, Turned::Tell),
    };
    let is_dropped = turned == Turned::Dropped;
    let present = turn.present && !is_dropped;
    let since = if is_dropped { turn.wall - QUIET_AGE } else { turn.wall };
    db.prepare_cached(
        "INSERT OR REPLACE INTO standing (app, channel, member, present, number, event, told, changed_at)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
    )?
    .execute(params![app.as_str(), channel, member, present, turn.number, turn.event, told, since])?;
    Ok(turned)
}

/// Cancels what tells of a going, if nobody has heard of it and all of it is still to come.
fn take_back(db: &Db, gone: Option<&Standing>, turn: &Turn) -> Result<bool, StoreError> {
    let Some(gone) = gone.filter(|gone| gone.told) else { return Ok(false) };
    let event: Option<(i64, i64)> = db
        .prepare_cached("SELECT no, deliveries FROM event WHERE app = ?1 AND id = ?2")?
        .query_row(params![turn.subject.app.as_str(), gone.event], |row| Ok((row.get(0)?, row.get(1)?)))
        .optional()?;
    let Some((event, deliveries)) = event.filter(|(_, deliveries)| *deliveries > 0) else {
        // Nobody is to hear of the going, so the coming is news only when the going was one.
        return Ok(turn.wall - gone.since < turn.window);
    };
    let app = turn.subject.app.as_str();
    let to_come: Vec<(i64, Option<String>)> = {
        let mut statement = db.prepare_cached(
            "SELECT destination, lane FROM delivery
             WHERE app = ?1 AND event = ?2 AND lease IS NULL AND attempts = 0 AND not_before > ?3",
        )?;
        let rows = statement.query_map(params![app, event, turn.now], |row| Ok((row.get(0)?, row.get(1)?)))?;
        rows.collect::<Result<_, _>>()?
    };
    if to_come.len() as i64 != deliveries {
        return Ok(false);
    }
    for (destination, lane) in to_come {
        let no = DestinationNo(destination);
        let key = DeliveryKey { app: AppId::from(app), event: EventNo(event), destination: no };
        db.prepare_cached("DELETE FROM delivery WHERE app = ?1 AND event = ?2 AND destination = ?3")?
            .execute(params![app, event, destination])?;
        db.count_deliveries(-1);
        queue::close(db, &key, DeliveryState::Canceled, 0, turn.wall, None)?;
        if let Some(lane) = lane {
            lanes::advance(db, no, &lane, lanes::Go { lease: None, now: turn.now, batch: 1, gather: 0 })?;
        }
        lanes::refresh_due(db, no)?;
    }
    Ok(true)
}

/// Notes that a turn has been told.
pub(super) fn told(db: &Connection, subject: &Subject, number: i64) -> Result<(), StoreError> {
    // A later turn of the same kind may have moved the number on; what was told is how it stands all the same.
    db.prepare_cached(
        "UPDATE standing SET told = 1 WHERE app = ?1 AND channel = ?2 AND member = ?3 AND number >= ?4 AND told = 0",
    )?
    .execute(params![
        subject.app.as_str(),
        subject.channel,
        subject.user.as_deref().unwrap_or_default(),
        number
    ])?;
    Ok(())
}

/// A page of what is there or not told.
pub(super) fn standings(db: &Connection, after: Option<&Subject>, limit: usize) -> Result<Vec<Standing>, StoreError> {
    let (app, channel, member) = match after {
        Some(Subject { app, channel, user }) => (app.as_str(), channel.as_str(), user.as_deref().unwrap_or_default()),
        None => ("", "", ""),
    };
    let mut statement = db.prepare_cached(OPEN)?;
    let rows = statement.query_map(params![app, channel, member, limit], standing)?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// The highest number of any turn.
pub(super) fn last(db: &Connection) -> Result<i64, StoreError> {
    Ok(db.query_row("SELECT coalesce(MAX(number), 0) FROM standing", [], |row| row.get(0))?)
}

/// Forgets a slice of what is gone.
pub(super) fn forget(db: &Connection, before: Millis) -> Result<bool, StoreError> {
    Ok(db.prepare_cached(FORGET)?.execute(params![before, SLICE])? == SLICE)
}

fn standing(row: &Row<'_>) -> rusqlite::Result<Standing> {
    let user: String = row.get(2)?;
    Ok(Standing {
        subject: Subject {
            app: AppId::from(row.get::<_, String>(0)?),
            channel: row.get(1)?,
            user: (!user.is_empty()).then_some(user),
        },
        present: row.get(3)?,
        number: row.get(4)?,
        event: row.get(5)?,
        told: row.get(6)?,
        since: row.get(7)?,
    })
}
