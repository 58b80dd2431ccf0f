//! Copying a SQLite store into PostgreSQL, and continuing there.

use std::sync::Arc;

use tidings_model::listener::Order;
use tidings_supervisor::Supervisor;

use super::Node;
use crate::Store;
use crate::log::{Lane, Published};
use crate::postgres::import::{ImportError, copy_from_sqlite};
use crate::queue::Next;
use crate::sqlite::{SqliteStore, Sync};
use crate::suite::{START, World, finished, hook, secret};

#[tokio::test]
async fn everything_is_copied_once_and_goes_on() {
    let node = Node::alone();
    let path = node.dir.path().join("tidings.db");
    let source: Arc<dyn Store> =
        Arc::new(SqliteStore::open(&path, Sync::Normal, node.key(), &Supervisor::default()).unwrap());
    let mut world = World::around(Box::new(node.beside("unused")), Arc::clone(&source));
    let mut all = world.listeners(3, Order::None).await;
    all.push(world.listener(Order::Fifo).await);
    source.create_hook(hook(&world.app, "person.created")).await.unwrap();
    let (_, leased) = world.publish("a", &all[..3], Lane::Own).await;
    world.publish("lane-1", &all[3..], Lane::Whole).await;
    world.publish("lane-2", &all[3..], Lane::Whole).await;
    world.finish(vec![finished(&leased[0], Next::Delivered), finished(&leased[1], Next::Retry(START + 9))]).await;
    let many = world.listeners(70, Order::None).await;
    world.publish("fanned", &many, Lane::Own).await;
    let mut with_channel = world.to("channel", &[], Lane::Own).await;
    with_channel.event.channels = vec!["c".to_owned()];
    world.stored_as(with_channel).await;
    source.close().await;

    let counts = copy_from_sqlite(&path, &node.url, &Default::default(), START).await.unwrap();
    for expected in
        [("listener", 74), ("event", 5), ("closed", 1), ("delivery", 4), ("fanout", 1), ("event_channel", 1)]
    {
        assert!(counts.contains(&expected), "{expected:?} of {counts:?}");
    }
    // A second copy would be one too many.
    let again = copy_from_sqlite(&path, &node.url, &Default::default(), START).await;
    assert!(matches!(again, Err(ImportError::NotEmpty("hook"))), "{again:?}");

    let before: Arc<dyn Store> =
        Arc::new(SqliteStore::open(&path, Sync::Normal, node.key(), &Supervisor::default()).unwrap());
    let before = World::around(Box::new(node.beside("unused")), before);
    let after = World::at(Box::new(node)).await;
    assert_eq!(after.all().await, before.all().await);
    assert_eq!(after.due().await, before.due().await);
    let (then, now) = (before.store.changes(0).await.unwrap(), after.store.changes(0).await.unwrap());
    assert_eq!((now.version, &now.hooks), (then.version, &then.hooks));
    assert_eq!(format!("{:?}", now.listeners), format!("{:?}", then.listeners));
    assert!(now.listeners.iter().all(|(listener, _)| *listener.keys.current.expose() == *secret().expose()));
    let read = async |world: &World| world.store.event(&world.app, "channel").await.unwrap();
    assert_eq!(read(&after).await, read(&before).await);
    // Old ids are recognised, new numbers are above the old ones, and new listeners get numbers of their own.
    let repeated = after.store.publish(after.to("a", &all[..3], Lane::Own).await).await.unwrap();
    assert_eq!(repeated, Published::Repeated { id: "a".to_owned(), deliveries: 3 });
    let newest = before.all().await[0].key.event;
    assert!(after.publish("b", &all[..1], Lane::Own).await.0 > newest);
    after.expand(0).await;
    assert_eq!(after.claim(all[3], 9).await.len(), 1, "only the head of a lane");
    let mut fresh = after.stored(all[0]).await.0;
    fresh.id = "fresh".to_owned();
    assert!(!many.contains(&after.store.create_listener(fresh).await.unwrap()));
}
