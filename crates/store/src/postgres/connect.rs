//! Connections: how they are made, what is checked before any is used, and how a transaction begins.
//!
//! A pooler in transaction mode may stand between: every statement is part of a transaction, none is prepared under a
//! name, and no setting outlives its transaction.

use std::pin::Pin;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use sqlx::pool::{PoolConnection, PoolConnectionMetadata};
use sqlx::postgres::{PgArguments, PgConnectOptions, PgConnection, PgPool, PgPoolOptions, Postgres};
use sqlx::query::Query;
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, RawSql, Row};
use tidings_model::clock::Stopwatch;
use tidings_model::id::AppId;
use tokio::time::error::Elapsed;

use crate::error::StoreError;

/// After so long the server ends a transaction that does nothing. A node that stands still, or cannot be heard, in the
/// midst of one holds up every other that needs its locks; those wait for longer (`statement_timeout`).
const STANDSTILL: Duration = Duration::from_secs(5);
/// How long an idle connection may take to show that its other end is still there.
const PING: Duration = Duration::from_secs(1);
/// How long after a failure a server is tried again at the start.
const AGAIN: Duration = Duration::from_millis(100);
/// A transaction may take so many times the timeout of a statement. What takes longer gets no answer any more: the
/// server, or the way to it, went away without a word.
const STATEMENTS: u32 = 3;

/// How the server is used.
#[derive(Debug, Clone)]
pub struct Options {
    /// Connections that this node holds at most.
    pub connections: u32,
    /// How long one statement may take.
    pub statement_timeout: Duration,
    /// How long a caller waits for a connection.
    pub acquire_timeout: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self { connections: 10, statement_timeout: Duration::from_secs(10), acquire_timeout: Duration::from_secs(5) }
    }
}

/// Why a URL or a server cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The URL is none of a PostgreSQL database.
    #[error("the store's URL must read postgres://user:password@host/database: {0}")]
    Url(String),
    /// Commits are acknowledged before they are on disk.
    #[error(
        "the database answers commits before they are on disk (synchronous_commit is {0:?}), so what Tidings \
        acknowledges could be lost; run `ALTER ROLE <the user> SET synchronous_commit = on`, or set it for the \
        database or the server"
    )]
    NotDurable(String),
    /// It is a standby.
    #[error("the database is a read-only standby; give the URL of the primary")]
    Standby,
    /// The server is too old.
    #[error("the database server is PostgreSQL {0}; Tidings needs version 13 or later")]
    TooOld(String),
    /// What the store said.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl From<sqlx::Error> for OpenError {
    fn from(error: sqlx::Error) -> Self {
        Self::Store(error.into())
    }
}

/// Whether a URL can be understood; says why not.
///
/// # Errors
/// [`OpenError::Url`].
pub fn check_url(url: &str) -> Result<(), OpenError> {
    parse(url).map(drop)
}

fn parse(url: &str) -> Result<PgConnectOptions, OpenError> {
    if !url.starts_with("postgres://") && !url.starts_with("postgresql://") {
        return Err(OpenError::Url("it begins otherwise".to_owned()));
    }
    let options = PgConnectOptions::from_str(url).map_err(|e| OpenError::Url(e.to_string()))?;
    // A pooler refuses settings that it does not know; a statement in a log could tell what was in it.
    Ok(options
        .application_name("tidings")
        .extra_float_digits(None)
        .statement_cache_capacity(0)
        .disable_statement_logging())
}

/// A statement without a name. Its text is a constant or made of constants.
pub(super) fn sql<'q>(text: &'static str) -> Query<'q, Postgres, PgArguments> {
    sqlx::query(text).persistent(false)
}

/// Statements in which nothing but numbers are written, all of them in one round trip: one that values are bound to
/// takes two.
pub(super) fn numeric(text: String) -> RawSql {
    sqlx::raw_sql(AssertSqlSafe(text))
}

/// Numbers as such a statement has them.
pub(super) fn numbers(all: impl IntoIterator<Item = i64>) -> String {
    let all: Vec<String> = all.into_iter().map(|number| number.to_string()).collect();
    format!("'{{{}}}'::bigint[]", all.join(","))
}

/// Names of apps as such a statement has them: in hexadecimal digits, which need no quoting.
pub(super) fn names(all: &[AppId]) -> String {
    let hex = |app: &AppId| app.as_str().bytes().map(|byte| format!("{byte:02x}")).collect::<String>();
    let all: Vec<String> = all.iter().map(|app| format!("convert_from('\\x{}'::bytea, 'UTF8')", hex(app))).collect();
    format!("ARRAY[{}]::text[]", all.join(","))
}

/// When a connection last turned out to lead nowhere, or to a server that takes no writes. What was connected before
/// that moment is not used again: its name may lead elsewhere now, and is resolved anew with each connection.
#[derive(Debug, Clone, Default)]
struct Lost(Arc<Mutex<Option<Stopwatch>>>);

impl Lost {
    fn note(&self) {
        *self.0.lock() = Some(Stopwatch::start());
    }

    /// Whether something that is so old was connected before.
    fn concerns(&self, age: Duration) -> bool {
        self.0.lock().as_ref().is_some_and(|lost| lost.elapsed() <= age)
    }
}

/// What a read-only server is called, in errors.
const READ_ONLY: &str = "the server that the store's URL leads to is a read-only standby";

/// The pool and how transactions in it begin.
#[derive(Debug)]
pub(super) struct Connections {
    pub(super) pool: PgPool,
    lost: Lost,
    /// Whether the server that was dialled last takes no writes.
    standby: Arc<Mutex<bool>>,
    pub(super) begin: String,
    pub(super) begin_view: String,
    /// How long a transaction may take.
    pub(super) patience: Duration,
}

impl Connections {
    /// Checks that the server keeps what it acknowledges, and hands out a connection to it besides the pool.
    pub(super) async fn open(url: &str, options: &Options) -> Result<(Self, PgConnection), OpenError> {
        let target = parse(url)?;
        let mut first = connect(&target, options.acquire_timeout).await?;
        check(&mut first).await?;
        let (lost, standby) = (Lost::default(), Arc::new(Mutex::new(false)));
        let (too_old, is_standby) = (lost.clone(), Arc::clone(&standby));
        let pool = PgPoolOptions::new()
            .max_connections(options.connections.max(2))
            .acquire_timeout(options.acquire_timeout)
            .idle_timeout(Duration::from_secs(600))
            // Tested below, within less time.
            .test_before_acquire(false)
            .before_acquire(move |db, meta| still_there(db, too_old.concerns(meta.age)))
            .after_connect(move |db, _: PoolConnectionMetadata| takes_writes(db, Arc::clone(&is_standby)))
            .connect_lazy_with(target);
        let (timeout, standstill) = (options.statement_timeout.as_millis(), STANDSTILL.as_millis());
        let limits = format!(
            "SET LOCAL statement_timeout = {timeout}; SET LOCAL idle_in_transaction_session_timeout = {standstill}"
        );
        let begin = format!("BEGIN; {limits}");
        let begin_view = format!("BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY; {limits}");
        let patience = options.statement_timeout * STATEMENTS;
        Ok((Self { pool, lost, standby, begin, begin_view, patience }, first))
    }

    /// A connection of the pool.
    pub(super) async fn take(&self) -> Result<PoolConnection<Postgres>, StoreError> {
        match self.pool.acquire().await {
            Err(sqlx::Error::PoolTimedOut) if *self.standby.lock() => {
                Err(StoreError::Unreachable(READ_ONLY.to_owned()))
            }
            taken => Ok(taken?),
        }
    }

    /// Gives a connection back after a transaction. If that has shown that the server is not there any more, or takes
    /// no writes, neither the connection nor any older one is used again.
    pub(super) fn give_back<T>(
        &self,
        mut connection: PoolConnection<Postgres>,
        outcome: Result<Result<T, StoreError>, Elapsed>,
    ) -> Result<T, StoreError> {
        let outcome = outcome.unwrap_or_else(|_| Err(StoreError::Unreachable("it gave no answer".to_owned())));
        if let Err(StoreError::Unreachable(_)) = &outcome {
            self.lost.note();
            connection.close_on_drop();
        }
        outcome
    }

    /// A transaction for a test to hold. Whatever is done in it is undone unless it is committed.
    #[cfg(test)]
    pub(super) async fn begin(&self) -> Result<sqlx::Transaction<'static, Postgres>, StoreError> {
        Ok(self.pool.begin_with(AssertSqlSafe(self.begin.clone())).await?)
    }
}

/// Connects. A server that is just starting is waited for.
async fn connect(target: &PgConnectOptions, patience: Duration) -> Result<PgConnection, StoreError> {
    let watch = Stopwatch::start();
    loop {
        let connecting = tokio::time::timeout(patience.saturating_sub(watch.elapsed()), target.connect());
        match connecting.await {
            Ok(Ok(connection)) => return Ok(connection),
            Ok(Err(error)) => {
                let error = StoreError::from(error);
                if !error.is_temporary() || watch.elapsed() > patience {
                    return Err(error);
                }
            }
            Err(_) => return Err(StoreError::Unreachable("it does not answer".to_owned())),
        }
        tokio::time::sleep(AGAIN).await;
    }
}

type Answer<'c, T> = Pin<Box<dyn Future<Output = Result<T, sqlx::Error>> + Send + 'c>>;

/// Whether an idle connection can be used again.
fn still_there(db: &mut PgConnection, too_old: bool) -> Answer<'_, bool> {
    Box::pin(async move {
        if too_old {
            return Ok(false);
        }
        match tokio::time::timeout(PING, db.ping()).await {
            Ok(answer) => answer.map(|()| true),
            Err(_) => Err(sqlx::Error::PoolTimedOut),
        }
    })
}

/// Refuses a new connection to a server that takes no writes: the name still leads to one that was demoted, or leads to
/// the next one before that is promoted.
fn takes_writes(db: &mut PgConnection, standby: Arc<Mutex<bool>>) -> Answer<'_, ()> {
    Box::pin(async move {
        let row = sql("SELECT pg_is_in_recovery() OR current_setting('transaction_read_only')::boolean");
        let read_only: bool = row.fetch_one(db).await?.try_get(0)?;
        *standby.lock() = read_only;
        if read_only { Err(sqlx::Error::Protocol(READ_ONLY.to_owned())) } else { Ok(()) }
    })
}

async fn check(db: &mut PgConnection) -> Result<(), OpenError> {
    let row =
        sql("SELECT current_setting('synchronous_commit'), pg_is_in_recovery(), current_setting('server_version'),
         current_setting('server_version_num')::int")
        .fetch_one(db)
        .await?;
    let (commit, standby): (String, bool) = (row.try_get(0)?, row.try_get(1)?);
    if row.try_get::<i32, _>(3)? < 130_000 {
        return Err(OpenError::TooOld(row.try_get(2)?));
    }
    if standby {
        return Err(OpenError::Standby);
    }
    if commit != "on" && commit != "remote_apply" {
        return Err(OpenError::NotDurable(commit));
    }
    Ok(())
}

/// Runs work in a transaction and commits it. When it had to give way to another transaction, it is run again: work
/// does nothing but use its connection.
macro_rules! transact {
    ($connections:expr, |$db:ident| $work:expr) => {{
        let mut tries = 0;
        loop {
            let outcome = $crate::postgres::connect::in_transaction!($connections, begin, |$db| $work);
            tries += 1;
            match outcome {
                Err(crate::error::StoreError::Locked) if tries < $crate::postgres::connect::TRIES => {}
                outcome => break outcome,
            }
        }
    }};
}
pub(super) use transact;

/// Runs work that only reads, and whose statements have to see the same moment: what goes from one table to another
/// between them would be found in both, or in none.
macro_rules! view {
    ($connections:expr, |$db:ident| $work:expr) => {
        $crate::postgres::connect::in_transaction!($connections, begin_view, |$db| $work)
    };
}
pub(super) use view;

/// Runs work in a transaction that begins like this.
macro_rules! in_transaction {
    ($connections:expr, $begin:ident, |$db:ident| $work:expr) => {
        match $connections.take().await {
            Ok(mut connection) => {
                let begin = sqlx::AssertSqlSafe($connections.$begin.clone());
                let outcome = tokio::time::timeout($connections.patience, async {
                    let mut tx = sqlx::Connection::begin_with(&mut *connection, begin).await?;
                    let $db: &mut sqlx::PgConnection = &mut tx;
                    let value = $work?;
                    tx.commit().await?;
                    Ok::<_, crate::error::StoreError>(value)
                })
                .await;
                $connections.give_back(connection, outcome)
            }
            Err(error) => Err(error),
        }
    };
}
pub(super) use in_transaction;

/// How often a transaction that had to give way is tried.
pub(super) const TRIES: usize = 10;
