//! The list of nodes: each keeps its row fresh by the server's clock, and whoever comes strikes off those that do not.

use sqlx::postgres::PgRow;
use sqlx::{PgConnection, Row};
use tidings_model::clock::millis;

use super::connect::sql;
use super::locks;
use crate::error::StoreError;
use crate::nodes::{GONE_AFTER, Node, Presence};

/// For how many days a start is remembered at least.
const FORGOTTEN_AFTER: i32 = 7;

/// Writes down that a node is there, unless another one is that it does not go with.
pub(super) async fn enter(
    db: &mut PgConnection,
    name: &str,
    incarnation: i64,
    broker: &str,
) -> Result<Presence, StoreError> {
    // One at a time: of two that come at once, the second sees the first.
    locks::nodes(db).await?;
    // A row of the future is from before the server's clock was set back, and may be anybody's.
    sql("DELETE FROM node WHERE abs(extract(epoch FROM clock_timestamp() - seen_at) * 1000) > $1")
        .bind(millis(GONE_AFTER))
        .execute(&mut *db)
        .await?;
    let there = list(db).await?;
    if let Some(other) = there.into_iter().find(|other| other.name != name && !other.goes_with(broker)) {
        return Ok(Presence::Refused(other));
    }
    sql("INSERT INTO node (name, incarnation, broker) VALUES ($1, $2, $3)
         ON CONFLICT (name) DO UPDATE SET seen_at = clock_timestamp(), broker = excluded.broker, incarnation = excluded.incarnation,
             started_at = CASE WHEN node.incarnation = excluded.incarnation THEN node.started_at ELSE clock_timestamp() END")
    .bind(name.to_owned())
    .bind(incarnation)
    .bind(broker.to_owned())
    .execute(db)
    .await?;
    Ok(Presence::Entered)
}

/// Who is there.
pub(super) async fn list(db: &mut PgConnection) -> Result<Vec<Node>, StoreError> {
    let rows = sql("SELECT name, broker, (extract(epoch FROM started_at) * 1000)::bigint, (extract(epoch FROM seen_at) * 1000)::bigint
         FROM node WHERE abs(extract(epoch FROM clock_timestamp() - seen_at) * 1000) <= $1 ORDER BY name")
    .bind(millis(GONE_AFTER))
    .fetch_all(db)
    .await?;
    rows.iter().map(node).collect()
}

fn node(row: &PgRow) -> Result<Node, StoreError> {
    Ok(Node { name: row.try_get(0)?, broker: row.try_get(1)?, started: row.try_get(2)?, seen: row.try_get(3)? })
}

/// Strikes a node off, unless it has started again meanwhile.
pub(super) async fn leave(db: &mut PgConnection, name: &str, incarnation: i64) -> Result<(), StoreError> {
    sql("DELETE FROM node WHERE name = $1 AND incarnation = $2")
        .bind(name.to_owned())
        .bind(incarnation)
        .execute(db)
        .await?;
    Ok(())
}

/// Forgets starts of long ago that neither are of a node that is there nor hold a lease. Their numbers are never given again.
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
