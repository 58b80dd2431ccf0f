//! What transactions of all nodes wait for each other by: advisory locks that end with the transaction.
//!
//! They are always taken in this order: the catalogue, fan-out, lanes in ascending order. Rows of `queue` come last of
//! all (see [`super::lanes::DueIndex`]).

use std::collections::BTreeSet;

use sqlx::PgConnection;
use tidings_model::id::DestinationNo;

use super::connect::{numbers, numeric};
use crate::error::StoreError;

/// The first half of each lock's number: whatever else is in the database is not likely to use it.
const CATALOGUE: i32 = 0x7469_6401;
const LANES: i32 = 0x7469_6402;
/// The single locks.
const MIGRATION: i32 = 1;
const FANOUT: i32 = 2;
const CHANGES: i32 = 3;
const NODES: i32 = 4;
const RETENTION: i32 = 5;
/// Lanes share so many locks: a transaction then never holds more than the server has room for.
const STRIPES: u64 = 256;

/// Nobody else migrates meanwhile.
pub(super) async fn migration(db: &mut PgConnection) -> Result<(), StoreError> {
    exclusive(db, CATALOGUE, MIGRATION).await
}

/// Nobody else enters the list of nodes meanwhile. Whoever holds it takes no other lock.
pub(super) async fn nodes(db: &mut PgConnection) -> Result<(), StoreError> {
    exclusive(db, CATALOGUE, NODES).await
}

/// Nobody else forgets what is too much meanwhile. Whoever holds it takes no other lock.
pub(super) async fn retention(db: &mut PgConnection) -> Result<(), StoreError> {
    exclusive(db, CATALOGUE, RETENTION).await
}

/// Nobody else expands meanwhile.
pub(super) async fn fanout(db: &mut PgConnection) -> Result<(), StoreError> {
    exclusive(db, CATALOGUE, FANOUT).await
}

/// The catalogue is changed by nobody else, and nothing is published or opened again meanwhile.
pub(super) async fn change_catalogue(db: &mut PgConnection) -> Result<(), StoreError> {
    exclusive(db, CATALOGUE, CHANGES).await
}

/// The catalogue stays as it is until the end of the transaction: what is opened for a destination that is there will
/// be seen by whoever deletes it.
pub(super) async fn hold_catalogue(db: &mut PgConnection) -> Result<(), StoreError> {
    numeric(holding_catalogue()).execute(db).await?;
    Ok(())
}

/// The statement of [`hold_catalogue`].
fn holding_catalogue() -> String {
    format!("SELECT pg_advisory_xact_lock_shared({CATALOGUE}, {CHANGES})")
}

/// The statements of [`hold_catalogue`] and, where there are any, [`lanes`].
pub(super) fn holding_catalogue_and_lanes(stripes: &[i32]) -> String {
    let catalogue = holding_catalogue();
    if stripes.is_empty() { catalogue } else { format!("{catalogue}; {}", holding_lanes(stripes)) }
}

/// The locks of lanes, in the order in which they are taken.
pub(super) fn stripes<'a>(lanes: impl Iterator<Item = (DestinationNo, &'a str)>) -> Vec<i32> {
    lanes.map(stripe).collect::<BTreeSet<i32>>().into_iter().collect()
}

/// Nobody else puts deliveries into the lanes of these stripes or takes their heads out meanwhile. To be called once in
/// a transaction.
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

/// The same on every node, whatever it was built with (FNV-1a).
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
