//! Connections: how they are made, what is checked before use, and how a transaction begins.
//!
//! A pooler in transaction mode may stand between. So every statement is part of a transaction or takes a single round
//! trip, no prepared statement has a name, and no setting outlives its transaction.

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

/// After how long the server ends a transaction that does nothing. A node that hangs or is cut off within a transaction
/// blocks all nodes that need its locks. Those wait for longer (`statement_timeout`), so they do not fail.
const IDLE_IN_TRANSACTION: Duration = Duration::from_secs(5);
/// How long an idle connection may take to answer a ping.
const PING: Duration = Duration::from_secs(1);
/// The pause before another try to connect at the start.
const RETRY_DELAY: Duration = Duration::from_millis(100);
/// A transaction may take this many times the timeout of a statement. One that takes longer will get no answer: the
/// server or the network has failed without closing the connection.
const TRANSACTION_FACTOR: u32 = 3;

/// How the server is used.
#[derive(Debug, Clone)]
pub struct Options {
    /// The most connections of this node.
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
    /// The URL is not that of a PostgreSQL database.
    #[error("the store's URL must be postgres://user:password@host/database: {0}")]
    Url(String),
    /// Commits are acknowledged before they are on disk.
    #[error(
        "the database acknowledges commits before they are on disk (synchronous_commit is {0:?}), so events that \
        Tidings has acknowledged could be lost; run `ALTER ROLE <the user> SET synchronous_commit = on`, or set it for \
        the database or the server"
    )]
    NotDurable(String),
    /// It is a standby.
    #[error("the database is a read-only standby; give the URL of the primary")]
    Standby,
    /// The server is too old.
    #[error("the database server is PostgreSQL {0}; Tidings needs version 13 or later")]
    TooOld(String),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl From<sqlx::Error> for OpenError {
    fn from(error: sqlx::Error) -> Self {
        Self::Store(error.into())
    }
}

/// Checks that a URL can be parsed.
///
/// # Errors
/// [`OpenError::Url`].
pub fn check_url(url: &str) -> Result<(), OpenError> {
    parse(url).map(drop)
}

fn parse(url: &str) -> Result<PgConnectOptions, OpenError> {
    if !url.starts_with("postgres://") && !url.starts_with("postgresql://") {
        return Err(OpenError::Url("it does not begin with postgres://".to_owned()));
    }
    let options = PgConnectOptions::from_str(url).map_err(|e| OpenError::Url(e.to_string()))?;
    // A pooler refuses settings that it does not know (extra_float_digits). Logged statements could reveal their
    // values.
    Ok(options
        .application_name("tidings")
        .extra_float_digits(None)
        .statement_cache_capacity(0)
        .disable_statement_logging())
}

/// An unnamed statement. Its text is a constant or made of constants.
pub(super) fn sql<'q>(text: &'static str) -> Query<'q, Postgres, PgArguments> {
    sqlx::query(text).persistent(false)
}

/// Statements with literal numbers instead of bound values. All of them take one round trip; a statement with bound
/// values takes two. The text must have no value that needs quoting.
pub(super) fn numeric(text: String) -> RawSql {
    sqlx::raw_sql(AssertSqlSafe(text))
}

/// Numbers as an array literal for [`numeric`].
pub(super) fn numbers(all: impl IntoIterator<Item = i64>) -> String {
    let all: Vec<String> = all.into_iter().map(|number| number.to_string()).collect();
    format!("'{{{}}}'::bigint[]", all.join(","))
}

/// Ids of apps as an array expression for [`numeric`]: in hexadecimal digits, which need no quoting.
pub(super) fn names(all: &[AppId]) -> String {
    let hex = |app: &AppId| app.as_str().bytes().map(|byte| format!("{byte:02x}")).collect::<String>();
    let all: Vec<String> = all.iter().map(|app| format!("convert_from('\\x{}'::bytea, 'UTF8')", hex(app))).collect();
    format!("ARRAY[{}]::text[]", all.join(","))
}

/// When a connection last failed, or led to a server that accepts no writes. Connections from before that moment are
/// not used again: the host name may lead to another server now, and each new connection resolves it anew.
#[derive(Debug, Clone, Default)]
struct LastFailover(Arc<Mutex<Option<Stopwatch>>>);

impl LastFailover {
    fn record(&self) {
        *self.0.lock() = Some(Stopwatch::start());
    }

    /// Whether a connection of this age was made before the failover.
    fn is_after(&self, age: Duration) -> bool {
        self.0.lock().as_ref().is_some_and(|failover| failover.elapsed() <= age)
    }
}

/// The text of the error for a read-only server.
const READ_ONLY: &str = "the server that the store's URL leads to is a read-only standby";

/// The pool, and how transactions in it begin.
#[derive(Debug)]
pub(super) struct Connections {
    pub(super) pool: PgPool,
    failover: LastFailover,
    /// Whether the server that was connected to last is read-only.
    standby: Arc<Mutex<bool>>,
    /// The statements that begin a transaction.
    pub(super) begin: String,
    /// The statements that begin a transaction for reading one snapshot.
    pub(super) begin_view: String,
    /// How long a transaction may take.
    pub(super) transaction_timeout: Duration,
}

impl Connections {
    /// Checks that the server syncs commits before it acknowledges them. Returns the pool, and the connection of the
    /// check.
    pub(super) async fn open(url: &str, options: &Options) -> Result<(Self, PgConnection), OpenError> {
        let target = parse(url)?;
        let mut first = connect(&target, options.acquire_timeout).await?;
        check(&mut first).await?;
        let (failover, standby) = (LastFailover::default(), Arc::new(Mutex::new(false)));
        let (last_failover, is_standby) = (failover.clone(), Arc::clone(&standby));
        let pool = PgPoolOptions::new()
            .max_connections(options.connections.max(2))
            .acquire_timeout(options.acquire_timeout)
            .idle_timeout(Duration::from_secs(600))
            // `before_acquire` tests the connection with a shorter timeout.
            .test_before_acquire(false)
            .before_acquire(move |db, meta| is_usable(db, last_failover.is_after(meta.age)))
            .after_connect(move |db, _: PoolConnectionMetadata| accepts_writes(db, Arc::clone(&is_standby)))
            .connect_lazy_with(target);
        let (timeout, idle) = (options.statement_timeout.as_millis(), IDLE_IN_TRANSACTION.as_millis());
        let limits =
            format!("SET LOCAL statement_timeout = {timeout}; SET LOCAL idle_in_transaction_session_timeout = {idle}");
        let begin = format!("BEGIN; {limits}");
        let begin_view = format!("BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY; {limits}");
        let transaction_timeout = options.statement_timeout * TRANSACTION_FACTOR;
        Ok((Self { pool, failover, standby, begin, begin_view, transaction_timeout }, first))
    }

    /// Takes a connection from the pool.
    pub(super) async fn take(&self) -> Result<PoolConnection<Postgres>, StoreError> {
        match self.pool.acquire().await {
            Err(sqlx::Error::PoolTimedOut) if *self.standby.lock() => {
                Err(StoreError::Unreachable(READ_ONLY.to_owned()))
            }
            taken => Ok(taken?),
        }
    }

    /// Returns a connection to the pool after a transaction. If the transaction has shown that the server is
    /// unreachable or read-only, neither this connection nor any older one is used again.
    pub(super) fn give_back<T>(
        &self,
        mut connection: PoolConnection<Postgres>,
        outcome: Result<Result<T, StoreError>, Elapsed>,
    ) -> Result<T, StoreError> {
        let outcome = outcome
            .unwrap_or_else(|_| Err(StoreError::Unreachable("the transaction got no answer in time".to_owned())));
        if let Err(StoreError::Unreachable(_)) = &outcome {
            self.failover.record();
            connection.close_on_drop();
        }
        outcome
    }

    /// A transaction for a test to keep open. It is rolled back unless it is committed.
    #[cfg(test)]
    pub(super) async fn begin(&self) -> Result<sqlx::Transaction<'static, Postgres>, StoreError> {
        Ok(self.pool.begin_with(AssertSqlSafe(self.begin.clone())).await?)
    }
}

/// Connects. Retries up to `limit`, for a server that is just starting.
async fn connect(target: &PgConnectOptions, limit: Duration) -> Result<PgConnection, StoreError> {
    let watch = Stopwatch::start();
    loop {
        let connecting = tokio::time::timeout(limit.saturating_sub(watch.elapsed()), target.connect());
        match connecting.await {
            Ok(Ok(connection)) => return Ok(connection),
            Ok(Err(error)) => {
                let error = StoreError::from(error);
                if !error.is_temporary() || watch.elapsed() > limit {
                    return Err(error);
                }
            }
            Err(_) => return Err(StoreError::Unreachable("the connection got no answer in time".to_owned())),
        }
        tokio::time::sleep(RETRY_DELAY).await;
    }
}

type Answer<'c, T> = Pin<Box<dyn Future<Output = Result<T, sqlx::Error>> + Send + 'c>>;

/// Whether an idle connection can be used again.
fn is_usable(db: &mut PgConnection, too_old: bool) -> Answer<'_, bool> {
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

/// Refuses a new connection to a read-only server: during a failover the host name may still lead to the demoted
/// primary, or already to a standby that is not promoted yet.
fn accepts_writes(db: &mut PgConnection, standby: Arc<Mutex<bool>>) -> Answer<'_, ()> {
    Box::pin(async move {
        // In one round trip, as it is in no transaction: a pooler may send two to different servers.
        let query = sqlx::raw_sql("SELECT pg_is_in_recovery() OR current_setting('transaction_read_only')::boolean");
        let read_only: bool = query.fetch_one(db).await?.try_get(0)?;
        *standby.lock() = read_only;
        if read_only { Err(sqlx::Error::Protocol(READ_ONLY.to_owned())) } else { Ok(()) }
    })
}

async fn check(db: &mut PgConnection) -> Result<(), OpenError> {
    // In one round trip, as it is in no transaction: a pooler may send two to different servers.
    let query = sqlx::raw_sql(
        "SELECT current_setting('synchronous_commit'), pg_is_in_recovery(), current_setting('server_version'),
         current_setting('server_version_num')::int",
    );
    let row = query.fetch_one(db).await?;
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

/// Runs work in a transaction and commits it. If it conflicts with another transaction it is run again, so the work
/// must have no effect other than through its connection.
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

/// Runs work that only reads, on one snapshot. Without it a row that moves from one table to another between two
/// statements would be found in both, or in none.
macro_rules! view {
    ($connections:expr, |$db:ident| $work:expr) => {
        $crate::postgres::connect::in_transaction!($connections, begin_view, |$db| $work)
    };
}
pub(super) use view;

/// Runs work in a transaction that begins with the statements of the given field.
macro_rules! in_transaction {
    ($connections:expr, $begin:ident, |$db:ident| $work:expr) => {
        match $connections.take().await {
            Ok(mut connection) => {
                let begin = sqlx::AssertSqlSafe($connections.$begin.clone());
                let outcome = tokio::time::timeout($connections.transaction_timeout, async {
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

/// How often a transaction that conflicts with others is tried.
pub(super) const TRIES: usize = 10;
