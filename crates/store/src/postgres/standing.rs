//! How channels and their members stand.

use sqlx::postgres::PgRow;
use sqlx::{PgConnection, Row};
use tidings_model::clock::Millis;
use tidings_model::delivery::DeliveryState;
use tidings_model::id::{AppId, DeliveryKey, DestinationNo, EventNo};

use super::closing::Closing;
use super::connect::sql;
use super::lanes::{self, Dues};
use super::locks;
use crate::error::StoreError;
use crate::standing::{QUIET_AGE, SLICE, Standing, Step, Subject, Turn, Turned, step};

/// Writes a turn down; its steady time is the server's.
pub(super) async fn turn(db: &mut PgConnection, turn: &Turn) -> Result<Turned, StoreError> {
    let Subject { app, channel, user } = &turn.subject;
    let member = user.as_deref().unwrap_or_default();
    let is_quiet = turn.quiet && turn.present;
    let since = if is_quiet { turn.wall - QUIET_AGE } else { turn.wall };
    let written = sql("INSERT INTO standing (app, channel, member, present, number, event, told, changed_at)
         VALUES ($1, $2, $3, $4, $5, $6, $8, $7) ON CONFLICT (app, channel, member) DO NOTHING")
    .bind(app.as_str().to_owned())
    .bind(channel.clone())
    .bind(member.to_owned())
    .bind(turn.present && !is_quiet)
    .bind(turn.number)
    .bind(turn.event.clone())
    .bind(since)
    .bind(is_quiet)
    .execute(&mut *db)
    .await?
    .rows_affected();
    if written == 1 {
        return Ok(if is_quiet { Turned::Dropped } else { Turned::Tell });
    }
    let known = sql("SELECT app, channel, member, present, number, event, told, changed_at FROM standing
         WHERE app = $1 AND channel = $2 AND member = $3 FOR UPDATE")
    .bind(app.as_str().to_owned())
    .bind(channel.clone())
    .bind(member.to_owned())
    .fetch_optional(&mut *db)
    .await?;
    let Some(known) = known else {
        // Forgotten in between: it was gone long ago, and asking again writes it down.
        return Err(StoreError::Conflict);
    };
    let known = standing(&known)?;
    let (told, turned, present) = match step(turn, &known) {
        Step::Nothing(turned) => return Ok(turned),
        Step::Renumber => (known.told, Turned::Known, known.present),
        Step::TurnOrTakeBack if take_back(db, &known, turn).await? => (true, Turned::TakenBack, true),
        Step::Turn | Step::TurnOrTakeBack if is_quiet => (true, Turned::Dropped, false),
        Step::Turn | Step::TurnOrTakeBack => (false, Turned::Tell, turn.present),
    };
    let (event, since) = match turned {
        Turned::Known => (known.event, known.since),
        Turned::Dropped => (turn.event.clone(), since),
        _ => (turn.event.clone(), turn.wall),
    };
    sql("UPDATE standing SET present = $4, number = $5, event = $6, told = $7, changed_at = $8
         WHERE app = $1 AND channel = $2 AND member = $3")
    .bind(app.as_str().to_owned())
    .bind(channel.clone())
    .bind(member.to_owned())
    .bind(present)
    .bind(turn.number)
    .bind(event)
    .bind(told)
    .bind(since)
    .execute(db)
    .await?;
    Ok(turned)
}

/// Cancels what tells of a going, if nobody has heard of it and all of it is still to come.
async fn take_back(db: &mut PgConnection, gone: &Standing, turn: &Turn) -> Result<bool, StoreError> {
    if !gone.told {
        return Ok(false);
    }
    let app = turn.subject.app.as_str();
    let event = sql("SELECT no, deliveries FROM event WHERE app = $1 AND id = $2")
        .bind(app.to_owned())
        .bind(gone.event.clone())
        .fetch_optional(&mut *db)
        .await?;
    let event = event.map(|row| Ok::<_, sqlx::Error>((row.try_get(0)?, row.try_get(1)?))).transpose()?;
    let Some((event, deliveries)) = event.filter(|(_, deliveries): &(i64, i64)| *deliveries > 0) else {
        // Nobody is to hear of the going, so the coming is news only when the going was one.
        return Ok(turn.wall - gone.since < turn.window);
    };
    let open = sql("SELECT destination, lane FROM delivery WHERE app = $1 AND event = $2 AND lane IS NOT NULL")
        .bind(app.to_owned())
        .bind(event)
        .fetch_all(&mut *db)
        .await?;
    let in_lanes: Vec<(DestinationNo, String)> = open
        .iter()
        .map(|row| Ok((DestinationNo(row.try_get(0)?), row.try_get(1)?)))
        .collect::<Result<_, sqlx::Error>>()?;
    locks::lanes(db, locks::stripes(in_lanes.iter().map(|(no, lane)| (*no, lane.as_str())))).await?;
    let to_come = sql("SELECT destination, lane FROM delivery
         WHERE app = $1 AND event = $2 AND lease IS NULL AND attempts = 0 AND not_before > $3 FOR UPDATE")
    .bind(app.to_owned())
    .bind(event)
    .bind(turn.now)
    .fetch_all(&mut *db)
    .await?;
    if to_come.len() as i64 != deliveries {
        return Ok(false);
    }
    sql("DELETE FROM delivery WHERE app = $1 AND event = $2")
        .bind(app.to_owned())
        .bind(event)
        .execute(&mut *db)
        .await?;
    let (mut closing, mut dues) = (Closing::default(), Dues::default());
    for row in &to_come {
        let destination = DestinationNo(row.try_get(0)?);
        let key = DeliveryKey { app: AppId::from(app), event: EventNo(event), destination };
        closing.close(&key, DeliveryState::Canceled, 0, turn.wall, None);
        if let Some(lane) = row.try_get::<Option<String>, _>(1)? {
            let go = lanes::Go { lease: None, now: turn.now, batch: 1, gather: 0 };
            lanes::advance(db, destination, &lane, go, &mut dues).await?;
        }
        dues.refresh(destination);
    }
    closing.write(db).await?;
    dues.write(db).await?;
    Ok(true)
}

/// Notes that a turn has been told.
pub(super) async fn told(db: &mut PgConnection, subject: &Subject, number: i64) -> Result<(), StoreError> {
    // A later turn of the same kind may have moved the number on; what was told is how it stands all the same.
    sql(
        "UPDATE standing SET told = TRUE WHERE app = $1 AND channel = $2 AND member = $3 AND number >= $4 AND NOT told",
    )
    .bind(subject.app.as_str().to_owned())
    .bind(subject.channel.clone())
    .bind(subject.user.clone().unwrap_or_default())
    .bind(number)
    .execute(db)
    .await?;
    Ok(())
}

/// A page of what is there or not told.
pub(super) async fn standings(
    db: &mut PgConnection,
    after: Option<&Subject>,
    limit: usize,
) -> Result<Vec<Standing>, StoreError> {
    let (app, channel, member) = match after {
        Some(Subject { app, channel, user }) => (app.as_str(), channel.as_str(), user.as_deref().unwrap_or_default()),
        None => ("", "", ""),
    };
    let rows = sql("SELECT app, channel, member, present, number, event, told, changed_at FROM standing
         WHERE (present OR NOT told) AND (app, channel, member) > ($1, $2, $3) ORDER BY app, channel, member LIMIT $4")
    .bind(app.to_owned())
    .bind(channel.to_owned())
    .bind(member.to_owned())
    .bind(i64::try_from(limit).unwrap_or(i64::MAX))
    .fetch_all(db)
    .await?;
    rows.iter().map(standing).collect()
}

/// The highest number of any turn.
pub(super) async fn last(db: &mut PgConnection) -> Result<i64, StoreError> {
    Ok(sql("SELECT coalesce(MAX(number), 0) FROM standing").fetch_one(db).await?.try_get(0)?)
}

/// Forgets a slice of what is gone.
pub(super) async fn forget(db: &mut PgConnection, before: Millis) -> Result<bool, StoreError> {
    let forgotten = sql("DELETE FROM standing WHERE (app, channel, member) IN
         (SELECT app, channel, member FROM standing WHERE NOT present AND told AND changed_at < $1
          ORDER BY app, channel, member LIMIT $2 FOR UPDATE SKIP LOCKED)")
    .bind(before)
    .bind(SLICE as i64)
    .execute(db)
    .await?;
    Ok(forgotten.rows_affected() == SLICE as u64)
}

fn standing(row: &PgRow) -> Result<Standing, StoreError> {
    let user: String = row.try_get(2)?;
    Ok(Standing {
        subject: Subject {
            app: AppId::from(row.try_get::<String, _>(0)?),
            channel: row.try_get(1)?,
            user: (!user.is_empty()).then_some(user),
        },
        present: row.try_get(3)?,
        number: row.try_get(4)?,
        event: row.try_get(5)?,
        told: row.try_get(6)?,
        since: row.try_get(7)?,
    })
}
