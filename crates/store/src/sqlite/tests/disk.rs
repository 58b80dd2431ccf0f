//! The files on disk: settings persist, secrets are not readable, the write-ahead log stays bounded.

use std::sync::Arc;

use rusqlite::Connection;
use tidings_model::listener::Order;
use tidings_supervisor::Supervisor;

use super::Dir;
use crate::error::StoreError;
use crate::log::{Lane, Log};
use crate::queue::{Next, Queue};
use crate::seal::MainKey;
use crate::sqlite::writer::Class;
use crate::sqlite::{SCHEMA_VERSION, SqliteStore, Sync};
use crate::suite::{Fixture, World, finished, secret};
use crate::{Catalogue, Store};

async fn setting(store: &SqliteStore, name: &'static str) -> String {
    let ask = move |db: &crate::sqlite::db::Db| {
        Ok(db.pragma_query_value(None, name, |row| {
            Ok(match row.get_ref(0)? {
                rusqlite::types::ValueRef::Integer(number) => number.to_string(),
                other => other.as_str()?.to_owned(),
            })
        })?)
    };
    store.writer.call(Class::Upkeep, ask).await.unwrap()
}

#[tokio::test]
async fn a_commit_waits_for_the_disk() {
    let dir = Dir::new();
    let store = dir.store();
    assert_eq!(setting(&store, "journal_mode").await, "wal");
    assert_eq!(setting(&store, "synchronous").await, "2", "2 is FULL");
    assert_eq!(setting(&store, "auto_vacuum").await, "2", "2 is INCREMENTAL");
    assert!(store.durable());
    drop(store);
    let key = MainKey::load_or_create(&dir.dir.path().join("main.key")).unwrap();
    let relaxed = SqliteStore::open(&dir.path(), Sync::Normal, key, &Supervisor::default()).unwrap();
    assert_eq!(setting(&relaxed, "synchronous").await, "1", "1 is NORMAL");
    assert!(!relaxed.durable());
}

// covers: K01
#[tokio::test]
async fn no_secret_is_on_disk_in_clear() {
    let dir = Dir::new();
    let store = dir.store();
    let mut listener = crate::suite::listener(&"1".into(), "l", Order::None);
    store.create_listener(listener.clone()).await.unwrap();
    listener.keys.rotate(tidings_model::signature::Secret::from_bytes(&[7; 32]).unwrap(), 0, i64::MAX);
    store.replace_listener(listener.clone(), 1).await.unwrap();
    let mut hidden: Vec<Vec<u8>> = vec![b"hidden-header-value".to_vec()];
    for secret in [secret(), listener.keys.current.clone()] {
        hidden.push(secret.expose().trim_start_matches("whsec_").as_bytes().to_vec());
    }
    hidden.push(b"0123456789abcdef0123456789abcdef".to_vec());
    let check = |when: &str| {
        let mut seen = 0;
        for file in std::fs::read_dir(dir.dir.path()).unwrap() {
            let path = file.unwrap().path();
            if !path.file_name().unwrap().to_string_lossy().starts_with("tidings.db") {
                continue;
            }
            let bytes = std::fs::read(&path).unwrap();
            seen += bytes.len();
            for text in &hidden {
                assert!(!bytes.windows(text.len()).any(|w| w == text), "a secret in {} {when}", path.display());
            }
        }
        assert!(seen > 10_000);
    };
    check("while open");
    store.delete_listener(&"1".into(), "l", 0).await.unwrap();
    let erased = |db: &Connection| Ok(db.query_row("SELECT length(sealed) FROM listener", [], |row| row.get(0))?);
    assert_eq!(store.readers.read(erased).await, Ok(0));
    store.close().await;
    drop(store);
    check("after the end");
}

// covers: C09
#[tokio::test]
async fn a_later_schema_is_refused_and_left_alone() {
    let dir = Dir::new();
    drop(dir.store());
    let later = SCHEMA_VERSION + 1;
    Connection::open(dir.path()).unwrap().pragma_update(None, "user_version", later).unwrap();
    let before = std::fs::read(dir.path()).unwrap();
    let key = MainKey::load_or_create(&dir.dir.path().join("main.key")).unwrap();
    let refused = SqliteStore::open(&dir.path(), Sync::Full, key, &Supervisor::default()).map(drop);
    assert_eq!(refused, Err(StoreError::NewerSchema { found: later, known: SCHEMA_VERSION }));
    assert_eq!(std::fs::read(dir.path()).unwrap(), before);
    let left: Vec<_> = std::fs::read_dir(dir.dir.path()).unwrap().map(|f| f.unwrap().file_name()).collect();
    assert_eq!(left.len(), 2, "{left:?}");
}

/// Listeners as version 0.1.0 stored them: a match in its syntax, and one that exceeds today's limit.
// covers: G175, G012
#[tokio::test]
async fn matches_of_the_first_version_are_written_anew_once() {
    let dir = Dir::new();
    let store = dir.store();
    let mut listener = crate::suite::listener(&"1".into(), "l", Order::None);
    store.create_listener(listener.clone()).await.unwrap();
    listener.id = "large".to_owned();
    store.create_listener(listener).await.unwrap();
    store.close().await;
    drop(store);
    let db = Connection::open(dir.path()).unwrap();
    let set = |id: &str, filter: &str| {
        let set = "UPDATE listener SET spec = json_set(spec, '$.match', json(?2)) WHERE id = ?1";
        assert_eq!(db.execute(set, [id, filter]).unwrap(), 1);
    };
    set("l", r#"{"tags":["x"],"a":{"in":5},"n":{"contains":"o"}}"#);
    set("large", r#"{"a":{"like":"^\\pL{20}$"}}"#);
    // The last migration is the one that writes them anew.
    db.pragma_update(None, "user_version", SCHEMA_VERSION - 1).unwrap();
    drop(db);
    let large = crate::matches::large_in_sqlite(&dir.path()).unwrap();
    assert_eq!(large.iter().map(|large| large.listener.as_str()).collect::<Vec<_>>(), ["large"]);

    let now = r#"{"tags":{"is":["x"]},"a":{".in":5},"n":{"all":[{"contains":"o"},{"starts_with":""}]}}"#;
    for _ in 0..2 {
        let store = dir.store();
        let changes = store.changes(0).await.unwrap();
        let of = |id: &str| changes.listeners.iter().find(|(l, _)| l.id == id).unwrap().0.clone();
        assert_eq!(of("l").filter.to_json().get(), now);
        assert!(of("large").filter.is_large() && !of("l").filter.is_large());
        assert_eq!(of("l").hooks, of("large").hooks, "the rest is kept");
        store.close().await;
    }
}

// covers: G043
#[tokio::test]
async fn space_is_given_back() {
    let dir = Dir::new();
    let store = Arc::new(dir.store());
    let mut w = World::at(Box::new(Shared(Arc::clone(&store)))).await;
    let no = w.listener(Order::None).await;
    for i in 0..300 {
        let mut publish = w.to(&format!("e{i}"), &[no], Lane::Own).await;
        publish.event.data = tidings_model::event::Data::json(vec![b'1'; 20_000]);
        let (_, leased) = w.stored_as(publish).await;
        w.finish(vec![finished(&leased[0], Next::Delivered)]).await;
    }
    let pages = async || setting(&store, "page_count").await.parse::<i64>().unwrap();
    let full = pages().await;
    w.now += 1;
    while store.retire(w.now, w.now).await.unwrap().more {}
    let free = setting(&store, "freelist_count").await.parse::<i64>().unwrap();
    assert!(free > full * 8 / 10, "{free} of {full} pages are free");
    let mut slices = 1;
    while store.shrink().await.unwrap() {
        slices += 1;
    }
    println!("given back in {slices} slices");
    // What is written next finds some room.
    assert_eq!(setting(&store, "freelist_count").await, "256");
    assert!(pages().await < full * 3 / 10, "{} of {full} pages left", pages().await);
}

/// A store that is open already.
struct Shared(Arc<SqliteStore>);

#[async_trait::async_trait]
impl Fixture for Shared {
    async fn open(&self) -> Arc<dyn Store> {
        Arc::clone(&self.0) as Arc<dyn Store>
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_write_ahead_log_stays_bounded_under_constant_writes() {
    const WRITERS: u64 = 16;
    const EACH: u64 = 1_600;
    const BYTES: usize = 16_000;
    let dir = Dir::new();
    let store = Arc::new(dir.store());
    let w = World::at(Box::new(Shared(Arc::clone(&store)))).await;
    let mut template = w.to("template", &[], Lane::Own).await;
    template.event.data = tidings_model::event::Data::json(vec![b'1'; BYTES]);
    let writers: Vec<_> = (0..WRITERS)
        .map(|i| {
            let (store, mut publish) = (Arc::clone(&store), template.clone());
            tokio::spawn(async move {
                for j in 0..EACH {
                    publish.event.id = format!("e{i}-{j}");
                    store.publish(publish.clone()).await.unwrap();
                }
            })
        })
        .collect();
    let wal = dir.dir.path().join("tidings.db-wal");
    let mut most = 0;
    while !writers.iter().all(tokio::task::JoinHandle::is_finished) {
        most = std::fs::metadata(&wal).unwrap().len().max(most);
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    for writer in writers {
        writer.await.unwrap();
    }
    // All of it has gone through the log, and some of it more than once.
    let through = WRITERS * EACH * BYTES as u64;
    assert!(most < through * 2 / 3, "the log has grown to {most} of {through} bytes");
}
