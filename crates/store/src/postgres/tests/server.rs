//! The database server: versions, settings and errors.

use std::sync::Arc;
use std::time::Duration;

use sqlx::{Connection, PgConnection};
use tidings_model::listener::Order;
use tidings_supervisor::Supervisor;
use tidings_testkit::{Cut, eventually, proxy};

use super::{Node, Options, PostgresStore};
use crate::error::StoreError;
use crate::log::{Lane, Published};
use crate::postgres::OpenError;
use crate::suite::{World, hook};
use crate::{Catalogue, Store};

async fn open(node: &Node, url: &str, options: &Options) -> Result<PostgresStore, OpenError> {
    PostgresStore::open(url, "a", options, node.key(), &Supervisor::default()).await
}

fn set(node: &Node, what: &str) {
    node.database
        .run(&format!("DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET {what}', current_database()); END $$"));
}

#[tokio::test]
async fn a_newer_schema_is_refused_and_left_alone() {
    let node = Node::alone();
    node.store().await.close().await;
    node.database.run("UPDATE tidings_schema SET version = 99");
    let error = open(&node, &node.url, &Options::default()).await.unwrap_err();
    let newer = StoreError::NewerSchema { found: 99, known: super::super::SCHEMA_VERSION };
    assert!(matches!(&error, OpenError::Store(store) if *store == newer), "{error:?}");
    assert_eq!(node.database.run("SELECT version FROM tidings_schema"), "99");
}

/// Listeners as version 0.1.0 stored them.
// covers: G175
#[tokio::test]
async fn matches_of_the_first_version_are_written_anew_once() {
    let node = Node::alone();
    let store = node.store().await;
    store.create_listener(crate::suite::listener(&"1".into(), "l", Order::None)).await.unwrap();
    store.close().await;
    node.database.run(
        r#"UPDATE listener SET spec = jsonb_set(spec::jsonb, '{match}', '{"tags":["x"],"a":{"in":5}}')::text;
           UPDATE tidings_schema SET version = 7; DROP INDEX fanout_app"#,
    );
    for _ in 0..2 {
        let store = node.store().await;
        let changes = store.changes(0).await.unwrap();
        let filter = changes.listeners[0].0.filter.to_json().get();
        assert_eq!(filter, r#"{"a":{".in":5},"tags":{"is":["x"]}}"#);
        store.close().await;
    }
}

#[tokio::test]
async fn a_server_that_answers_before_the_disk_is_refused() {
    let node = Node::alone();
    for early in ["off", "local", "remote_write"] {
        set(&node, &format!("synchronous_commit = {early}"));
        let error = open(&node, &node.url, &Options::default()).await.unwrap_err();
        assert!(matches!(&error, OpenError::NotDurable(found) if found == early), "{error:?}");
        assert!(error.to_string().contains("SET synchronous_commit = on"), "{error}");
    }
    assert_eq!(node.database.run("SELECT to_regclass('tidings_schema') IS NULL"), "t", "it was written to");
    set(&node, "synchronous_commit = remote_apply");
    open(&node, &node.url, &Options::default()).await.unwrap().close().await;
}

/// A text with a character that the database cannot store gets its own error, and no other publish fails with it.
#[tokio::test]
async fn a_text_that_the_server_cannot_hold_is_told() {
    let node = Node::alone();
    let store = node.store().await;
    let mut wrong = hook(&"1".into(), "h");
    wrong.description = "a\0b".to_owned();
    assert_eq!(store.create_hook(wrong).await, Err(StoreError::Text));
    store.create_hook(hook(&"1".into(), "h")).await.unwrap();
}

#[tokio::test]
async fn nodes_that_start_at_once_make_one_schema() {
    let node = Node::alone();
    let open = async |name: &str| node.beside(name).store().await;
    let (a, b, c) = tokio::join!(open("a"), open("b"), open("c"));
    let incarnations = std::collections::BTreeSet::from([a.incarnation, b.incarnation, c.incarnation]);
    assert_eq!(incarnations.len(), 3);
}

#[tokio::test]
async fn a_lost_connection_passes_and_is_made_again() {
    let node = Node::alone();
    let between = proxy(node.database.address());
    let options = Options { acquire_timeout: Duration::from_millis(500), ..Options::default() };
    let url = node.database.url_at(between.addr());
    let store: Arc<dyn Store> = Arc::new(open(&node, &url, &options).await.unwrap());
    let mut world = World::around(Box::new(node), store);
    let no = world.listener(Order::None).await;
    world.publish("before", &[no], Lane::Own).await;
    // Made while all is well: making it asks the store.
    let (first, second) = (world.to("cut", &[no], Lane::Own).await, world.to("down", &[no], Lane::Own).await);

    between.cut(Cut::Reset);
    // A new connection may be made at once; if not, it is a passing trouble.
    if let Err(error) = world.store.publish(first).await {
        assert!(error.is_temporary(), "{error:?}");
    }
    between.go_down().await;
    let error = world.store.publish(second.clone()).await.unwrap_err();
    assert!(matches!(error, StoreError::Unreachable(_)), "{error:?}");
    let error = world.store.writable().await.unwrap_err();
    assert!(error.is_temporary(), "{error:?}");
    between.come_back();
    eventually(Duration::from_secs(20), async || world.store.writable().await.ok()).await;
    assert!(matches!(world.store.publish(second).await, Ok(Published::Stored { .. })));
}

#[tokio::test]
async fn a_statement_that_takes_too_long_is_broken_off() {
    let node = Node::alone();
    let options = Options { statement_timeout: Duration::from_millis(200), ..Options::default() };
    let store = open(&node, &node.url, &options).await.unwrap();
    let mut other = PgConnection::connect(&node.url).await.unwrap();
    let mut held = other.begin().await.unwrap();
    sqlx::query("LOCK TABLE hook").execute(&mut *held).await.unwrap();
    let create = || crate::Catalogue::create_hook(&store, hook(&"1".into(), "h"));
    assert_eq!(create().await, Err(StoreError::TooSlow));
    held.rollback().await.unwrap();
    assert_eq!(create().await, Ok(()));
}

#[tokio::test]
async fn a_node_that_stands_still_in_a_transaction_holds_the_others_up_for_a_while_only() {
    let node = Node::alone();
    let (still, other) = (node.store().await, node.beside("b").store().await);
    let mut held = still.connections.begin().await.unwrap();
    sqlx::query("LOCK TABLE hook").execute(&mut *held).await.unwrap();
    assert_eq!(crate::Catalogue::create_hook(&other, hook(&"1".into(), "h")).await, Ok(()));
    held.commit().await.unwrap_err();
}

#[tokio::test]
async fn of_publishes_that_share_a_commit_each_fails_alone() {
    let mut world = World::at(Box::new(Node::alone())).await;
    let no = world.listener(Order::None).await;
    let mut tasks = Vec::new();
    for i in 0..40 {
        let mut publish = world.to(&format!("e{i}"), &[no], Lane::Own).await;
        // A character that PostgreSQL's text cannot hold.
        publish.event.key = (i % 10 == 3).then(|| "a\0b".to_owned());
        let store = Arc::clone(&world.store);
        tasks.push(async move { (i, store.publish(publish).await) });
    }
    let mut waiting = tokio::task::JoinSet::new();
    tasks.into_iter().for_each(|task| drop(waiting.spawn(task)));
    while let Some(done) = waiting.join_next().await {
        let (i, answer) = done.unwrap();
        match answer {
            Ok(Published::Stored { .. }) => assert_ne!(i % 10, 3),
            Err(StoreError::Text) => assert_eq!(i % 10, 3),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(world.all().await.len(), 36);
}

#[tokio::test]
async fn secrets_are_sealed() {
    let node = Node::alone();
    let database = Arc::clone(&node.database);
    let mut world = World::at(Box::new(node)).await;
    world.listener(Order::None).await;
    let everything = database.run("SELECT spec || encode(sealed, 'escape') FROM listener");
    assert!(everything.contains("receiver.example"), "{everything}");
    assert!(!everything.contains("hidden-header-value") && !everything.contains("0123456789abcdef"), "{everything}");
}

#[tokio::test]
async fn a_url_that_is_none_is_refused() {
    let node = Node::alone();
    for bad in ["postgres://[", "mysql://x/y", "postgres://host:port/x"] {
        assert!(matches!(open(&node, bad, &Options::default()).await, Err(OpenError::Url(_))), "{bad}");
    }
}
