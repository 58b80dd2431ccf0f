//! Connections: how they are made, what is checked before any is used, and how a transaction begins.
//!
//! A pooler in transaction mode may stand between: every statement is part of a transaction, none is prepared under a name,
//! and no setting outlives its transaction.

use std::str::FromStr;
use std::time::Duration;

use sqlx::postgres::{PgArguments, PgConnectOptions, PgPool, PgPoolOptions, Postgres};
use sqlx::query::Query;
use sqlx::{AssertSqlSafe, ConnectOptions, RawSql, Row, Transaction};

use crate::error::StoreError;

/// After so long the server ends a transaction that does nothing. A node that stands still, or cannot be heard, in the midst of
/// one holds up every other that needs its locks; those wait for longer (`statement_timeout`).
const STANDSTILL: Duration = Duration::from_secs(5);

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
        "the database answers commits before they are on disk (synchronous_commit is {0:?}), so what Tidings acknowledges could be lost; run `ALTER ROLE <the user> SET synchronous_commit = on`, or set it for the database or the server"
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

/// Statements in which nothing but numbers are written, all of them in one round trip: one that values are bound to takes two.
pub(super) fn numeric(text: String) -> RawSql {
    sqlx::raw_sql(AssertSqlSafe(text))
}

/// Numbers as such a statement has them.
pub(super) fn numbers(all: impl IntoIterator<Item = i64>) -> String {
    let all: Vec<String> = all.into_iter().map(|number| number.to_string()).collect();
    format!("'{{{}}}'::bigint[]", all.join(","))
}

/// The pool and how transactions in it begin.
#[derive(Debug)]
pub(super) struct Connections {
    pub(super) pool: PgPool,
    begin: String,
    begin_view: String,
}

impl Connections {
    /// Connects, and checks that the server keeps what it acknowledges.
    pub(super) async fn open(url: &str, options: &Options) -> Result<Self, OpenError> {
        let pool = PgPoolOptions::new()
            .max_connections(options.connections.max(2))
            .acquire_timeout(options.acquire_timeout)
            .idle_timeout(Duration::from_secs(600))
            .connect_lazy_with(parse(url)?);
        let (timeout, standstill) = (options.statement_timeout.as_millis(), STANDSTILL.as_millis());
        let patience = format!(
            "SET LOCAL statement_timeout = {timeout}; SET LOCAL idle_in_transaction_session_timeout = {standstill}"
        );
        let begin = format!("BEGIN; {patience}");
        let begin_view = format!("BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY; {patience}");
        let connections = Self { pool, begin, begin_view };
        connections.check().await?;
        Ok(connections)
    }

    /// A transaction. Whatever is done in it is undone unless it is committed.
    pub(super) async fn begin(&self) -> Result<Transaction<'static, Postgres>, StoreError> {
        Ok(self.pool.begin_with(AssertSqlSafe(self.begin.clone())).await?)
    }

    /// A transaction that only reads, whose statements all see the same moment.
    pub(super) async fn begin_view(&self) -> Result<Transaction<'static, Postgres>, StoreError> {
        Ok(self.pool.begin_with(AssertSqlSafe(self.begin_view.clone())).await?)
    }

    async fn check(&self) -> Result<(), OpenError> {
        let mut tx = self.begin().await?;
        let row = sql(
            "SELECT current_setting('synchronous_commit'), pg_is_in_recovery(), current_setting('server_version'), current_setting('server_version_num')::int",
        )
        .fetch_one(&mut *tx)
        .await?;
        tx.commit().await?;
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
}

/// Runs work in a transaction and commits it. When it had to give way to another transaction, it is run again: work does
/// nothing but use its connection.
macro_rules! transact {
    ($connections:expr, |$db:ident| $work:expr) => {{
        let mut tries = 0;
        loop {
            let outcome = async {
                let mut tx = $connections.begin().await?;
                let $db: &mut sqlx::PgConnection = &mut tx;
                let value = $work?;
                tx.commit().await?;
                Ok::<_, crate::error::StoreError>(value)
            }
            .await;
            tries += 1;
            match outcome {
                Err(crate::error::StoreError::Locked) if tries < $crate::postgres::connect::TRIES => {}
                outcome => break outcome,
            }
        }
    }};
}
pub(super) use transact;

/// Runs work that only reads, and whose statements have to see the same moment: what goes from one table to another between
/// them would be found in both, or in none.
macro_rules! view {
    ($connections:expr, |$db:ident| $work:expr) => {
        async {
            let mut tx = $connections.begin_view().await?;
            let $db: &mut sqlx::PgConnection = &mut tx;
            let value = $work?;
            tx.commit().await?;
            Ok::<_, crate::error::StoreError>(value)
        }
        .await
    };
}
pub(super) use view;

/// How often a transaction that had to give way is tried.
pub(super) const TRIES: usize = 10;
