//! The presence journal (table `standing`).

use sqlx::{PgConnection, Row};
use tidings_model::clock::Millis;
use tidings_model::delivery::DeliveryState;
use tidings_model::id::{AppId, DeliveryKey, DestinationNo, EventNo};

use super::closing::Closing;
use super::connect::sql;
use super::lanes::{self, DueIndex};
use super::locks;
use crate::error::StoreError;
use crate::presence::{Applied, PresenceChange, PresenceKey, PresenceRecord, SLICE};
use crate::rows;
use crate::rules::lane::AdvanceTerms;
use crate::rules::presence::{self, departure_to_revert, is_within_window};

/// Records a change. Its steady time is in the server's time.
pub(super) async fn apply(db: &mut PgConnection, change: &PresenceChange) -> Result<Applied, StoreError> {
    let PresenceKey { app, channel, user } = &change.key;
    let member = user.as_deref().unwrap_or_default();
    // Inserted first and only then read, so that of two nodes with the same new key one finds the other's record.
    let (applied, record) = presence::apply(change, None, false);
    if let Some(new) = record {
        let written = sql("INSERT INTO standing (app, channel, member, present, number, event, told, changed_at)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8) ON CONFLICT (app, channel, member) DO NOTHING")
        .bind(app.as_str().to_owned())
        .bind(channel.clone())
        .bind(member.to_owned())
        .bind(new.present)
        .bind(new.number)
        .bind(new.event)
        .bind(new.announced)
        .bind(new.since)
        .execute(&mut *db)
        .await?
        .rows_affected();
        if written == 1 {
            return Ok(applied);
        }
    }
    let known = sql("SELECT app, channel, member, present, number, event, told, changed_at FROM standing
         WHERE app = $1 AND channel = $2 AND member = $3 FOR UPDATE")
    .bind(app.as_str().to_owned())
    .bind(channel.clone())
    .bind(member.to_owned())
    .fetch_optional(&mut *db)
    .await?;
    let Some(known) = known else {
        // `forget` has deleted it in between, since it was absent for long. A second call records the change.
        return Err(StoreError::Conflict);
    };
    let known = rows::presence(&known)?;
    let reverted = match departure_to_revert(change, Some(&known)) {
        Some(departure) => revert(db, departure, change).await?,
        None => false,
    };
    let (applied, record) = presence::apply(change, Some(&known), reverted);
    if let Some(new) = record {
        sql("UPDATE standing SET present = $4, number = $5, event = $6, told = $7, changed_at = $8
             WHERE app = $1 AND channel = $2 AND member = $3")
        .bind(app.as_str().to_owned())
        .bind(channel.clone())
        .bind(member.to_owned())
        .bind(new.present)
        .bind(new.number)
        .bind(new.event)
        .bind(new.announced)
        .bind(new.since)
        .execute(db)
        .await?;
    }
    Ok(applied)
}

/// Cancels the deliveries that announce a departure, if all of them are still pending and none was attempted.
async fn revert(db: &mut PgConnection, gone: &PresenceRecord, change: &PresenceChange) -> Result<bool, StoreError> {
    let app = change.key.app.as_str();
    let event = sql("SELECT no, deliveries FROM event WHERE app = $1 AND id = $2")
        .bind(app.to_owned())
        .bind(gone.event.clone())
        .fetch_optional(&mut *db)
        .await?;
    let event = event.map(|row| Ok::<_, sqlx::Error>((row.try_get(0)?, row.try_get(1)?))).transpose()?;
    let Some((event, deliveries)) = event.filter(|(_, deliveries): &(i64, i64)| *deliveries > 0) else {
        return Ok(is_within_window(change, gone));
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
    let pending = sql("SELECT destination, lane FROM delivery
         WHERE app = $1 AND event = $2 AND lease IS NULL AND attempts = 0 AND not_before > $3 FOR UPDATE")
    .bind(app.to_owned())
    .bind(event)
    .bind(change.now)
    .fetch_all(&mut *db)
    .await?;
    if pending.len() as i64 != deliveries {
        return Ok(false);
    }
    sql("DELETE FROM delivery WHERE app = $1 AND event = $2")
        .bind(app.to_owned())
        .bind(event)
        .execute(&mut *db)
        .await?;
    let (mut closing, mut due_index) = (Closing::default(), DueIndex::default());
    for row in &pending {
        let destination = DestinationNo(row.try_get(0)?);
        let key = DeliveryKey { app: AppId::from(app), event: EventNo(event), destination };
        closing.close(&key, DeliveryState::Canceled, 0, change.wall, None);
        if let Some(lane) = row.try_get::<Option<String>, _>(1)? {
            // Nothing is leased, so `until` is not used.
            let (terms, until) = (AdvanceTerms::without_lease(change.now), change.now);
            lanes::advance(db, destination, &lane, &terms, until, &mut due_index).await?;
        }
        due_index.refresh(destination);
    }
    closing.write(db).await?;
    due_index.write(db).await?;
    Ok(true)
}

/// Marks a change as announced.
pub(super) async fn mark_announced(db: &mut PgConnection, key: &PresenceKey, number: i64) -> Result<(), StoreError> {
    // A later change to the same state may have raised the number. The announcement is still valid for it.
    sql(
        "UPDATE standing SET told = TRUE WHERE app = $1 AND channel = $2 AND member = $3 AND number >= $4 AND NOT told",
    )
    .bind(key.app.as_str().to_owned())
    .bind(key.channel.clone())
    .bind(key.user.clone().unwrap_or_default())
    .bind(number)
    .execute(db)
    .await?;
    Ok(())
}

/// A page of the records that are present or not announced.
pub(super) async fn records(
    db: &mut PgConnection,
    after: Option<&PresenceKey>,
    limit: usize,
) -> Result<Vec<PresenceRecord>, StoreError> {
    let (app, channel, member) = match after {
        Some(PresenceKey { app, channel, user }) => {
            (app.as_str(), channel.as_str(), user.as_deref().unwrap_or_default())
        }
        None => ("", "", ""),
    };
    let found = sql("SELECT app, channel, member, present, number, event, told, changed_at FROM standing
         WHERE (present OR NOT told) AND (app, channel, member) > ($1, $2, $3) ORDER BY app, channel, member LIMIT $4")
    .bind(app.to_owned())
    .bind(channel.to_owned())
    .bind(member.to_owned())
    .bind(i64::try_from(limit).unwrap_or(i64::MAX))
    .fetch_all(db)
    .await?;
    found.iter().map(rows::presence).collect()
}

/// The highest number of any change.
pub(super) async fn last(db: &mut PgConnection) -> Result<i64, StoreError> {
    Ok(sql("SELECT coalesce(MAX(number), 0) FROM standing").fetch_one(db).await?.try_get(0)?)
}

/// Deletes a slice of the records that are absent and announced.
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
