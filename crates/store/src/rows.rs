//! Maps rows to types, once for both stores: each type is read from columns of the same names.

use std::cell::Cell;
use std::time::Duration;

use bytes::Bytes;
use rusqlite::Statement;
use rusqlite::types::FromSql;
use sqlx::postgres::PgRow;
use sqlx::{Decode, Postgres, Type};
use tidings_model::clock::Millis;
use tidings_model::delivery::{Attempt, DeliveryState};
use tidings_model::event::{Data, Event};
use tidings_model::id::{AppId, DeliveryKey, DestinationNo, EventNo};

use crate::error::StoreError;
use crate::log::{Lease, Logged};
use crate::presence::{PresenceKey, PresenceRecord};
use crate::queue::{DeliveryRow, Leased};
use crate::rules::fanout::FanoutRow;
use crate::rules::lane::InLane;

/// A type that both databases can read from a column.
pub(crate) trait Value: FromSql + Type<Postgres> + for<'r> Decode<'r, Postgres> {}
impl<T> Value for T where T: FromSql + Type<Postgres> + for<'r> Decode<'r, Postgres> {}

/// A row whose columns are read by name.
pub(crate) trait Row {
    /// The value of a column.
    fn get<T: Value>(&self, column: &str) -> Result<T, StoreError>;

    /// The value of a column that holds a count. Both databases have signed numbers only, so the range is checked here.
    fn count<T: TryFrom<i64>>(&self, column: &str) -> Result<T, StoreError> {
        let number: i64 = self.get(column)?;
        T::try_from(number).map_err(|_| StoreError::Corrupt(format!("{number} as {column}")))
    }
}

impl Row for PgRow {
    fn get<T: Value>(&self, column: &str) -> Result<T, StoreError> {
        Ok(sqlx::Row::try_get(self, column)?)
    }
}

/// A row of SQLite, and the column that is probably read next.
pub(crate) struct SqliteRow<'r, 's> {
    row: &'r rusqlite::Row<'s>,
    next: Cell<usize>,
}

/// A row of SQLite whose columns are read by name.
pub(crate) fn by_name<'r, 's>(row: &'r rusqlite::Row<'s>) -> SqliteRow<'r, 's> {
    SqliteRow { row, next: Cell::new(0) }
}

impl Row for SqliteRow<'_, '_> {
    fn get<T: Value>(&self, column: &str) -> Result<T, StoreError> {
        let statement: &Statement<'_> = self.row.as_ref();
        let next = self.next.get();
        // Columns are usually read in their order. Searching for each from the first one on would cost more than
        // reading it.
        let is_next = next < statement.column_count() && statement.column_name(next)? == column;
        let at = if is_next { next } else { statement.column_index(column)? };
        self.next.set(at + 1);
        Ok(self.row.get(at)?)
    }
}

pub(crate) fn app(row: &impl Row) -> Result<AppId, StoreError> {
    row.get::<String>("app").map(AppId::from)
}

fn delivery_key(row: &impl Row) -> Result<DeliveryKey, StoreError> {
    let (app, event) = (app(row)?, EventNo(row.get("event")?));
    Ok(DeliveryKey { app, event, destination: DestinationNo(row.get("destination")?) })
}

pub(crate) fn logged(row: &impl Row) -> Result<Logged, StoreError> {
    let no = EventNo(row.get("no")?);
    let (app, id, name) = (app(row)?, row.get("id")?, row.get("name")?);
    let channels: Option<String> = row.get("channels")?;
    let event = Event {
        app,
        id,
        name,
        channels: channels.map_or_else(|| Ok(Vec::new()), |text| serde_json::from_str(&text))?,
        data: Data { content_type: row.get("content_type")?, bytes: Bytes::from(row.get::<Vec<u8>>("data")?) },
        time: row.get("time")?,
        op: row.get("op")?,
        key: row.get("key")?,
        except: row.get("except_session")?,
    };
    let (hook_version, received_at) = (row.get("hook_version")?, row.get("received_at")?);
    Ok(Logged { no, event, hook_version, received_at, deliveries: row.count("deliveries")? })
}

pub(crate) fn delivery(row: &impl Row) -> Result<DeliveryRow, StoreError> {
    let key = delivery_key(row)?;
    let state: String = row.get("state")?;
    Ok(DeliveryRow {
        key,
        state: DeliveryState::parse(&state).ok_or_else(|| StoreError::Corrupt(format!("delivery state {state:?}")))?,
        attempts: row.count("attempts")?,
        due: row.get("due")?,
        closed_at: row.get("closed_at")?,
        last_error: row.get("last_error")?,
        event_id: row.get("event_id")?,
        event_name: row.get("event_name")?,
        listener: row.get("listener")?,
    })
}

pub(crate) fn attempt(row: &impl Row) -> Result<Attempt, StoreError> {
    Ok(Attempt {
        n: row.count("n")?,
        started_at: row.get("started_at")?,
        duration: Duration::from_micros(row.count("duration_us")?),
        outcome: row.get("outcome")?,
        status: row.get::<Option<i64>>("status")?.and_then(|status| u16::try_from(status).ok()),
        error: row.get("error")?,
        remote: row.get("remote")?,
        next_at: row.get("next_at")?,
        response_headers: row.get("response_headers")?,
        response_body: row.get("response_body")?,
    })
}

/// A delivery that has just been leased, in no leased batch and behind no other.
pub(crate) fn leased(row: &impl Row, lease: Lease) -> Result<Leased, StoreError> {
    Ok(Leased {
        key: delivery_key(row)?,
        ordered: row.get("ordered")?,
        attempts: row.count("attempts")?,
        forgiven: row.count("forgiven")?,
        follows: false,
        in_batch: false,
        lease,
    })
}

pub(crate) fn in_lane(row: &impl Row) -> Result<InLane, StoreError> {
    Ok(InLane {
        key: delivery_key(row)?,
        attempts: row.count("attempts")?,
        forgiven: row.count("forgiven")?,
        not_before: row.get("not_before")?,
        waits: row.get("waits")?,
    })
}

pub(crate) fn fanout(row: &impl Row) -> Result<FanoutRow, StoreError> {
    Ok(FanoutRow {
        event: EventNo(row.get("event")?),
        app: app(row)?,
        key: row.get("key")?,
        not_before: row.get("not_before")?,
        cursor: row.count("cursor")?,
        destinations: row.get("destinations")?,
    })
}

pub(crate) fn presence(row: &impl Row) -> Result<PresenceRecord, StoreError> {
    let (app, channel, user): (_, _, String) = (app(row)?, row.get("channel")?, row.get("member")?);
    Ok(PresenceRecord {
        // The column is part of the primary key, so it has an empty string instead of NULL.
        key: PresenceKey { app, channel, user: (!user.is_empty()).then_some(user) },
        present: row.get("present")?,
        number: row.get("number")?,
        event: row.get("event")?,
        announced: row.get("told")?,
        since: row.get("changed_at")?,
    })
}

/// A failing destination, and since when it has only failed.
pub(crate) fn failing(row: &impl Row) -> Result<(DestinationNo, Millis), StoreError> {
    Ok((DestinationNo(row.get("destination")?), row.get("since")?))
}

#[cfg(test)]
mod tests {
    use rusqlite::Connection;

    use super::*;

    /// Reads the one row of a statement.
    fn read<T>(sql: &str, mapping: impl Fn(&SqliteRow<'_, '_>) -> Result<T, StoreError>) -> Result<T, StoreError> {
        let db = Connection::open_in_memory().unwrap();
        let mut statement = db.prepare(sql).unwrap();
        let mut rows = statement.query([]).unwrap();
        mapping(&by_name(rows.next().unwrap().unwrap()))
    }

    #[test]
    fn columns_are_found_in_any_order() {
        let sql = "SELECT 1 AS a, 'x' AS b, NULL AS c, 4 AS d";
        let in_order = |row: &SqliteRow<'_, '_>| {
            Ok((row.get::<i64>("a")?, row.get::<String>("b")?, row.get::<Option<i64>>("c")?, row.count::<u16>("d")?))
        };
        assert_eq!(read(sql, in_order), Ok((1, "x".to_owned(), None, 4)));
        let backwards =
            |row: &SqliteRow<'_, '_>| Ok((row.get::<i64>("d")?, row.get::<i64>("a")?, row.get::<i64>("d")?));
        assert_eq!(read(sql, backwards), Ok((4, 1, 4)));
    }

    #[test]
    fn what_cannot_be_is_an_error_and_no_panic() {
        for sql in ["SELECT -1 AS n", "SELECT 'x' AS n", "SELECT NULL AS n", "SELECT 4294967296 AS n", "SELECT 1 AS m"]
        {
            let found = read(sql, |row| row.count::<u32>("n"));
            assert!(matches!(found, Err(StoreError::Corrupt(_))), "{sql}: {found:?}");
        }
        let no_state = "SELECT 'a' AS app, 1 AS event, 1 AS destination, 'lost' AS state";
        assert!(matches!(read(no_state, |row| delivery(row)), Err(StoreError::Corrupt(_))));
    }
}
