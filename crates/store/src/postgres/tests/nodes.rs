//! Several nodes on one database.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tidings_model::clock::Millis;
use tidings_model::id::{DestinationNo, EventNo};
use tidings_model::listener::Order;
use tidings_supervisor::Supervisor;
use tidings_testkit::eventually;

use super::{Node, Options, PostgresStore};
use crate::Store;
use crate::error::StoreError;
use crate::log::{Idempotency, Lane, Lease, Published};
use crate::queue::{Leased, Next, NodeRank, Queue, Recording, Skip};
use crate::suite::{LEASED_FOR, START, World, finished, hook, listener, wanted};

/// Two nodes, each with its own time, on one database.
async fn two() -> (World, World) {
    let a = Node::alone();
    let b = a.beside("b");
    (World::at(Box::new(a)).await, World::at(Box::new(b)).await)
}

fn lease(store: &dyn Store) -> Lease {
    Lease { token: store.new_token(), until: START + LEASED_FOR }
}

async fn end(store: &dyn Store, leased: &Leased) -> Option<Leased> {
    let recording =
        Recording { now: START, wall: START, lease: lease(store), soon: true, gather: 0, disable_failing_since: 0 };
    let recorded = store.finish(Arc::new(vec![finished(leased, Next::Delivered)]), recording).await.unwrap().remove(0);
    assert!(!recorded.stale, "{leased:?}");
    recorded.next_in_lane.into_iter().next()
}

#[tokio::test]
async fn claims_at_once_never_give_one_delivery_twice() {
    let (mut a, b) = two().await;
    let all = a.listeners(3, Order::None).await;
    for i in 0..60 {
        let mut publish = a.to(&format!("e{i}"), &all, Lane::Own).await;
        publish.destinations.iter_mut().for_each(|d| d.fresh = false);
        a.stored_as(publish).await;
    }
    let mut tasks = Vec::new();
    for i in 0..8 {
        let store = Arc::clone(if i % 2 == 0 { &a.store } else { &b.store });
        let wanted: Vec<_> = all.iter().map(|no| wanted(*no, 3)).collect();
        tasks.push(tokio::spawn(async move {
            let mut mine = Vec::new();
            while !store.due(START, Skip::default(), 9).await.unwrap().destinations.is_empty() {
                mine.extend(store.claim(wanted.clone(), START, lease(&*store)).await.unwrap());
            }
            mine
        }));
    }
    let (mut seen, mut busy) = (BTreeSet::new(), 0);
    for task in tasks {
        let mine = task.await.unwrap();
        busy += usize::from(!mine.is_empty());
        for leased in mine {
            assert!(seen.insert((leased.key.event, leased.key.destination)), "given twice: {leased:?}");
        }
    }
    assert_eq!(seen.len(), 180);
    assert!(busy > 1, "one had them all, so nothing was shown");
}

/// Delivers until `count` deliveries have ended, and records when each was in flight.
async fn work(store: Arc<dyn Store>, no: DestinationNo, seen: Arc<Mutex<Seen>>, count: usize) {
    while seen.lock().order.len() < count {
        let claimed = store.claim(vec![wanted(no, 2)], START, lease(&*store)).await.unwrap();
        for leased in claimed {
            follow(&*store, leased, &seen).await;
        }
        tokio::task::yield_now().await;
    }
}

/// Delivers one of a lane, and those that follow it.
async fn follow(store: &dyn Store, leased: Leased, seen: &Mutex<Seen>) {
    let mut next = Some(leased);
    while let Some(leased) = next {
        {
            let mut seen = seen.lock();
            assert_eq!(seen.under_way, None, "two of a lane at once");
            seen.under_way = Some(leased.key.event);
            seen.order.push(leased.key.event);
        }
        tokio::task::yield_now().await;
        // Before the end is recorded: as soon as it is, another may begin.
        seen.lock().under_way = None;
        next = end(store, &leased).await;
    }
}

#[derive(Default)]
struct Seen {
    under_way: Option<EventNo>,
    order: Vec<EventNo>,
}

#[tokio::test]
async fn a_lane_goes_one_by_one_whichever_node_published() {
    let (mut a, b) = two().await;
    let no = a.listener(Order::Fifo).await;
    let seen = Arc::new(Mutex::new(Seen::default()));
    let count = 40;
    let mut workers = Vec::new();
    for store in [&a.store, &b.store, &a.store, &b.store] {
        workers.push(tokio::spawn(work(Arc::clone(store), no, Arc::clone(&seen), count)));
    }
    let mut published = Vec::new();
    for i in 0..count {
        // Each after the one before was acknowledged, by the other node, whose clock may stand elsewhere.
        let world = if i % 2 == 0 { &a } else { &b };
        let mut publish = world.to(&format!("e{i}"), &[no], Lane::Whole).await;
        publish.destinations[0].fresh = i % 3 == 0;
        publish.now -= i64::from(i % 2 == 0) * 1_000;
        let (event, leased) = world.stored_as(publish).await;
        published.push(event);
        for leased in leased {
            follow(&*world.store, leased, &seen).await;
        }
    }
    for worker in workers {
        tokio::time::timeout(Duration::from_secs(60), worker).await.expect("a lane stands still").unwrap();
    }
    assert!(published.is_sorted(), "numbers go back");
    assert_eq!(seen.lock().order, published);
}

#[tokio::test]
async fn a_lane_stands_never_still_when_all_publish_at_once() {
    let (mut a, b) = two().await;
    let no = a.listener(Order::Fifo).await;
    let seen = Arc::new(Mutex::new(Seen::default()));
    let mut tasks = Vec::new();
    for store in [&a.store, &b.store] {
        tasks.push(tokio::spawn(work(Arc::clone(store), no, Arc::clone(&seen), 60)));
    }
    for i in 0..60 {
        let world = if i % 2 == 0 { &a } else { &b };
        let mut publish = world.to(&format!("e{i}"), &[no], Lane::Whole).await;
        publish.destinations[0].fresh = false;
        let store = Arc::clone(&world.store);
        tasks.push(tokio::spawn(async move {
            let published = store.publish(publish).await.unwrap();
            assert!(matches!(published, Published::Stored { .. }), "{published:?}");
        }));
    }
    for task in tasks {
        tokio::time::timeout(Duration::from_secs(60), task).await.expect("a lane stands still").unwrap();
    }
    let order = &seen.lock().order;
    assert_eq!(order.iter().collect::<BTreeSet<_>>().len(), 60);
}

#[tokio::test]
async fn a_node_that_starts_again_voids_its_own_leases_only() {
    let (mut a, mut b) = two().await;
    let all = a.listeners(2, Order::None).await;
    let (_, of_a) = a.publish("a", &all, Lane::Own).await;
    let (_, of_b) = b.publish("b", &all, Lane::Own).await;
    assert_eq!(a.reopen().await, 2);
    assert!(a.deliver(&of_a[0]).await.stale);
    assert!(!b.deliver(&of_b[0]).await.stale);
    // One that never comes back loses them when their time is over, by whoever looks.
    b.store.close().await;
    a.now += LEASED_FOR;
    assert_eq!(a.store.sweep(a.now).await.unwrap(), 0);
    a.now += 1;
    assert_eq!(a.store.sweep(a.now).await.unwrap(), 1);
    b.now = a.now;
    assert_eq!(b.reopen().await, 0);
    assert!(b.deliver(&of_b[1]).await.stale);
}

#[tokio::test]
async fn what_is_asked_of_two_nodes_at_once_is_done_once() {
    let (mut a, b) = two().await;
    let no = a.listener(Order::None).await;
    for round in 0..20 {
        let mut answers = Vec::new();
        for (which, world) in [&a, &b].into_iter().enumerate() {
            // In even rounds the id comes twice, in odd ones the key.
            let id = if round % 2 == 0 { format!("r{round}") } else { format!("r{round}-{which}") };
            let mut publish = world.to(&id, &[no], Lane::Own).await;
            if round % 2 == 1 {
                publish.idempotency =
                    Some(Idempotency { key: format!("k{round}"), digest: [1; 32], forget_before: START - 1_000 });
            }
            let store = Arc::clone(&world.store);
            answers.push(tokio::spawn(async move { store.publish(publish).await.unwrap() }));
        }
        let mut stored = 0;
        for answer in answers {
            match answer.await.unwrap() {
                Published::Stored { .. } => stored += 1,
                Published::Repeated { deliveries: 1, .. } => {}
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(stored, 1, "round {round}");
    }
    assert_eq!(a.all().await.len(), 20);
}

#[tokio::test]
async fn a_change_on_one_node_holds_on_the_other() {
    let (mut a, b) = two().await;
    let no = a.listener(Order::None).await;
    let publish = b.to("a", &[no], Lane::Own).await;
    a.store.create_hook(hook(&a.app, "person.created")).await.unwrap();
    assert_eq!(b.store.publish(publish).await.unwrap(), Published::StaleCatalogue);
    let known = b.store.changes(0).await.unwrap();
    assert_eq!((known.hooks.len(), known.listeners.len()), (1, 1));
    let create = async |world: &World| world.store.create_listener(listener(&world.app, "x", Order::None)).await;
    let (one, other) = tokio::join!(create(&a), create(&b));
    assert!([one, other].contains(&Err(StoreError::Exists)));
    assert_eq!(b.store.changes(0).await.unwrap().listeners.len(), 2);
}

#[tokio::test]
async fn nodes_disable_a_destination_once() {
    let (mut a, b) = two().await;
    let no = a.listener(Order::None).await;
    let (mut tasks, mut owed) = (Vec::new(), Vec::new());
    for (i, world) in [&a, &b, &a, &b].into_iter().enumerate() {
        owed.push((Arc::clone(&world.store), world.publish(&format!("e{i}"), &[no], Lane::Own).await.1));
    }
    for (store, leased) in owed {
        tasks.push(tokio::spawn(async move {
            let end = finished(&leased[0], Next::Undelivered);
            // Every failure is one too many.
            let recording = Recording {
                now: START,
                wall: START,
                lease: lease(&*store),
                soon: true,
                gather: 0,
                disable_failing_since: START + 1,
            };
            store.finish(Arc::new(vec![end]), recording).await.unwrap().remove(0).disabled
        }));
    }
    let mut disabled = 0;
    for task in tasks {
        disabled += usize::from(task.await.unwrap());
    }
    assert_eq!(disabled, 1);
    assert_eq!(b.stored(no).await.0.disabled.unwrap().reason, "failing");
}

/// Opens a node that measures its clock against the server's.
async fn measured(node: &Node, now: Millis) -> PostgresStore {
    let store = PostgresStore::open(&node.url, &node.name, &Options::default(), node.key(), &Supervisor::default())
        .await
        .unwrap();
    store.recover(now).await.unwrap();
    store
}

#[tokio::test]
async fn nodes_agree_on_the_time_though_their_clocks_do_not() {
    const HOUR: Millis = 3_600_000;
    let node = Node::alone();
    let (late, early) = (START, START - HOUR);
    let b = measured(&node.beside("b"), early).await;
    let store = measured(&node, late).await;
    let mut world = World::around(Box::new(node), Arc::new(store));
    let no = world.listener(Order::None).await;
    let leased =
        [world.publish("soon", &[no], Lane::Own).await.1, world.publish("later", &[no], Lane::Own).await.1].concat();
    let a = &world.store;
    // To a clock that stands an hour before, a lease of half a minute is neither over nor does it last for an hour.
    assert_eq!(b.sweep(early).await.unwrap(), 0);
    assert_eq!(b.sweep(early + LEASED_FOR - 15_000).await.unwrap(), 0, "its own clock was set, the server's was not");
    a.release(vec![leased[0].clone()], late).await.unwrap();
    a.release(vec![leased[1].clone()], late + 600_000).await.unwrap();
    eventually(Duration::from_secs(20), || async {
        b.sweep(early).await.unwrap();
        let due = b.due(early + 50, Skip::default(), 9).await.unwrap();
        (due.destinations == [no]).then_some(())
    })
    .await;
    let claimed = b
        .claim(vec![wanted(no, 9)], early + 50, Lease { token: b.new_token(), until: early + LEASED_FOR })
        .await
        .unwrap();
    assert_eq!(claimed.iter().map(|l| &l.key).collect::<Vec<_>>(), [&leased[0].key]);
    let next = b.due(early, Skip::default(), 9).await.unwrap().next.unwrap();
    assert!((next - (early + 600_000)).abs() < 30_000, "{}", next - early);
}

#[tokio::test]
async fn each_destination_is_one_nodes_once_all_know_of_each_other() {
    let (a, b) = two().await;
    let rank = async |w: &World| w.store.due(START, Skip::default(), 9).await.unwrap().rank;
    a.store.register_node("redis").await.unwrap();
    assert_eq!(rank(&a).await, NodeRank::default(), "alone, it waits for nobody");
    b.store.register_node("redis").await.unwrap();
    let ranks = eventually(Duration::from_secs(20), || async {
        let ranks = [rank(&a).await, rank(&b).await];
        // Until then each destination is one's at most.
        assert!((0..9).all(|no| ranks.iter().filter(|rank| rank.owns(DestinationNo(no))).count() <= 1), "{ranks:?}");
        ranks.iter().all(|rank| rank.rank < rank.nodes).then_some(ranks)
    })
    .await;
    assert!((0..9).all(|no| ranks.iter().any(|rank| rank.owns(DestinationNo(no)))), "{ranks:?}");
    b.store.close().await;
    assert_eq!(rank(&a).await, NodeRank::default());
}

#[tokio::test]
async fn a_pause_that_one_node_was_asked_for_is_known_to_the_other() {
    let (mut a, b) = two().await;
    let no = a.listener(Order::None).await;
    let pauses = [START + 5_000, START + 4_000];
    for (n, until) in pauses.into_iter().enumerate() {
        let (_, leased) = a.publish(&format!("e{n}"), &[no], Lane::Own).await;
        let mut end = finished(&leased[0], Next::Retry(START));
        end.pause = Some(until);
        a.finish(vec![end]).await;
    }
    let due = b.store.due(START, Skip::default(), 9).await.unwrap();
    assert_eq!((due.destinations, due.paused), (vec![no], vec![(no, pauses[0])]), "the longer one holds");
    assert!(b.store.due(pauses[0], Skip::default(), 9).await.unwrap().paused.is_empty());
    b.store.sweep(pauses[0]).await.unwrap();
    assert!(b.store.due(START, Skip::default(), 9).await.unwrap().paused.is_empty(), "it is kept for ever");
}
