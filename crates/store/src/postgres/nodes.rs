//! The list of nodes: each renews its heartbeat by the server's clock, and removes those whose heartbeat has expired.

use sqlx::postgres::PgRow;
use sqlx::{PgConnection, Row};
use tidings_model::clock::millis;

use super::connect::sql;
use super::locks;
use crate::error::StoreError;
use crate::nodes::{GONE_AFTER, Node, NodeRegistration};

/// The least number of days for which an incarnation is remembered.
const FORGOTTEN_AFTER: i32 = 7;

/// Registers a node or renews its heartbeat, unless an incompatible one is registered.
pub(super) async fn register(
    db: &mut PgConnection,
    name: &str,
    incarnation: i64,
    broker: &str,
) -> Result<NodeRegistration, StoreError> {
    // One at a time: of two that register at once, the second sees the first.
    locks::nodes(db).await?;
    // A heartbeat in the future is from before the server's clock was set back: the node may be dead, so it expires
    // too.
    sql("DELETE FROM node WHERE abs(extract(epoch FROM clock_timestamp() - seen_at) * 1000) > $1")
        .bind(millis(GONE_AFTER))
        .execute(&mut *db)
        .await?;
    let alive = list(db).await?;
    if let Some(other) = alive.into_iter().find(|other| other.name != name && !other.is_compatible(broker)) {
        return Ok(NodeRegistration::Incompatible(other));
    }
    sql("INSERT INTO node (name, incarnation, broker) VALUES ($1, $2, $3)
         ON CONFLICT (name) DO UPDATE SET seen_at = clock_timestamp(), broker = excluded.broker,
         incarnation = excluded.incarnation,
             started_at = CASE WHEN node.incarnation = excluded.incarnation THEN node.started_at ELSE clock_timestamp()
             END")
    .bind(name.to_owned())
    .bind(incarnation)
    .bind(broker.to_owned())
    .execute(db)
    .await?;
    Ok(NodeRegistration::Registered)
}

/// The nodes that are alive.
pub(super) async fn list(db: &mut PgConnection) -> Result<Vec<Node>, StoreError> {
    let rows = sql("SELECT name, broker, (extract(epoch FROM started_at) * 1000)::bigint,
         (extract(epoch FROM seen_at) * 1000)::bigint
         FROM node WHERE abs(extract(epoch FROM clock_timestamp() - seen_at) * 1000) <= $1 ORDER BY name")
    .bind(millis(GONE_AFTER))
    .fetch_all(db)
    .await?;
    rows.iter().map(node).collect()
}

fn node(row: &PgRow) -> Result<Node, StoreError> {
    Ok(Node { name: row.try_get(0)?, broker: row.try_get(1)?, started: row.try_get(2)?, seen: row.try_get(3)? })
}

/// Removes a node, unless it has started again meanwhile.
pub(super) async fn leave(db: &mut PgConnection, name: &str, incarnation: i64) -> Result<(), StoreError> {
    sql("DELETE FROM node WHERE name = $1 AND incarnation = $2")
        .bind(name.to_owned())
        .bind(incarnation)
        .execute(db)
        .await?;
    Ok(())
}

/// Deletes old incarnations that are not those of a living node and hold no lease. Their numbers are never used again.
pub(super) async fn forget_incarnations(db: &mut PgConnection) -> Result<(), StoreError> {
    sql("WITH gone AS (
             DELETE FROM incarnation i WHERE i.started_at < clock_timestamp() - make_interval(days => $1)
                 AND NOT EXISTS (SELECT 1 FROM node n WHERE n.incarnation = i.no)
                 AND NOT EXISTS (SELECT 1 FROM delivery d WHERE d.lease IS NOT NULL AND d.lease >> 40 = i.no)
                 AND NOT EXISTS (SELECT 1 FROM lot t WHERE t.lease >> 40 = i.no)
             RETURNING i.no
         )
         DELETE FROM written w USING gone g WHERE w.incarnation = g.no")
    .bind(FORGOTTEN_AFTER)
    .execute(db)
    .await?;
    Ok(())
}
