//! Checks at the start that the main key is the one that the database's records are sealed with.

use sqlx::{PgConnection, Row};

use super::connect::{Connections, OpenError, Options, sql, transact};
use super::{locks, meta, nodes};
use crate::error::StoreError;
use crate::fingerprint::{self, Sample};
use crate::records::{app_name, listener_name};
use crate::seal::MainKey;

/// Refuses a key file that is not this database's; of one that is, records the fingerprints.
pub(super) async fn check_key(db: &mut PgConnection, key: &MainKey, node: &str) -> Result<(), StoreError> {
    // Of two nodes that start at once, the second sees the fingerprints of the first.
    locks::migration(db).await?;
    let alone = nodes::list(db).await?.iter().all(|other| other.name == node);
    let corrections = fingerprint::compare(key, &meta::fingerprints(db).await?, &samples(db).await?, alone)?;
    meta::correct_fingerprints(db, &corrections).await
}

/// Refuses a node whose key has another fingerprint than the recorded one. Two nodes that start at once both count as
/// alone, so the second may have recorded another key.
pub(super) async fn check_fingerprints(db: &mut PgConnection, key: &MainKey) -> Result<(), StoreError> {
    let known = meta::fingerprints(db).await?;
    let other = key.fingerprints().find(|(id, own)| known.iter().any(|(known, value)| known == id && value != own));
    other.map_or(Ok(()), |(id, _)| Err(StoreError::OtherMainKey(id)))
}

/// One sealed record of each main key.
async fn samples(db: &mut PgConnection) -> Result<Vec<Sample>, StoreError> {
    let rows = sql("SELECT DISTINCT ON (substr(sealed, 1, 4)) kind, app, id, sealed FROM (
            SELECT 'listener' AS kind, app, id, sealed FROM listener WHERE deleted = 0
            UNION ALL SELECT 'app', id, '', sealed FROM app WHERE deleted = 0
        ) AS record")
    .fetch_all(db)
    .await?;
    let sample = |row: &sqlx::postgres::PgRow| {
        let (kind, app, id): (String, String, String) = (row.try_get(0)?, row.try_get(1)?, row.try_get(2)?);
        let belongs_to = if kind == "app" { app_name(&app) } else { listener_name(&app, &id) };
        Ok(Sample { belongs_to, sealed: row.try_get(3)? })
    };
    rows.iter().map(sample).collect()
}

/// What a database contains before this node has opened it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Holdings {
    /// Whether a server has opened it before.
    pub data: bool,
    /// Whether it needs a certain main key: the one that its secrets are sealed with, or that of a running node.
    pub secrets: bool,
}

/// Inspects a database that may be new.
///
/// # Errors
/// As [`super::PostgresStore::open`].
pub async fn holdings(url: &str, options: &Options) -> Result<Holdings, OpenError> {
    let (connections, first) = Connections::open(url, options).await?;
    drop(first);
    let holdings = transact!(connections, |db| look(db).await);
    connections.pool.close().await;
    Ok(holdings?)
}

async fn look(db: &mut PgConnection) -> Result<Holdings, StoreError> {
    let tables = sql("SELECT to_regclass('tidings_schema') IS NOT NULL, to_regclass('app') IS NOT NULL,
        to_regclass('node') IS NOT NULL")
    .fetch_one(&mut *db)
    .await?;
    let (data, apps, listed): (bool, bool, bool) = (tables.try_get(0)?, tables.try_get(1)?, tables.try_get(2)?);
    if !data {
        return Ok(Holdings { data, secrets: false });
    }
    let listeners = sql("SELECT EXISTS (SELECT 1 FROM listener WHERE deleted = 0)");
    let mut secrets: bool = listeners.fetch_one(&mut *db).await?.try_get(0)?;
    if apps {
        let sealed = sql("SELECT EXISTS (SELECT 1 FROM app WHERE deleted = 0)");
        secrets |= sealed.fetch_one(&mut *db).await?.try_get::<bool, _>(0)?;
    }
    if listed && !meta::fingerprints(db).await?.is_empty() {
        secrets |= !nodes::list(db).await?.is_empty();
    }
    Ok(Holdings { data, secrets })
}
