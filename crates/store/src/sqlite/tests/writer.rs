//! The writer: each job of a group succeeds or fails alone, and the writer recovers when it can write again.

use std::sync::Arc;
use std::sync::mpsc;
use std::time::Duration;

use parking_lot::Mutex;
use rusqlite::Connection;
use tidings_model::clock::Stopwatch;

use super::Dir;
use crate::error::StoreError;
use crate::log::{Lane, Log, Published};
use crate::sqlite::SqliteStore;
use crate::sqlite::writer::Class;
use crate::suite::World;
use crate::{Catalogue, Store};

/// Blocks the writer until the sender is dropped, so that jobs submitted meanwhile become one group.
fn hold(store: &Arc<SqliteStore>) -> mpsc::Sender<()> {
    let (go, wait) = mpsc::channel::<()>();
    let (begun, has_begun) = mpsc::channel::<()>();
    let store = Arc::clone(store);
    tokio::spawn(async move {
        let held = store.writer.call(Class::Upkeep, move |_| {
            // Both are over when the group is run a second time.
            begun.send(()).ok();
            wait.recv().ok();
            Ok(())
        });
        held.await.unwrap();
    });
    tokio::task::block_in_place(|| has_begun.recv().unwrap());
    go
}

fn put(store: &Arc<SqliteStore>, key: i64, fails: bool) -> tokio::task::JoinHandle<Result<i64, StoreError>> {
    let store = Arc::clone(store);
    tokio::spawn(async move {
        let put = store.writer.call(Class::Ack, move |db| {
            db.execute("INSERT INTO failing (destination, since) VALUES (?1, 0)", [key])?;
            if fails { Err(StoreError::Missing) } else { Ok(key) }
        });
        put.await
    })
}

async fn kept(store: &SqliteStore) -> Vec<i64> {
    use crate::Queue;
    store.failing().await.unwrap().into_iter().map(|(no, _)| no.0).collect()
}

/// Waits until this many jobs are waiting.
async fn waiting(store: &SqliteStore, count: usize) {
    let deadline = Stopwatch::start();
    while store.writer.waiting() < count {
        assert!(deadline.elapsed() < Duration::from_secs(20));
        tokio::task::yield_now().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn each_job_of_a_group_succeeds_or_fails_alone() {
    let dir = Dir::new();
    let store = Arc::new(dir.store());
    for (round, failing) in [vec![], vec![0], vec![2], vec![4], vec![1, 3], vec![0, 1, 2, 3, 4]].into_iter().enumerate()
    {
        let held = hold(&store);
        let first = 10 * round as i64;
        let puts: Vec<_> = (0..5).map(|i| put(&store, first + i, failing.contains(&i))).collect();
        waiting(&store, 5).await;
        drop(held);
        for (i, put) in (0..5).zip(puts) {
            let expected = if failing.contains(&i) { Err(StoreError::Missing) } else { Ok(first + i) };
            assert_eq!(put.await.unwrap(), expected);
        }
        let wanted: Vec<i64> = (0..5).filter(|i| !failing.contains(i)).map(|i| first + i).collect();
        assert_eq!(kept(&store).await.into_iter().filter(|key| *key >= first).collect::<Vec<_>>(), wanted);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_waits_for_an_answer_goes_first() {
    let dir = Dir::new();
    let store = Arc::new(dir.store());
    let held = hold(&store);
    let ran = Arc::new(Mutex::new(Vec::new()));
    let mut tasks = Vec::new();
    // Upkeep is left out: it may still belong to the group that is held.
    for class in [Class::Work, Class::Result, Class::Ack] {
        let (of, ran) = (Arc::clone(&store), Arc::clone(&ran));
        tasks.push(tokio::spawn(async move {
            let note = move |_: &crate::sqlite::db::Db| {
                ran.lock().push(class);
                Ok(())
            };
            of.writer.call(class, note).await
        }));
        waiting(&store, tasks.len()).await;
    }
    drop(held);
    for task in tasks {
        assert_eq!(task.await.unwrap(), Ok(()));
    }
    assert_eq!(*ran.lock(), [Class::Ack, Class::Result, Class::Work]);
}

#[tokio::test(flavor = "multi_thread")]
async fn more_than_can_wait_is_refused() {
    let dir = Dir::new();
    let store = Arc::new(dir.store());
    let held = hold(&store);
    let acks: Vec<_> = (0..8_192).map(|i| put(&store, i, false)).collect();
    waiting(&store, 8_192).await;
    assert_eq!(put(&store, 9_999, false).await.unwrap(), Err(StoreError::Overloaded));
    // Results are never refused: they make room.
    let result = {
        let store = Arc::clone(&store);
        tokio::spawn(async move { store.writer.call(Class::Result, |_| Ok(7)).await })
    };
    waiting(&store, 8_193).await;
    drop(held);
    for (i, ack) in (0..).zip(acks) {
        assert_eq!(ack.await.unwrap(), Ok(i));
    }
    assert_eq!(result.await.unwrap(), Ok(7));
}

#[tokio::test(flavor = "multi_thread")]
async fn more_bytes_than_can_wait_are_refused() {
    let dir = Dir::new();
    let store = Arc::new(dir.store());
    let heavy = |weight: usize| {
        let store = Arc::clone(&store);
        tokio::spawn(async move { store.writer.call_holding(weight, Class::Ack, |_| Ok(())).await })
    };
    for _ in 0..2 {
        let held = hold(&store);
        // The first may be larger than all that may wait.
        let first = heavy(100 << 20);
        waiting(&store, 1).await;
        assert_eq!(heavy(1).await.unwrap(), Err(StoreError::Overloaded));
        drop(held);
        assert_eq!(first.await.unwrap(), Ok(()));
        assert_eq!(heavy(1).await.unwrap(), Ok(()));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn closing_finishes_what_is_waiting() {
    let dir = Dir::new();
    let store = Arc::new(dir.store());
    let held = hold(&store);
    let puts: Vec<_> = (0..100).map(|i| put(&store, i, false)).collect();
    waiting(&store, 100).await;
    let closing = {
        let store = Arc::clone(&store);
        tokio::spawn(async move { store.close().await })
    };
    drop(held);
    closing.await.unwrap();
    for put in puts {
        assert!(put.await.unwrap().is_ok());
    }
    assert_eq!(put(&store, 200, false).await.unwrap(), Err(StoreError::Closed));
    drop(store);
    assert_eq!(kept(&dir.store()).await.len(), 100);
}

// covers: G413
#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_panics_costs_itself_alone() {
    let dir = Dir::new();
    let store = Arc::new(dir.store());
    let held = hold(&store);
    let panics = {
        let store = Arc::clone(&store);
        tokio::spawn(async move { store.writer.call::<(), _>(Class::Ack, |_| panic!("meant to")).await })
    };
    waiting(&store, 1).await;
    let after = put(&store, 1, false);
    waiting(&store, 2).await;
    drop(held);
    assert_eq!(panics.await.unwrap(), Err(StoreError::Panicked("meant to".to_owned())));
    assert_eq!(after.await.unwrap(), Ok(1));
    assert_eq!(put(&store, 2, false).await.unwrap(), Ok(2));
}

/// What nobody may drop.
#[derive(Debug)]
struct Bomb;

impl Drop for Bomb {
    fn drop(&mut self) {
        panic!("meant to");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_writer_that_dies_leaves_nobody_waiting() {
    let dir = Dir::new();
    let store = Arc::new(dir.store());
    let held = hold(&store);
    let dies = {
        let store = Arc::clone(&store);
        tokio::spawn(async move { store.writer.call(Class::Ack, |_| Ok(Bomb)).await.map(std::mem::forget) })
    };
    waiting(&store, 1).await;
    let after = put(&store, 1, false);
    waiting(&store, 2).await;
    // Its answer goes to nobody, so the writer drops it.
    dies.abort();
    assert!(dies.await.is_err());
    drop(held);
    assert_eq!(after.await.unwrap(), Err(StoreError::Closed));
    assert_eq!(put(&store, 2, false).await.unwrap(), Err(StoreError::Closed));
}

// covers: G111
#[tokio::test(flavor = "multi_thread")]
async fn what_is_undone_is_not_counted() {
    let dir = Dir::new();
    let store = Arc::new(dir.store());
    let held = hold(&store);
    let count = |fails: bool| {
        let store = Arc::clone(&store);
        tokio::spawn(async move {
            let job = store.writer.call(Class::Ack, move |db| {
                db.count_deliveries(1);
                if fails { Err(StoreError::Missing) } else { Ok(()) }
            });
            job.await
        })
    };
    let all: Vec<_> = [false, true, false, true].into_iter().map(count).collect();
    waiting(&store, 4).await;
    drop(held);
    let mut done = 0;
    for job in all {
        done += usize::from(job.await.unwrap().is_ok());
    }
    assert_eq!((done, crate::Queue::depth(&*store).await.unwrap().deliveries), (2, 2));
}

/// Sets how many pages the database may have; 0 only reads it.
async fn most_pages(store: &SqliteStore, pages: i64) -> i64 {
    let ask = move |db: &crate::sqlite::db::Db| {
        let sql = if pages == 0 { "PRAGMA page_count".to_owned() } else { format!("PRAGMA max_page_count = {pages}") };
        Ok(db.query_row(&sql, [], |row| row.get(0))?)
    };
    store.writer.call(Class::Upkeep, ask).await.unwrap()
}

// covers: C03
#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_refuses_and_breaks_nothing() {
    let dir = Dir::new();
    let store = Arc::new(dir.store());
    let w = World::at(Box::new(super::Dir::new())).await;
    let template = w.to("template", &[], Lane::Own).await;
    let publish = |id: &str, bytes: usize| {
        let mut publish = template.clone();
        publish.catalogue_version = 0;
        publish.event.id = id.to_owned();
        publish.event.channels = vec!["c".to_owned()];
        publish.event.data = tidings_model::event::Data::json(vec![b'1'; bytes]);
        let store = Arc::clone(&store);
        tokio::spawn(async move { store.publish(publish).await })
    };
    assert!(publish("before", 10).await.unwrap().is_ok());
    let pages = most_pages(&store, 0).await;
    most_pages(&store, pages).await;
    assert_eq!(publish("alone", 100_000).await.unwrap(), Err(StoreError::Full));
    // In a group, what fits is kept and what does not is refused.
    let held = hold(&store);
    let small = publish("small", 10);
    waiting(&store, 1).await;
    let large = publish("large", 100_000);
    waiting(&store, 2).await;
    let touched = put(&store, 1, false);
    waiting(&store, 3).await;
    drop(held);
    let (small, large, touched) = (small.await.unwrap(), large.await.unwrap(), touched.await.unwrap());
    assert_eq!(large, Err(StoreError::Full));
    assert!(matches!(small, Ok(Published::Stored { .. })), "{small:?}");
    assert_eq!(touched, Ok(1));
    for id in ["alone", "large"] {
        assert_eq!(store.event(&template.event.app, id).await.unwrap(), None);
    }
    let filter = crate::log::EventFilter { channel: Some("c".to_owned()), limit: 9, ..Default::default() };
    assert_eq!(store.events(&template.event.app, filter).await.unwrap().rows.len(), 2);
    // The writer probes by itself whether it can write again.
    assert!(publish("full", 100_000).await.unwrap().is_err());
    assert_eq!(store.writable().await, Err(StoreError::Full));
    most_pages(&store, 1_000_000).await;
    tidings_testkit::eventually(Duration::from_secs(20), async || store.writable().await.ok()).await;
    assert!(publish("large", 100_000).await.unwrap().is_ok());
    drop(store);
    let check: String =
        Connection::open(dir.path()).unwrap().query_row("PRAGMA integrity_check", [], |row| row.get(0)).unwrap();
    assert_eq!(check, "ok");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_somebody_else_holds_refuses_everyone_at_once() {
    let dir = Dir::new();
    let store = Arc::new(dir.store());
    let other = Connection::open(dir.path()).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let began = Stopwatch::start();
    let puts: Vec<_> = (0..20).map(|i| put(&store, i, false)).collect();
    for put in puts {
        assert_eq!(put.await.unwrap(), Err(StoreError::Locked));
    }
    assert!(began.elapsed() < Duration::from_secs(6), "each waited for itself: {:?}", began.elapsed());
    // Reading goes on meanwhile.
    assert_eq!(store.changes(0).await.unwrap().version, 0);
    other.execute_batch("ROLLBACK").unwrap();
    assert_eq!(put(&store, 1, false).await.unwrap(), Ok(1));
    assert_eq!(kept(&store).await, [1]);
}
