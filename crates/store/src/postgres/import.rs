//! Copies a SQLite store into an empty PostgreSQL database: everything in one transaction, or nothing.

use std::path::{Path, PathBuf};

use rusqlite::types::Value;
use sqlx::{AssertSqlSafe, Connection as _, PgConnection, Row};
use tidings_model::clock::Millis;
use tokio::sync::mpsc;

use super::closing::text;
use super::connect::{Connections, OpenError, Options, sql};
use super::{locks, migrate};
use crate::error::StoreError;
use crate::sqlite;

/// How many rows are copied by one statement.
const BATCH: usize = 200;

/// The type of a column in PostgreSQL.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Int,
    Bool,
    Text,
    Bytes,
}
use Kind::{Bool, Bytes, Int, Text};

/// A table and its columns.
type Table = (&'static str, &'static [(&'static str, Kind)]);

/// All tables but leased batches (`lot`): those are dissolved first, since earlier leases are void.
const TABLES: &[Table] = &[
    (
        "hook",
        &[
            ("app", Text),
            ("name", Text),
            ("version", Int),
            ("deleted", Int),
            ("description", Text),
            ("fields", Text),
            ("schema", Text),
            ("defaults", Text),
            ("created_at", Int),
            ("updated_at", Int),
            ("fields_for", Text),
        ],
    ),
    ("hook_fields", &[("app", Text), ("name", Text), ("version", Int), ("fields", Text), ("replaced_at", Int)]),
    (
        "listener",
        &[
            ("no", Int),
            ("app", Text),
            ("id", Text),
            ("version", Int),
            ("deleted", Int),
            ("spec", Text),
            ("sealed", Bytes),
            ("disabled_reason", Text),
            ("disabled_at", Int),
            ("unannounced", Bool),
            ("created_at", Int),
            ("updated_at", Int),
        ],
    ),
    ("failing", &[("destination", Int), ("since", Int)]),
    (
        "app",
        &[
            ("id", Text),
            ("version", Int),
            ("deleted", Int),
            ("sealed", Bytes),
            ("created_at", Int),
            ("updated_at", Int),
        ],
    ),
    ("app_name", &[("name", Text), ("app", Text)]),
    (
        "standing",
        &[
            ("app", Text),
            ("channel", Text),
            ("member", Text),
            ("present", Bool),
            ("number", Int),
            ("event", Text),
            ("told", Bool),
            ("changed_at", Int),
        ],
    ),
    (
        "event",
        &[
            ("no", Int),
            ("app", Text),
            ("id", Text),
            ("name", Text),
            ("channels", Text),
            ("content_type", Text),
            ("time", Int),
            ("op", Text),
            ("key", Text),
            ("except_session", Text),
            ("hook_version", Int),
            ("received_at", Int),
            ("deliveries", Int),
            ("digest", Bytes),
            ("data", Bytes),
        ],
    ),
    ("event_channel", &[("app", Text), ("channel", Text), ("no", Int)]),
    (
        "fanout",
        &[("event", Int), ("app", Text), ("key", Text), ("not_before", Int), ("cursor", Int), ("destinations", Bytes)],
    ),
    (
        "delivery",
        &[
            ("app", Text),
            ("event", Int),
            ("destination", Int),
            ("lane", Text),
            ("attempts", Int),
            ("forgiven", Int),
            ("due", Int),
            ("not_before", Int),
            ("last_error", Text),
        ],
    ),
    ("queue", &[("destination", Int), ("next_due", Int)]),
    (
        "closed",
        &[
            ("app", Text),
            ("event", Int),
            ("destination", Int),
            ("state", Text),
            ("attempts", Int),
            ("closed_at", Int),
            ("last_error", Text),
            ("started_at", Int),
            ("duration_us", Int),
            ("status", Int),
            ("remote", Text),
            ("response_body", Bytes),
        ],
    ),
    (
        "attempt",
        &[
            ("event", Int),
            ("destination", Int),
            ("n", Int),
            ("started_at", Int),
            ("duration_us", Int),
            ("outcome", Text),
            ("status", Int),
            ("error", Text),
            ("remote", Text),
            ("next_at", Int),
            ("response_headers", Text),
            ("response_body", Bytes),
        ],
    ),
    (
        "idempotency",
        &[
            ("app", Text),
            ("key", Text),
            ("digest", Bytes),
            ("event_id", Text),
            ("deliveries", Int),
            ("created_at", Int),
        ],
    ),
];

/// Why the copy failed. Nothing was copied then.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// The target is not empty.
    #[error("the PostgreSQL database is not empty (table {0} has rows); give an empty one")]
    NotEmpty(&'static str),
    /// The target has not as many rows as were sent.
    #[error("of {sent} rows of table {table}, {arrived} arrived; nothing was copied")]
    Short {
        /// The table.
        table: &'static str,
        /// Rows read.
        sent: u64,
        /// Rows found afterwards.
        arrived: i64,
    },
    /// The target cannot be used.
    #[error(transparent)]
    Target(#[from] OpenError),
    /// Either store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl From<sqlx::Error> for ImportError {
    fn from(error: sqlx::Error) -> Self {
        Self::Store(error.into())
    }
}

/// Rows of one table, with the table's index in [`TABLES`].
type Batch = (usize, Vec<Vec<Value>>);

/// Copies the SQLite store at `path` into the empty database at `url`. The SQLite store is locked meanwhile; its leases
/// are ended first, as at each start. Returns the number of rows of each table.
///
/// # Errors
/// [`ImportError`]; the target is unchanged then.
pub async fn copy_from_sqlite(
    path: &Path,
    url: &str,
    options: &Options,
    now: Millis,
) -> Result<Vec<(&'static str, u64)>, ImportError> {
    let (_, mut target) = Connections::open(url, options).await?;
    let mut tx = target.begin().await?;
    migrate::migrate(&mut tx).await?;
    for table in ["incarnation", "hook", "listener", "event"] {
        let statement = AssertSqlSafe(format!("SELECT 1 FROM {table} LIMIT 1"));
        if sqlx::query(statement).persistent(false).fetch_optional(&mut *tx).await?.is_some() {
            return Err(ImportError::NotEmpty(table));
        }
    }
    // Excludes nodes that start meanwhile, so that none sees half of the data.
    locks::change_catalogue(&mut tx).await?;
    let (sender, mut batches) = mpsc::channel::<Batch>(4);
    let from = path.to_owned();
    let reader = tokio::task::spawn_blocking(move || read(from, now, &sender));
    let mut sent = vec![0; TABLES.len()];
    while let Some((table, rows)) = batches.recv().await {
        sent[table] += rows.len() as u64;
        write(&mut tx, TABLES[table], rows).await?;
    }
    let meta = reader.await.map_err(|_| StoreError::Closed)??;
    for (name, value) in meta {
        super::meta::set(&mut tx, &name, value).await?;
    }
    sql("SELECT setval(pg_get_serial_sequence('listener', 'no'), (SELECT coalesce(MAX(no), 0) + 1 FROM listener),
         FALSE)")
    .execute(&mut *tx)
    .await?;
    for (&(table, _), &sent) in TABLES.iter().zip(&sent) {
        let statement = AssertSqlSafe(format!("SELECT COUNT(*) FROM {table}"));
        let arrived: i64 = sqlx::query(statement).persistent(false).fetch_one(&mut *tx).await?.try_get(0)?;
        if u64::try_from(arrived) != Ok(sent) {
            return Err(ImportError::Short { table, sent, arrived });
        }
    }
    tx.commit().await?;
    Ok(TABLES.iter().map(|(table, _)| *table).zip(sent).collect())
}

/// Reads all tables, in order, and sends their rows. Returns the single numbers of table `meta`.
fn read(path: PathBuf, now: Millis, sender: &mpsc::Sender<Batch>) -> Result<Vec<(String, i64)>, StoreError> {
    let (db, _file) = sqlite::open_for_copy(&path, now)?;
    for (place, (table, columns)) in TABLES.iter().enumerate() {
        let names: Vec<&str> = columns.iter().map(|(name, _)| *name).collect();
        let mut statement = db.prepare(&format!("SELECT {} FROM {table}", names.join(", ")))?;
        let mut rows = statement.query([])?;
        let mut batch = Vec::new();
        while let Some(row) = rows.next()? {
            batch.push((0..names.len()).map(|column| row.get(column)).collect::<Result<_, _>>()?);
            if batch.len() == BATCH {
                // The receiver is dropped if the writing side has failed: then reading ends too.
                sender.blocking_send((place, std::mem::take(&mut batch))).map_err(|_| StoreError::Closed)?;
            }
        }
        if !batch.is_empty() {
            sender.blocking_send((place, batch)).map_err(|_| StoreError::Closed)?;
        }
    }
    let mut statement =
        db.prepare("SELECT name, value FROM meta WHERE name IN ('catalogue_version', 'clock', 'clock_event')")?;
    let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?;
    Ok(rows.collect::<Result<_, _>>()?)
}

async fn write(db: &mut PgConnection, (table, columns): Table, rows: Vec<Vec<Value>>) -> Result<(), StoreError> {
    let names: Vec<&str> = columns.iter().map(|(name, _)| *name).collect();
    let arrays: Vec<String> =
        columns.iter().zip(1..).map(|((_, kind), n)| format!("${n}::{}[]", kind.name())).collect();
    let statement = format!("INSERT INTO {table} ({}) SELECT * FROM unnest({})", names.join(", "), arrays.join(", "));
    let mut query = sqlx::query(AssertSqlSafe(statement)).persistent(false);
    for (column, (name, kind)) in columns.iter().enumerate() {
        let odd = |value: &Value| StoreError::Corrupt(format!("{table}.{name} holds {:?}", value.data_type()));
        let cells = rows.iter().map(|row| &row[column]);
        query = match kind {
            Int => query.bind(cells.map(|cell| int(cell).ok_or_else(|| odd(cell))).collect::<Result<Vec<_>, _>>()?),
            Bool => {
                let ints = cells.map(|cell| int(cell).ok_or_else(|| odd(cell))).collect::<Result<Vec<_>, _>>()?;
                query.bind(ints.into_iter().map(|cell| cell.map(|number| number != 0)).collect::<Vec<_>>())
            }
            Text => {
                let read = |cell: &Value| match cell {
                    Value::Null => Ok(None),
                    Value::Text(word) => Ok(Some(text(word))),
                    _ => Err(odd(cell)),
                };
                query.bind(cells.map(read).collect::<Result<Vec<_>, _>>()?)
            }
            Bytes => {
                let read = |cell: &Value| match cell {
                    Value::Null => Ok(None),
                    Value::Blob(bytes) => Ok(Some(bytes.clone())),
                    _ => Err(odd(cell)),
                };
                query.bind(cells.map(read).collect::<Result<Vec<_>, _>>()?)
            }
        };
    }
    query.execute(db).await?;
    Ok(())
}

#[allow(clippy::option_option, reason = "the outer option is whether it is a number or nothing, the inner which")]
fn int(cell: &Value) -> Option<Option<i64>> {
    match cell {
        Value::Null => Some(None),
        Value::Integer(number) => Some(Some(*number)),
        _ => None,
    }
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Int => "bigint",
            Bool => "boolean",
            Text => "text",
            Bytes => "bytea",
        }
    }
}
