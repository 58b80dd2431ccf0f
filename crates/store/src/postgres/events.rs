//! Reads the event log.

use std::collections::BTreeMap;
use std::ops::Range;

use futures_util::TryStreamExt as _;
use sqlx::PgConnection;
use tidings_model::id::{AppId, EventNo};

use super::connect::sql;
use crate::error::StoreError;
use crate::log::{EventFilter, Logged};
use crate::page::{Page, Paged};
use crate::rows;

/// The columns of [`rows::logged`]. A macro, so that statements are constants.
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

/// One event by its id.
pub(super) async fn event(db: &mut PgConnection, app: &AppId, id: &str) -> Result<Option<Logged>, StoreError> {
    let found = sql(columns!("FROM event e WHERE e.app = $1 AND e.id = $2"))
        .bind(app.as_str().to_owned())
        .bind(id.to_owned())
        .fetch_optional(db)
        .await?;
    found.as_ref().map(rows::logged).transpose()
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
        // The fifth parameter is unused, but must occur in the statement to be bound.
        (false, false) => columns!(
            "FROM event e WHERE e.app = $1 AND e.no >= $2 AND e.no < $3 AND $5::text IS NULL ORDER BY e.no DESC LIMIT \
            $4"
        ),
    };
    let mut page = Paged::new(filter.limit, filter.bytes.unwrap_or(usize::MAX));
    // Row by row, so that rows beyond the page are not held in memory.
    let mut found = sql(text)
        .bind(app.as_str().to_owned())
        .bind(start.0)
        .bind(end.0)
        .bind(page.rows_to_read())
        .bind(wanted.cloned())
        .fetch(db);
    while let Some(row) = found.try_next().await? {
        if !page.take(rows::logged(&row)?, |logged| logged.event.weight()) {
            break;
        }
    }
    drop(found);
    Ok(page.end())
}

/// Events by their numbers, in the given order. Deleted events are left out.
pub(super) async fn events_at(db: &mut PgConnection, places: &[EventNo]) -> Result<Vec<Logged>, StoreError> {
    let found = sql(columns!("FROM event e WHERE e.no = ANY($1)"))
        .bind(places.iter().map(|no| no.0).collect::<Vec<_>>())
        .fetch_all(db)
        .await?;
    let by_place: BTreeMap<EventNo, Logged> =
        found.iter().map(|row| rows::logged(row).map(|one| (one.no, one))).collect::<Result<_, _>>()?;
    Ok(places.iter().filter_map(|no| by_place.get(no).cloned()).collect())
}
