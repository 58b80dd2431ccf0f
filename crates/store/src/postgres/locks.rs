//! Advisory locks, by which transactions of all nodes exclude each other. They end with the transaction.
//!
//! Against deadlocks they are always taken in this order: the catalogue, fan-out, lanes in ascending order. Rows of
//! `queue` come last (see [`super::lanes::DueIndex`]).

use std::collections::BTreeSet;

use sqlx::PgConnection;
use tidings_model::id::DestinationNo;

use super::connect::{numbers, numeric};
use crate::error::StoreError;

/// The first half of each lock's number. Other programs that use the database are unlikely to use the same.
const CATALOGUE: i32 = 0x7469_6401;
const LANES: i32 = 0x7469_6402;
/// The second half of the number of each lock that is not a lane's.
const MIGRATION: i32 = 1;
const FANOUT: i32 = 2;
const CHANGES: i32 = 3;
const NODES: i32 = 4;
const RETENTION: i32 = 5;
/// Lanes share this many locks, so that a transaction never holds more locks than the server has room for.
const STRIPES: u64 = 256;

/// Excludes other migrations.
pub(super) async fn migration(db: &mut PgConnection) -> Result<(), StoreError> {
    exclusive(db, CATALOGUE, MIGRATION).await
}

/// Excludes other registrations of nodes. Its holder takes no other lock.
pub(super) async fn nodes(db: &mut PgConnection) -> Result<(), StoreError> {
    exclusive(db, CATALOGUE, NODES).await
}

/// Excludes other retention by size. Its holder takes no other lock.
pub(super) async fn retention(db: &mut PgConnection) -> Result<(), StoreError> {
    exclusive(db, CATALOGUE, RETENTION).await
}

/// Excludes other expansions of fan-out rows.
pub(super) async fn fanout(db: &mut PgConnection) -> Result<(), StoreError> {
    exclusive(db, CATALOGUE, FANOUT).await
}

/// The exclusive lock of the catalogue: excludes other changes, and also publishes and reopened deliveries.
pub(super) async fn change_catalogue(db: &mut PgConnection) -> Result<(), StoreError> {
    exclusive(db, CATALOGUE, CHANGES).await
}

/// The shared lock of the catalogue: it does not change until the end of the transaction. So a transaction that deletes
/// a listener sees every delivery that was opened while the listener existed.
pub(super) async fn hold_catalogue(db: &mut PgConnection) -> Result<(), StoreError> {
    numeric(holding_catalogue()).execute(db).await?;
    Ok(())
}

/// The statement of [`hold_catalogue`].
fn holding_catalogue() -> String {
    format!("SELECT pg_advisory_xact_lock_shared({CATALOGUE}, {CHANGES})")
}

/// The statements of [`hold_catalogue`] and, if there are stripes, [`lanes`].
pub(super) fn holding_catalogue_and_lanes(stripes: &[i32]) -> String {
    let catalogue = holding_catalogue();
    if stripes.is_empty() { catalogue } else { format!("{catalogue}; {}", holding_lanes(stripes)) }
}

/// The stripes (lock numbers) of lanes, in the order in which they are locked.
pub(super) fn stripes<'a>(lanes: impl Iterator<Item = (DestinationNo, &'a str)>) -> Vec<i32> {
    lanes.map(stripe).collect::<BTreeSet<i32>>().into_iter().collect()
}

/// Locks the lanes of these stripes: no other transaction puts deliveries into them or removes their heads. Call it at
/// most once in a transaction, or the order of locks is not kept.
pub(super) async fn lanes(db: &mut PgConnection, stripes: Vec<i32>) -> Result<(), StoreError> {
    if stripes.is_empty() {
        return Ok(());
    }
    numeric(holding_lanes(&stripes)).execute(db).await?;
    Ok(())
}

fn holding_lanes(stripes: &[i32]) -> String {
    let stripes = numbers(stripes.iter().map(|stripe| i64::from(*stripe)));
    format!("SELECT pg_advisory_xact_lock({LANES}, stripe::int) FROM unnest({stripes}) AS s (stripe)")
}

/// The stripe of a lane. It must be the same on every node and in every build, so the hash is FNV-1a.
fn stripe((destination, lane): (DestinationNo, &str)) -> i32 {
    let bytes = destination.0.to_le_bytes().into_iter().chain(lane.bytes());
    let hash =
        bytes.fold(0xcbf2_9ce4_8422_2325, |hash: u64, byte| (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3));
    ((hash >> 32) % STRIPES) as i32
}

async fn exclusive(db: &mut PgConnection, kind: i32, which: i32) -> Result<(), StoreError> {
    numeric(format!("SELECT pg_advisory_xact_lock({kind}, {which})")).execute(db).await?;
    Ok(())
}
