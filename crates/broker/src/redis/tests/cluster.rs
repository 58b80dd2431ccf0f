//! The suite against a cluster, and what only several masters can get wrong.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use parking_lot::Mutex;
use tidings_model::clock::ManualClock;
use tidings_supervisor::Supervisor;
use tidings_testkit::{RedisCluster, eventually, redis_cluster};
use tokio::sync::{Mutex as AsyncMutex, OnceCell, OwnedMutexGuard};

use super::super::keys;
use super::{PATIENCE, RedisBroker, RedisSettings, forgets, is_a_servers, settle};
use crate::broker::{Broker, BrokerError, ChannelFilter, Occupancy, Since};
use crate::session_order::{SessionOrder, Who};
use crate::suite::{BrokerFixture, RecordingShards, RecordingSink, World, every_test, key, threads};

every_test!(crate::redis::tests::cluster::Clustered::new().await);

/// A broker on a cluster that nobody else has meanwhile.
#[derive(Clone)]
pub(crate) struct Clustered {
    servers: Arc<AsyncMutex<OwnedMutexGuard<RedisCluster>>>,
    settings: RedisSettings,
    broker: Arc<Mutex<Option<Arc<RedisBroker>>>>,
}

impl Clustered {
    /// On the one that the tests of this process share.
    pub(crate) async fn new() -> Self {
        static CLUSTER: OnceCell<Arc<AsyncMutex<RedisCluster>>> = OnceCell::const_new();
        let shared = CLUSTER.get_or_init(async || Arc::new(AsyncMutex::new(redis_cluster().await))).await;
        Self::on(shared).await
    }

    /// On a cluster of its own, to which something may happen.
    async fn alone() -> Self {
        Self::on(&Arc::new(AsyncMutex::new(redis_cluster().await))).await
    }

    async fn on(cluster: &Arc<AsyncMutex<RedisCluster>>) -> Self {
        let servers = Arc::clone(cluster).lock_owned().await;
        servers.masters.iter().for_each(|master| drop(master.run(&["FLUSHALL"])));
        let mut settings = RedisSettings::new(&servers.url()).unwrap();
        settings.lease = Duration::from_secs(3_600);
        Self { servers: Arc::new(AsyncMutex::new(servers)), settings, broker: Arc::default() }
    }

    /// Another node.
    fn beside(&self) -> Self {
        Self { broker: Arc::default(), ..self.clone() }
    }

    async fn world(&self) -> World {
        World::at(Box::new(self.clone())).await
    }

    fn broker(&self) -> Arc<RedisBroker> {
        self.broker.lock().clone().unwrap()
    }

    async fn is_connected(&self) {
        let broker = self.broker();
        eventually(PATIENCE, || async { (!broker.is_cut_off()).then_some(()) }).await;
    }
}

#[async_trait]
impl BrokerFixture for Clustered {
    async fn open(
        &self,
        clock: Arc<ManualClock>,
        shards: Arc<RecordingShards>,
        sink: Arc<RecordingSink>,
    ) -> Arc<dyn Broker> {
        let broker =
            Arc::new(RedisBroker::start(self.settings.clone(), clock, shards, sink, &Supervisor::default()).unwrap());
        *self.broker.lock() = Some(Arc::clone(&broker));
        self.is_connected().await;
        broker
    }

    async fn settle(&self) {
        settle(&self.broker().core).await;
    }

    async fn is_empty(&self) -> bool {
        self.settle().await;
        let servers = self.servers.lock().await;
        let keys = |pattern: &str| {
            let lines: Vec<_> = servers.masters.iter().map(|master| master.run(&["KEYS", pattern])).collect();
            lines.join("\n").lines().filter(|line| !line.is_empty()).map(str::to_owned).collect::<Vec<_>>()
        };
        forgets(&self.broker(), keys("tidings:*")).await;
        keys("*").iter().all(|key| is_a_servers(key)) && self.broker().core.of_all(|_, _| Some(())).is_empty()
    }
}

/// Channels that three masters share.
fn channels() -> Vec<String> {
    (0..30).map(|n| format!("c{n:02}")).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn nobody_misses_or_hears_twice_while_all_publish_come_and_go() {
    Box::pin(threads::check(Box::new(Clustered::new().await))).await;
}

// covers: N01
#[tokio::test]
async fn channels_of_all_masters_are_the_same_on_all_nodes() {
    let there = Clustered::new().await;
    let (mut first, mut second) = (there.world().await, there.beside().world().await);
    for channel in channels() {
        first.join_in(&channel, 1, "", None).await;
        second.join_in(&channel, 1, "", None).await;
    }
    let all = ChannelFilter { limit: 100, ..ChannelFilter::default() };
    let found = second.broker.channels(&"1".into(), all).await.unwrap();
    assert_eq!(found.iter().map(|state| state.name.to_string()).collect::<Vec<_>>(), channels());
    assert!(found.iter().all(|state| state.occupancy.subscriptions == 2));
    let page = ChannelFilter { prefix: "c1".to_owned(), after: Some("c13".to_owned()), limit: 2 };
    let page = second.broker.channels(&"1".into(), page).await.unwrap();
    assert_eq!(page.iter().map(|state| &*state.name).collect::<Vec<_>>(), ["c14", "c15"]);
    first.received().await;
    second.received().await;
    for channel in channels() {
        let said = first.broker.publish(first.to_publish(&channel, &format!("e-{channel}"))).await.unwrap();
        assert_eq!(said.occupancy, Occupancy { subscriptions: 2, users: 0 });
    }
    let order = SessionOrder::disconnect("1".into(), Who::User("ann".into()));
    second.broker.order(order.clone()).await.unwrap();
    let mut expected: Vec<_> = channels().iter().map(|channel| format!("{channel}: e-{channel}")).collect();
    expected.push(format!("{order:?}"));
    expected.sort();
    for world in [&mut first, &mut second] {
        let mut received = Vec::new();
        let end = tokio::time::Instant::now() + PATIENCE;
        while received.len() < expected.len() && tokio::time::Instant::now() < end {
            let [_, more] = world.received().await;
            received.extend(more);
        }
        received.sort();
        assert_eq!(received, expected);
    }
}

// covers: N04
#[tokio::test]
async fn a_master_that_loses_its_data_costs_its_own_channels_only() {
    let there = Clustered::alone().await;
    let mut world = there.world().await;
    world.options.history_size = 10;
    let pubsub_channel = |channel: &str| keys::pubsub_channel(&key(channel));
    let (mut here, mut elsewhere) = (None, None);
    let servers = there.servers.lock().await;
    let master = servers.master_of(&pubsub_channel("c"));
    for channel in channels() {
        let is_same = servers.master_of(&pubsub_channel(&channel)) == master;
        *(if is_same { &mut here } else { &mut elsewhere }) = Some(channel);
    }
    drop(servers);
    let (here, elsewhere) = (here.unwrap(), elsewhere.unwrap());
    for channel in [&here, &elsewhere] {
        world.join_in(channel, 1, "", None).await;
        world.broker.publish(world.to_publish(channel, "e1")).await.unwrap();
    }
    let [_, received] = world.received().await;
    assert_eq!(received.len(), 4, "{received:?}");

    let broker = there.broker();
    there.servers.lock().await.masters[master].kill().await;
    eventually(PATIENCE, || async { broker.is_cut_off().then_some(()) }).await;
    let refused = broker.publish(world.to_publish(&here, "e2")).await;
    assert_eq!(refused, Err(BrokerError::Unavailable));
    there.servers.lock().await.masters[master].start().await;
    there.is_connected().await;
    // The others take it up again in their own time, and refuse as long as they have not.
    for channel in [&here, &elsewhere] {
        let publish = || async { broker.publish(world.to_publish(channel, "e2")).await.ok() };
        eventually(PATIENCE, publish).await;
    }
    let expected = [format!("{elsewhere}: e2@2B"), format!("{here}: lost publications @0C"), format!("{here}: e2@1C")];
    let mut received = Vec::new();
    let end = tokio::time::Instant::now() + PATIENCE;
    while received.len() < expected.len() && tokio::time::Instant::now() < end {
        let [_, more] = world.received().await;
        received.extend(more);
    }
    received.sort_by_key(|line: &String| !line.starts_with(&elsewhere));
    assert_eq!(received, expected);
    for (channel, position, outcome) in [(&here, "1A", "Lost"), (&elsewhere, "1B", "Complete [e2@2B]")] {
        let since = Since::Position(world.epochs.position(position));
        world.join_in(channel, 3, "", Some(since)).await;
        let [_, received] = world.received().await;
        assert!(received.len() == 1 && received[0].contains(outcome), "{received:?}");
    }
    world.ends_empty().await;
}

// covers: N04
#[tokio::test]
async fn the_replica_of_a_master_that_fails_is_found_and_nobody_is_recovered_there() {
    let there = Clustered::alone().await;
    let master = there.servers.lock().await.master_of(&keys::pubsub_channel(&key("c")));
    let replica = there.servers.lock().await.replica_of(master).await;
    let mut world = there.world().await;
    world.options.history_size = 10;
    world.join(1, "").await;
    world.publish("e1").await;
    world.receives(&[], &["c: s1 in, 1 here @0A", "c: e1@1A"]).await;
    let has_it = || async { (replica.run(&["CLUSTER", "GETKEYSINSLOT", "1038", "9"]).contains(":log")).then_some(()) };
    eventually(PATIENCE, has_it).await;
    there.servers.lock().await.masters[master].kill().await;
    let broker = there.broker();
    let publish = || async { broker.publish(world.to_publish("c", "e2")).await.ok() };
    eventually(PATIENCE, publish).await;
    assert!(replica.run(&["INFO", "replication"]).contains("role:master"));
    let mut received = Vec::new();
    let end = tokio::time::Instant::now() + PATIENCE;
    while received.len() < 2 && tokio::time::Instant::now() < end {
        let [_, more] = world.received().await;
        received.extend(more);
    }
    assert_eq!(received, ["c: lost publications @1B", "c: e2@2B"]);
    world.join_since(3, Since::Position(world.epochs.position("1A"))).await;
    world.receives(&[], &["c: s3 in, 2 here @2B Lost [e2@2B]"]).await;
}

// covers: N01, N04
#[tokio::test]
async fn channels_whose_slot_moves_to_another_master_go_on_there() {
    let there = Clustered::alone().await;
    let (mut first, mut second) = (there.world().await, there.beside().world().await);
    for world in [&mut first, &mut second] {
        (world.options.presence, world.options.history_size) = (true, 10);
        world.join_in("c", 1, "ann", None).await;
    }
    first.publish("e1").await;
    first.received().await;
    second.received().await;
    let slot = keys::slot(&key("c")).to_string();
    let servers = there.servers.lock().await;
    let from = servers.master_of(&keys::pubsub_channel(&key("c")));
    migrate(&servers, &slot, from, (from + 1) % servers.masters.len());
    drop(servers);
    let broker = Arc::clone(&second.broker);
    eventually(PATIENCE, || async {
        let state = broker.channel(&key("c")).await.ok()??;
        let heard = broker.publish(second.to_publish("c", "e2")).await.ok()?;
        let expected = Occupancy { subscriptions: 2, users: 1 };
        (state.occupancy == expected && heard.occupancy == expected).then_some(())
    })
    .await;
    for world in [&mut first, &mut second] {
        let end = tokio::time::Instant::now() + PATIENCE;
        let mut received = Vec::new();
        while !received.iter().any(|line: &String| line.contains("e2@")) && tokio::time::Instant::now() < end {
            let [_, more] = world.received().await;
            received.extend(more);
        }
        assert!(
            received[0].starts_with("c: lost publications") && received.iter().any(|line| line.contains("e2@")),
            "{received:?}"
        );
    }
}

/// Moves a slot from one master to another, as `redis-cli --cluster reshard` does it.
fn migrate(servers: &RedisCluster, slot: &str, from: usize, to: usize) {
    let id = |n: usize| servers.masters[n].run(&["CLUSTER", "MYID"]);
    let (from_id, to_id) = (id(from), id(to));
    let (source, target) = (&servers.masters[from], &servers.masters[to]);
    target.run(&["CLUSTER", "SETSLOT", slot, "IMPORTING", &from_id]);
    source.run(&["CLUSTER", "SETSLOT", slot, "MIGRATING", &to_id]);
    let port = target.address().port().to_string();
    for key in source.run(&["CLUSTER", "GETKEYSINSLOT", slot, "100"]).lines().filter(|key| !key.is_empty()) {
        source.run(&["MIGRATE", "127.0.0.1", &port, key, "0", "5000", "REPLACE"]);
    }
    for master in [target, source] {
        master.run(&["CLUSTER", "SETSLOT", slot, "NODE", &to_id]);
    }
    for master in &servers.masters {
        master.run(&["CLUSTER", "SETSLOT", slot, "NODE", &to_id]);
    }
}
