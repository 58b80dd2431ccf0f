//! Reading the log back.

use std::collections::BTreeMap;
use std::ops::Range;

use bytes::Bytes;
use futures_util::TryStreamExt as _;
use sqlx::postgres::PgRow;
use sqlx::{PgConnection, Row};
use tidings_model::event::{Data, Event};
use tidings_model::id::{AppId, EventNo};

use super::connect::sql;
use crate::error::StoreError;
use crate::log::{EventFilter, Logged};
use crate::page::{Page, Paged};

/// The columns that [`logged`] reads, in its order. A macro, so that statements are constants.
macro_rules! columns {
    ($rest:literal) => {
        concat!(
            "SELECT",
            " e.no, e.app, e.id, e.name, e.channels, e.content_type, e.time, e.op, e.key, e.except_session, ",
            "e.hook_version, e.received_at, e.deliveries, e.data ",
            $rest
        )
    };
}

fn logged(row: &PgRow) -> Result<Logged, StoreError> {
    let channels: Option<String> = row.try_get(4)?;
    let data: Vec<u8> = row.try_get(13)?;
    Ok(Logged {
        no: EventNo(row.try_get(0)?),
        event: Event {
            app: AppId::from(row.try_get::<String, _>(1)?),
            id: row.try_get(2)?,
            name: row.try_get(3)?,
            channels: channels.map_or_else(|| Ok(Vec::new()), |text| serde_json::from_str(&text))?,
            data: Data { content_type: row.try_get(5)?, bytes: Bytes::from(data) },
            time: row.try_get(6)?,
            op: row.try_get(7)?,
            key: row.try_get(8)?,
            except: row.try_get(9)?,
        },
        hook_version: row.try_get(10)?,
        received_at: row.try_get(11)?,
        deliveries: row.try_get::<i64, _>(12)?.unsigned_abs(),
    })
}

/// One event by its id.
pub(super) async fn event(db: &mut PgConnection, app: &AppId, id: &str) -> Result<Option<Logged>, StoreError> {
    let found = sql(columns!("FROM event e WHERE e.app = $1 AND e.id = $2"))
        .bind(app.as_str().to_owned())
        .bind(id.to_owned())
        .fetch_optional(db)
        .await?;
    found.as_ref().map(logged).transpose()
}

/// A page of the log, newest first.
pub(super) async fn events(
    db: &mut PgConnection,
    app: &AppId,
    filter: &EventFilter,
) -> Result<Page<Logged>, StoreError> {
    let Range { start, end } = filter.range();
    let wanted = filter.name.as_ref().or(filter.channel.as_ref());
    let text = match (filter.name.is_some(), filter.channel.is_some()) {
        (true, _) => columns!(
            "FROM event e WHERE e.app = $1 AND e.name = $5 AND e.no >= $2 AND e.no < $3 ORDER BY e.no DESC LIMIT $4"
        ),
        (false, true) => columns!(
            "FROM event_channel c JOIN event e ON e.no = c.no
             WHERE c.app = $1 AND c.channel = $5 AND c.no >= $2 AND c.no < $3 ORDER BY c.no DESC LIMIT $4"
        ),
        // The unused fifth parameter has to be mentioned for the statement to take it.
        (false, false) => columns!(
            "FROM event e WHERE e.app = $1 AND e.no >= $2 AND e.no < $3 AND $5::text IS NULL ORDER BY e.no DESC LIMIT $4"
        ),
    };
    let mut page = Paged::new(filter.limit, filter.bytes.unwrap_or(usize::MAX));
    // Row by row: what the page has no room for is not held.
    let mut rows = sql(text)
        .bind(app.as_str().to_owned())
        .bind(start.0)
        .bind(end.0)
        .bind(page.asked())
        .bind(wanted.cloned())
        .fetch(db);
    while let Some(row) = rows.try_next().await? {
        if !page.take(logged(&row)?, |logged| logged.event.weight()) {
            break;
        }
    }
    drop(rows);
    Ok(page.end())
}

/// Events by their places, in their order; those that are gone are left out.
pub(super) async fn events_at(db: &mut PgConnection, places: &[EventNo]) -> Result<Vec<Logged>, StoreError> {
    let rows = sql(columns!("FROM event e WHERE e.no = ANY($1)"))
        .bind(places.iter().map(|no| no.0).collect::<Vec<_>>())
        .fetch_all(db)
        .await?;
    let found: BTreeMap<EventNo, Logged> =
        rows.iter().map(|row| logged(row).map(|one| (one.no, one))).collect::<Result<_, _>>()?;
    Ok(places.iter().filter_map(|no| found.get(no).cloned()).collect())
}
