//! A Redis that goes away, comes back, or comes back with less.

use std::sync::Arc;
use std::time::Duration;

use tidings_testkit::{Cut, eventually, proxy};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::super::{RedisSettings, keys};
use super::{PATIENCE, RedisFixture};
use crate::broker::{Broker as _, BrokerError, ChannelFilter, Occupancy, PublishOutcome, Since};
use crate::suite::{World, key};

/// The messages that both shards of a world have received up to this line.
async fn until(world: &mut World, last: &str) -> Vec<String> {
    let mut all = Vec::new();
    let end = tokio::time::Instant::now() + PATIENCE;
    while !all.iter().any(|line| line == last) {
        assert!(tokio::time::Instant::now() < end, "{last:?} did not come: {all:?}");
        all.extend(world.received().await.into_iter().flatten());
    }
    all
}

fn keeping(world: &mut World) {
    world.options.history_size = 10;
}

#[tokio::test]
async fn while_redis_is_away_what_keeps_nothing_is_told_here_and_the_rest_is_refused() {
    let there = RedisFixture::alone().await;
    let mut world = there.world().await;
    world.join(1, "").await;
    world.join_in("d", 3, "", None).await;
    world.received().await;
    there.does(&["SAVE"]).await;
    there.server.lock().await.kill().await;
    there.is_cut_off().await;
    let said = world.broker.publish(world.to_publish("c", "e1")).await;
    assert_eq!(said, Ok(PublishOutcome { occupancy: Occupancy { subscriptions: 1, users: 0 }, local_only: true }));
    assert_eq!(world.publish_by_client("e2").await, Ok(Occupancy { subscriptions: 1, users: 0 }));
    let kept: [fn(&mut World); 3] = [
        keeping,
        |world| world.options.cache_ttl = Some(Duration::from_secs(9)),
        |world| world.options.presence = true,
    ];
    for set in kept {
        let usual = world.options.clone();
        set(&mut world);
        let refused = world.broker.publish(world.to_publish("c", "e3")).await;
        assert_eq!(refused, Err(BrokerError::Unavailable));
        world.options = usual;
    }
    assert_eq!(world.broker.join(world.to_join("c", 5, "", None)).await, Err(BrokerError::Unavailable));
    assert_eq!(world.broker.channel(&key("c")).await, Err(BrokerError::Unavailable));
    // A session that leaves is out, and stays out.
    world.leave_in("d", 3).await;
    let lines: Vec<_> = world
        .shards
        .take(1)
        .iter()
        .map(|received| crate::suite::lines::shard_message(received, &mut world.epochs))
        .collect();
    assert_eq!(lines, ["c: e1", "c: e2", "d: s3 out"]);
    there.server.lock().await.start().await;
    there.is_connected().await;
    world.publish("e4").await;
    world.receives(&[], &["c: e4"]).await;
    assert_eq!(world.broker.channel(&key("d")).await, Ok(None), "it was in the data, and has left meanwhile");
    world.ends_empty().await;
}

#[tokio::test]
async fn what_was_said_while_a_node_was_cut_off_is_told_when_it_is_back() {
    let there = RedisFixture::alone().await;
    let proxy = proxy(there.server.lock().await.address());
    let mut far = there.beside();
    far.settings = RedisSettings {
        lease: far.settings.lease,
        ..RedisSettings::new(&format!("redis://{}", proxy.addr())).unwrap()
    };
    let (mut near, mut cut) = (there.world().await, far.world().await);
    keeping(&mut near);
    keeping(&mut cut);
    cut.join(1, "").await;
    near.publish("e1").await;
    assert_eq!(until(&mut cut, "c: e1@1A").await.len(), 2);
    for round in 0..5 {
        proxy.cut(Cut::Reset);
        for n in 0..3 {
            near.publish(&format!("r{round}.{n}")).await;
        }
        far.is_connected().await;
        near.publish(&format!("end{round}")).await;
        let at = 1 + 4 * (round + 1);
        let received = until(&mut cut, &format!("c: end{round}@{at}A")).await;
        let expected: Vec<_> = (0..3)
            .map(|n| format!("c: r{round}.{n}@{}A", at - 3 + n))
            .chain([format!("c: end{round}@{at}A")])
            .collect();
        assert_eq!(received, expected);
    }
}

#[tokio::test]
async fn after_a_flush_everybody_is_there_and_no_old_position_counts() {
    let mut there = RedisFixture::alone().await;
    there.settings.lease = Duration::from_millis(600);
    let mut world = there.world().await;
    keeping(&mut world);
    (world.options.presence, world.options.join_leave) = (true, true);
    world.join(1, "ann").await;
    world.join(2, "bob").await;
    world.publish("e1").await;
    world.received().await;
    there.does(&["FLUSHALL"]).await;
    until(&mut world, "c: lost publications members @0B").await;
    let state = world.broker.channel(&key("c")).await.unwrap().unwrap();
    assert_eq!(state.occupancy, Occupancy { subscriptions: 2, users: 2 });
    world.publish("f1").await;
    world.join_since(3, Since::Position(world.epochs.position("1A"))).await;
    let received = until(&mut world, "c: s3 in, 3 here @1B Lost [f1@1B] {ann/1 bob/2}").await;
    assert!(received.contains(&"c: f1@1B".to_owned()), "{received:?}");
}

// covers: N04
#[tokio::test]
async fn a_failover_that_lost_writes_recovers_nobody_over_the_gap() {
    let there = RedisFixture::alone().await;
    let mut world = there.world().await;
    keeping(&mut world);
    world.join(1, "").await;
    world.publish("e1").await;
    there.does(&["SAVE"]).await;
    world.publish("e2").await;
    world.receives(&[], &["c: s1 in, 1 here @0A", "c: e1@1A", "c: e2@2A"]).await;
    let mut server = there.server.lock().await;
    server.kill().await;
    there.is_cut_off().await;
    server.start().await;
    there.is_connected().await;
    drop(server);
    assert_eq!(until(&mut world, "c: lost publications @1B").await, ["c: lost publications @1B"]);
    world.publish("f2").await;
    world.receives(&[], &["c: f2@2B"]).await;
    for (position, expected) in [("2A", "Lost [f2@2B]"), ("1A", "Lost [f2@2B]"), ("1B", "Complete [f2@2B]")] {
        world.join_since(3, Since::Position(world.epochs.position(position))).await;
        world.receives(&[], &[&format!("c: s3 in, 2 here @2B {expected}")]).await;
        world.leave(3).await;
        world.received().await;
    }
    world.ends_empty().await;
}

#[tokio::test]
async fn a_join_that_was_answered_too_late_leaves_nobody_behind() {
    let mut there = RedisFixture::alone().await;
    there.settings.timeout = Duration::from_millis(300);
    let mut world = there.world().await;
    world.join(1, "").await;
    world.received().await;
    there.server.lock().await.freeze();
    assert_eq!(world.broker.join(world.to_join("c", 3, "", None)).await, Err(BrokerError::Unavailable));
    there.server.lock().await.thaw();
    there.is_connected().await;
    let broker = Arc::clone(&world.broker);
    eventually(PATIENCE, || {
        let broker = Arc::clone(&broker);
        async move {
            let state = broker.channel(&key("c")).await.ok()??;
            (state.occupancy.subscriptions == 1).then_some(())
        }
    })
    .await;
    world.receives(&[], &[]).await;
    world.ends_empty().await;
}

#[tokio::test]
async fn a_caller_that_goes_away_leaves_nobody_behind() {
    let there = RedisFixture::alone().await;
    let mut world = there.world().await;
    for _ in 0..50 {
        let join = world.broker.join(world.to_join("c", 3, "", None));
        // Polled once: the call is in flight, and its caller is gone.
        tokio::select! {
            biased;
            joined = join => joined.unwrap(),
            () = std::future::ready(()) => {}
        }
    }
    world.receives(&[], &[]).await;
    assert_eq!(world.broker.channel(&key("c")).await, Ok(None));
}

#[tokio::test]
async fn a_script_that_redis_has_forgotten_is_told_again() {
    let there = RedisFixture::alone().await;
    let mut world = there.world().await;
    there.does(&["SCRIPT", "FLUSH"]).await;
    let refused = world.broker.publish(world.to_publish("c", "e1")).await;
    assert_eq!(refused, Err(BrokerError::Unavailable));
    there.is_cut_off().await;
    there.is_connected().await;
    world.join(1, "").await;
    world.publish("e2").await;
    world.receives(&[], &["c: s1 in, 1 here", "c: e2"]).await;
}

#[tokio::test]
async fn a_message_that_is_missing_is_noticed_and_looked_for() {
    let there = RedisFixture::alone().await;
    let mut world = there.world().await;
    keeping(&mut world);
    world.join(1, "").await;
    world.publish("e1").await;
    world.receives(&[], &["c: s1 in, 1 here @0A", "c: e1@1A"]).await;
    // As if five messages had not come.
    there.does(&["HINCRBY", "tidings:{1:c}:meta", "n", "5"]).await;
    world.publish("e2").await;
    assert_eq!(until(&mut world, "c: e2@2A").await, ["c: e2@2A"]);
    world.publish("e3").await;
    assert_eq!(until(&mut world, "c: e3@3A").await, ["c: e3@3A"]);
    world.ends_empty().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn however_many_channels_there_are_all_come_back() {
    const CHANNELS: u32 = 3_000;
    let there = RedisFixture::alone().await;
    let line = proxy(there.server.lock().await.address());
    let mut far = there.beside();
    far.settings = RedisSettings::new(&format!("redis://{}", line.addr())).unwrap();
    far.settings.lease = there.settings.lease;
    let mut world = far.world().await;
    for n in 0..CHANNELS {
        world.join_in(&format!("c{n}"), n, "", None).await;
    }
    world.received().await;
    let all = ChannelFilter { limit: CHANNELS as usize + 1, ..ChannelFilter::default() };
    // The second time nothing of it is in the data.
    for is_lost in [false, true] {
        if is_lost {
            there.does(&["FLUSHALL"]).await;
        }
        line.cut(Cut::Reset);
        eventually(PATIENCE, || {
            let (broker, all) = (Arc::clone(&world.broker), all.clone());
            async move {
                let found = broker.channels(&"1".into(), all).await.ok()?;
                (found.len() == CHANNELS as usize).then_some(())
            }
        })
        .await;
    }
    // Sessions that had come back under the node's old name are not counted for long.
    for n in 0..CHANNELS {
        let broker = Arc::clone(&world.broker);
        eventually(PATIENCE, || {
            let broker = Arc::clone(&broker);
            async move {
                let state = broker.channel(&key(&format!("c{n}"))).await.ok()??;
                (state.occupancy.subscriptions == 1).then_some(())
            }
        })
        .await;
    }
    world.received().await;
    world.ends_empty().await;
}

#[tokio::test]
async fn who_joins_before_a_flush_is_noticed_is_counted_once() {
    let there = RedisFixture::alone().await;
    let line = proxy(there.server.lock().await.address());
    let mut far = there.beside();
    far.settings = RedisSettings::new(&format!("redis://{}", line.addr())).unwrap();
    far.settings.lease = there.settings.lease;
    let mut world = far.world().await;
    world.options.presence = true;
    // The channel is in the node's index, which is lost, and what joins then stands under a name that will change.
    there.does(&["FLUSHALL"]).await;
    world.join(1, "ann").await;
    let keyspace = keys::KeySpace::alone();
    there.does(&["DEL", &keyspace.nodes(), &keyspace.generation()]).await;
    let index = keyspace.index(&far.broker().core.name());
    there.does(&["DEL", &index]).await;
    line.cut(Cut::Reset);
    eventually(PATIENCE, || {
        let broker = far.broker();
        async move {
            let conn = broker.core.connection(&key("c")).ok()?;
            let state = broker.channel(&key("c")).await.ok()??;
            (conn.is_renamed && state.occupancy == Occupancy { subscriptions: 1, users: 1 }).then_some(())
        }
    })
    .await;
    world.ends_empty().await;
}

// covers: G322
#[tokio::test]
async fn a_failure_of_tls_is_told_in_words() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let client = redis::Client::open(format!("rediss://{}", listener.local_addr().unwrap())).unwrap();
    tokio::spawn(async move {
        let (mut plain, _) = listener.accept().await.unwrap();
        plain.write_all(b"-ERR Protocol error\r\n").await.unwrap();
        plain.read_to_end(&mut Vec::new()).await.ok();
    });
    let error = client.get_multiplexed_async_connection().await.err().unwrap();
    let received = super::super::link::LinkError::from(error).to_string();
    assert!(received.contains("does not speak TLS"), "{received}");
}
