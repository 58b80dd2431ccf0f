//! Reads: bounded in time, without an effect on later ones.

use super::Dir;
use crate::Store;
use crate::catalogue::Catalogue;
use crate::error::StoreError;
use crate::sqlite::READERS;
use crate::sqlite::readers::Readers;

const ENDLESS: &str = "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT COUNT(*) FROM n";

async fn endless(readers: Readers) -> Result<i64, StoreError> {
    readers.read(|db| Ok(db.query_row(ENDLESS, [], |row| row.get(0))?)).await
}

#[tokio::test]
async fn a_read_that_takes_too_long_is_broken_off() {
    let dir = Dir::new();
    let store = dir.store();
    let reads: Vec<_> = (0..READERS + 1).map(|_| tokio::spawn(endless(store.readers.clone()))).collect();
    for read in reads {
        assert_eq!(read.await.unwrap(), Err(StoreError::TooSlow));
    }
    // Each connection is as good as new.
    for _ in 0..2 * READERS {
        assert_eq!(store.changes(0).await.unwrap().version, 0);
    }
}

#[tokio::test]
async fn a_read_that_panics_costs_nobody_else_anything() {
    let dir = Dir::new();
    let store = dir.store();
    for _ in 0..2 * READERS {
        let read = store.readers.read::<(), _>(|_| panic!("meant to"));
        assert_eq!(read.await, Err(StoreError::Panicked("meant to".to_owned())));
    }
    assert_eq!(store.changes(0).await.unwrap().version, 0);
}

#[tokio::test]
async fn nothing_is_read_from_a_closed_store() {
    let dir = Dir::new();
    let store = dir.store();
    store.close().await;
    assert_eq!(store.changes(0).await.map(drop), Err(StoreError::Closed));
    assert_eq!(store.writable().await, Err(StoreError::Closed));
}
