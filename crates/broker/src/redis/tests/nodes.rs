//! Several nodes on one Redis.

use std::time::Duration;

use tidings_model::transition::Kind;
use tidings_testkit::eventually;

use super::super::keys;
use super::{PATIENCE, RedisFixture};
use crate::broker::{Occupancy, Since};
use crate::session_order::{SessionOrder, Who};
use crate::suite::{World, key, lines, member};

async fn two() -> (RedisFixture, World, World) {
    let there = RedisFixture::alone().await;
    let first = there.world().await;
    let second = there.beside().world().await;
    (there, first, second)
}

/// The messages that shard 1 of a world has received up to this line.
async fn until(world: &mut World, last: &str) -> Vec<String> {
    let mut all = Vec::new();
    let end = tokio::time::Instant::now() + PATIENCE;
    while !all.iter().any(|line| line == last) {
        assert!(tokio::time::Instant::now() < end, "{last:?} did not come: {all:?}");
        let [_, received] = world.received().await;
        all.extend(received);
    }
    all
}

// covers: N01
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_order_is_the_same_on_every_node() {
    let (_there, mut first, mut second) = two().await;
    first.join(1, "").await;
    second.join(1, "").await;
    let publish = |world: &World, name: &'static str| {
        let publishes: Vec<_> = (0..300).map(|n| world.to_publish("c", &format!("{name}{n}"))).collect();
        let broker = std::sync::Arc::clone(&world.broker);
        tokio::spawn(async move {
            for publish in publishes {
                broker.publish(publish).await.unwrap();
            }
        })
    };
    let both = (publish(&first, "a"), publish(&second, "b"));
    both.0.await.unwrap();
    both.1.await.unwrap();
    assert_eq!(first.publish("end").await, Occupancy { subscriptions: 2, users: 0 });
    let (one, other) = (until(&mut first, "c: end").await, until(&mut second, "c: end").await);
    let said = |all: &[String]| all.iter().filter(|line| !line.contains(" in, ")).cloned().collect::<Vec<_>>();
    assert_eq!(said(&one).len(), 601);
    assert_eq!(said(&one), said(&other));
}

#[tokio::test]
async fn what_was_missed_here_is_found_there() {
    let (_there, mut first, mut second) = two().await;
    (first.options.history_size, second.options.history_size) = (10, 10);
    first.join(1, "").await;
    first.publish("e1").await;
    second.publish("e2").await;
    let received = until(&mut first, "c: e2@2A").await;
    assert_eq!(received, ["c: s1 in, 1 here @0A", "c: e1@1A", "c: e2@2A"]);
    first.leave(1).await;
    second.publish("e3").await;
    let position = first.epochs.position("2A");
    second.epochs.letter(&position.epoch);
    second.join_since(1, Since::Position(position)).await;
    second.receives(&[], &["c: s1 in, 1 here @3A Complete [e3@3A]"]).await;
}

#[tokio::test]
async fn members_of_all_nodes_are_there_once() {
    let (_there, mut first, mut second) = two().await;
    for world in [&mut first, &mut second] {
        (world.options.presence, world.options.join_leave) = (true, true);
    }
    first.join(1, "ann").await;
    second.join(3, "ann").await;
    second.join(5, "bob").await;
    assert_eq!(first.publish("e1").await, Occupancy { subscriptions: 3, users: 2 });
    assert_eq!(second.broker.members(&key("c")).await.unwrap(), [member(1, "ann"), member(5, "bob")]);
    first.leave(1).await;
    second.leave(3).await;
    second.publish("end").await;
    let expected = [
        "c: s3 in, 2 here {ann/1}",
        "c: +ann/3 except s3",
        "c: s5 in, 3 here {ann/1 bob/5}",
        "c: +bob/5 first except s5",
        "c: e1",
        "c: -ann/1",
        "c: s3 out",
        "c: -ann/3 last",
        "c: end",
    ];
    assert_eq!(until(&mut second, "c: end").await, expected);
}

#[tokio::test]
async fn orders_reach_the_shards_of_every_node() {
    let (_there, mut first, mut second) = two().await;
    let order = SessionOrder::disconnect("1".into(), Who::User("ann".into()));
    let line = format!("{order:?}");
    first.broker.order(order).await.unwrap();
    for world in [&mut first, &mut second] {
        until(world, &line).await;
    }
}

#[tokio::test]
async fn every_node_lists_all_channels() {
    let (_there, mut first, mut second) = two().await;
    first.join_in("a", 1, "", None).await;
    first.join_in("b", 1, "", None).await;
    second.join_in("b", 1, "", None).await;
    second.join_in("c", 1, "", None).await;
    for world in [&first, &second] {
        let filter = crate::broker::ChannelFilter { limit: 9, ..Default::default() };
        let found = world.broker.channels(&"1".into(), filter).await.unwrap();
        let found: Vec<_> = found.iter().map(|state| (&*state.name, state.occupancy.subscriptions)).collect();
        assert_eq!(found, [("a", 1), ("b", 2), ("c", 1)]);
    }
}

#[tokio::test]
async fn the_sessions_of_a_dead_node_are_taken_out_once() {
    let mut there = RedisFixture::alone().await;
    there.settings.lease = Duration::from_millis(900);
    let (mut first, mut second) = (there.world().await, there.beside().world().await);
    let dying = there.beside();
    let mut third = dying.world().await;
    for world in [&mut first, &mut second, &mut third] {
        (world.options.presence, world.options.join_leave) = (true, true);
        *world.sink.wanted.lock() = Kind::ALL.into_iter().collect();
    }
    first.join(1, "ann").await;
    second.join(1, "ann").await;
    third.join_in("d", 1, "", None).await;
    for n in 1..40 {
        third.join(n, &format!("u{n}")).await;
    }
    third.join(41, "ann").await;
    // A node that dies sends no leaves.
    drop((dying, third));
    let broker = std::sync::Arc::clone(&first.broker);
    eventually(PATIENCE, || {
        let broker = std::sync::Arc::clone(&broker);
        async move {
            let state = broker.channel(&key("c")).await.unwrap().unwrap();
            (state.occupancy == Occupancy { subscriptions: 2, users: 1 }).then_some(())
        }
    })
    .await;
    // The node that removed the sessions has recorded the transitions, and asks for a reconciliation.
    let sinks = [&first, &second].map(|world| std::sync::Arc::clone(&world.sink));
    let recorded = eventually(PATIENCE, || {
        let sinks = sinks.clone();
        async move {
            let all =
                sinks.iter().flat_map(|book| book.recorded.lock().iter().map(lines::recorded).collect::<Vec<_>>());
            let mut recorded: Vec<_> =
                all.filter(|line| line.contains("removed") || line.contains("vacated")).collect();
            recorded.sort();
            recorded.contains(&"d: vacated".to_owned()).then_some(recorded)
        }
    })
    .await;
    let mut expected: Vec<_> = (1..40).map(|n| format!("c: member_removed u{n}")).collect();
    expected.push("d: vacated".to_owned());
    expected.sort();
    assert_eq!(recorded, expected);
    first.publish("end").await;
    for world in [&mut first, &mut second] {
        let received = until(world, "c: end").await;
        let mut gone: Vec<_> = received.iter().filter(|line| line.starts_with("c: -")).cloned().collect();
        gone.sort();
        let mut expected: Vec<_> = (1..40).map(|n| format!("c: -u{n}/{n} last")).collect();
        expected.push("c: -ann/41".to_owned());
        expected.sort();
        assert_eq!(gone, expected);
    }
    assert_eq!(lines::members(&first.broker.members(&key("c")).await.unwrap()), "ann/1");
    let nodes = there.does(&["ZCARD", &keys::KeySpace::alone().nodes()]).await;
    assert_eq!(nodes, redis::Value::Int(2));
}

#[tokio::test]
async fn a_node_that_was_taken_for_dead_comes_back_whole() {
    let mut there = RedisFixture::alone().await;
    let mut first = there.world().await;
    there.settings.lease = Duration::from_millis(900);
    let silent = there.beside();
    let mut second = silent.world().await;
    for world in [&mut first, &mut second] {
        (world.options.presence, world.options.join_leave) = (true, true);
    }
    first.join(1, "ann").await;
    second.join(1, "bob").await;
    let node = silent.broker().core.name();
    // Its lease has ended, although the node is alive.
    there.does(&["ZADD", &keys::KeySpace::alone().nodes(), "1", &node]).await;
    let received = until(&mut first, "c: +bob/1 except s1").await;
    assert!(received.contains(&"c: +bob/1 except s1".to_owned()), "{received:?}");
    eventually(PATIENCE, || {
        let broker = std::sync::Arc::clone(&first.broker);
        async move {
            let state = broker.channel(&key("c")).await.unwrap().unwrap();
            (state.occupancy == Occupancy { subscriptions: 2, users: 2 }).then_some(())
        }
    })
    .await;
}
