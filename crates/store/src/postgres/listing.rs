//! Lists of deliveries and attempts, and retries by hand. Times are the server's: `store` converts them to the
//! caller's.

use futures_util::TryStreamExt as _;
use sqlx::{PgConnection, Row};
use tidings_model::clock::Millis;
use tidings_model::delivery::{Attempt, DeliveryState};
use tidings_model::id::{AppId, DeliveryKey};

use super::connect::sql;
use super::lanes::DueIndex;
use super::{catalogue, leased_batches, locks};
use crate::error::StoreError;
use crate::page::{Page, Paged};
use crate::queue::{AttemptRange, DeliveryFilter, DeliveryRow, Depth, Retried};
use crate::rows;
use crate::rules::{listing as rules, placement};

/// The statements that list the two tables. A parameter that is NULL excludes nothing. Each call is planned anew, with
/// the parameters' values, so conditions on NULL parameters cost nothing.
const OPEN: &str = "SELECT d.app, d.event, d.destination, 'pending' AS state, d.attempts, d.due,
         NULL::bigint AS closed_at, d.last_error,
         coalesce(e.id, '') AS event_id, coalesce(e.name, '') AS event_name, coalesce(l.id, '') AS listener
    FROM delivery d LEFT JOIN event e ON e.no = d.event LEFT JOIN listener l ON l.no = d.destination
    WHERE d.app = $1 AND ($2::bigint IS NULL OR d.event = $2) AND ($3::bigint IS NULL OR d.destination = $3)
    AND (d.event, d.destination) < ($4, $5) AND $6::text IS NULL
    ORDER BY d.event DESC, d.destination DESC LIMIT $7";

const CLOSED: &str =
    "SELECT d.app, d.event, d.destination, d.state, d.attempts, NULL::bigint AS due, d.closed_at, d.last_error,
         coalesce(e.id, '') AS event_id, coalesce(e.name, '') AS event_name, coalesce(l.id, '') AS listener
    FROM closed d LEFT JOIN event e ON e.no = d.event LEFT JOIN listener l ON l.no = d.destination
    WHERE d.app = $1 AND ($2::bigint IS NULL OR d.event = $2) AND ($3::bigint IS NULL OR d.destination = $3)
    AND (d.event, d.destination) < ($4, $5) AND ($6::text IS NULL OR d.state = $6)
    ORDER BY d.event DESC, d.destination DESC LIMIT $7";

/// A page of deliveries, newest event first: the open ones, with those in leased batches, and the closed ones merged.
pub(super) async fn deliveries(
    db: &mut PgConnection,
    app: &AppId,
    filter: &DeliveryFilter,
) -> Result<Vec<DeliveryRow>, StoreError> {
    let mut out = Vec::new();
    if rules::has_open(filter) {
        out.extend(page(db, OPEN, app, filter, None).await?);
        out.extend(leased_batches::page(db, app, filter).await?);
    }
    if rules::has_ended(filter) {
        out.extend(page(db, CLOSED, app, filter, filter.state).await?);
    }
    Ok(rules::merge(out, filter.limit))
}

async fn page(
    db: &mut PgConnection,
    text: &'static str,
    app: &AppId,
    filter: &DeliveryFilter,
    state: Option<DeliveryState>,
) -> Result<Vec<DeliveryRow>, StoreError> {
    let (event, destination) = rules::before(filter);
    let found = sql(text)
        .bind(app.as_str().to_owned())
        .bind(filter.event.map(|no| no.0))
        .bind(filter.destination.map(|no| no.0))
        .bind(event.0)
        .bind(destination.0)
        .bind(state.map(|state| state.as_str().to_owned()))
        .bind(i64::try_from(filter.limit).unwrap_or(i64::MAX))
        .fetch_all(db)
        .await?;
    found.iter().map(rows::delivery).collect()
}

/// One delivery.
pub(super) async fn delivery(db: &mut PgConnection, key: &DeliveryKey) -> Result<Option<DeliveryRow>, StoreError> {
    let filter = DeliveryFilter {
        event: Some(key.event),
        destination: Some(key.destination),
        limit: 1,
        ..DeliveryFilter::default()
    };
    Ok(deliveries(db, &key.app, &filter).await?.pop())
}

/// A page of the attempts of a delivery, oldest first. If the first attempt delivered it, the closed row holds it.
pub(super) async fn attempts(
    db: &mut PgConnection,
    key: &DeliveryKey,
    range: AttemptRange,
) -> Result<Page<Attempt>, StoreError> {
    // Attempts have no column `app`: the delivery proves that they belong to it.
    if delivery(db, key).await?.is_none() {
        return Err(StoreError::Missing);
    }
    let mut page = Paged::new(range.limit, range.bytes);
    // Row by row, so that rows beyond the page are not held in memory.
    let mut found = sql(
        "SELECT n, started_at, duration_us, outcome, status, error, remote, next_at, response_headers, response_body
         FROM attempt WHERE event = $1 AND destination = $2 AND n > $4
         UNION ALL
         SELECT 1, started_at, duration_us, 'delivered', status, NULL, remote, NULL, NULL, coalesce(response_body, '')
         FROM closed WHERE app = $3 AND event = $1 AND destination = $2 AND started_at IS NOT NULL AND $4 < 1
         ORDER BY 1 LIMIT $5",
    )
    .bind(key.event.0)
    .bind(key.destination.0)
    .bind(key.app.as_str().to_owned())
    .bind(i64::from(range.after))
    .bind(page.rows_to_read())
    .fetch(db);
    while let Some(row) = found.try_next().await? {
        if !page.take(rows::attempt(&row)?, Attempt::weight) {
            break;
        }
    }
    drop(found);
    Ok(page.end())
}

/// Makes a delivery due now. One that has ended is opened again, in no lane, and its schedule starts anew.
pub(super) async fn retry(db: &mut PgConnection, key: &DeliveryKey, now: Millis) -> Result<Retried, StoreError> {
    locks::hold_catalogue(db).await?;
    let (app, event, destination) = (key.app.as_str(), key.event.0, key.destination.0);
    let open = sql("SELECT due IS NOT NULL, lease IS NOT NULL FROM delivery WHERE app = $1 AND event = $2
                    AND destination = $3 FOR UPDATE")
    .bind(app.to_owned())
    .bind(event)
    .bind(destination)
    .fetch_optional(&mut *db)
    .await?;
    let open: Option<(bool, bool)> =
        open.map(|row| Ok::<_, sqlx::Error>((row.try_get(0)?, row.try_get(1)?))).transpose()?;
    match open.map(|(is_scheduled, is_leased)| placement::retry(is_scheduled, is_leased)) {
        Some(Retried::Due) => {
            sql("UPDATE delivery SET due = $4 WHERE app = $1 AND event = $2 AND destination = $3")
                .bind(app.to_owned())
                .bind(event)
                .bind(destination)
                .bind(now)
                .execute(&mut *db)
                .await?;
        }
        Some(refused) => return Ok(refused),
        None if leased_batches::holds(db, key).await? => return Ok(Retried::UnderWay),
        None => {
            if catalogue::existing(db, std::iter::once(key.destination)).await?.is_empty() {
                return Err(StoreError::Missing);
            }
            reopen(db, key, now).await?;
        }
    }
    let mut due_index = DueIndex::default();
    due_index.note(key.destination, now);
    due_index.write(db).await?;
    Ok(Retried::Due)
}

/// Reopens a delivery that has ended.
async fn reopen(db: &mut PgConnection, key: &DeliveryKey, now: Millis) -> Result<(), StoreError> {
    // Keeps retention from deleting the event meanwhile.
    sql("SELECT 1 FROM event WHERE no = $1 FOR SHARE").bind(key.event.0).execute(&mut *db).await?;
    sql("INSERT INTO attempt (event, destination, n, started_at, duration_us, outcome, status, remote, response_body)
         SELECT event, destination, 1, started_at, duration_us, 'delivered', status, remote, coalesce(response_body, '')
         FROM closed WHERE app = $1 AND event = $2 AND destination = $3 AND started_at IS NOT NULL
         ON CONFLICT DO NOTHING")
    .bind(key.app.as_str().to_owned())
    .bind(key.event.0)
    .bind(key.destination.0)
    .execute(&mut *db)
    .await?;
    let closed = sql("DELETE FROM closed WHERE app = $1 AND event = $2 AND destination = $3 RETURNING attempts")
        .bind(key.app.as_str().to_owned())
        .bind(key.event.0)
        .bind(key.destination.0)
        .fetch_optional(&mut *db)
        .await?;
    let attempts: i64 = closed.ok_or(StoreError::Missing)?.try_get(0)?;
    sql("INSERT INTO delivery (app, event, destination, lane, attempts, forgiven, due)
         VALUES ($1, $2, $3, NULL, $4, $4, $5)")
    .bind(key.app.as_str().to_owned())
    .bind(key.event.0)
    .bind(key.destination.0)
    .bind(attempts)
    .bind(now)
    .execute(db)
    .await?;
    Ok(())
}

/// How much open work there is. Triggers maintain the numbers: see the migration that creates `tally`.
pub(super) async fn depth(db: &mut PgConnection) -> Result<Depth, StoreError> {
    let row = sql("SELECT coalesce(sum(deliveries), 0)::bigint, coalesce(sum(fanouts), 0)::bigint,
         coalesce(sum(undelivered), 0)::bigint, coalesce(sum(bytes), 0)::bigint FROM tally")
    .fetch_one(db)
    .await?;
    let number =
        |column: usize| -> Result<u64, StoreError> { Ok(row.try_get::<i64, _>(column)?.max(0).unsigned_abs()) };
    Ok(Depth { deliveries: number(0)?, fanouts: number(1)?, undelivered: number(2)?, bytes: number(3)? })
}
