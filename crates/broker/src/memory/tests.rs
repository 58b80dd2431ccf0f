//! The suite against the memory broker, and tests of its own: budgets, sizes, restarts.

use std::sync::Arc;

use async_trait::async_trait;
use parking_lot::Mutex;
use proptest::prelude::*;
use tidings_model::channel::ChannelKey;
use tidings_model::clock::ManualClock;
use tidings_wire::Encoding;

use super::history::POSITION_WEIGHT;
use super::{Channel, MemoryBroker, MemoryLimits, Sizes};
use crate::Broker;
use crate::broker::{HistoryRange, Join, Leave, Publish, Since};
use crate::shard_message::SessionRef;
use crate::suite::{
    BrokerFixture, RecordingShards, RecordingSink, World, at, event, every_test, key, model, session, threads,
};

every_test!(crate::memory::tests::MemoryFixture::default());

/// A broker in this process.
#[derive(Default, Clone)]
pub(crate) struct MemoryFixture {
    broker: Arc<Mutex<Option<Arc<MemoryBroker>>>>,
    limit: Option<usize>,
}

impl MemoryFixture {
    fn broker(&self) -> Arc<MemoryBroker> {
        self.broker.lock().clone().unwrap()
    }
}

#[async_trait]
impl BrokerFixture for MemoryFixture {
    async fn open(
        &self,
        clock: Arc<ManualClock>,
        shards: Arc<RecordingShards>,
        sink: Arc<RecordingSink>,
    ) -> Arc<dyn Broker> {
        let mut limits = MemoryLimits::default();
        limits.default = self.limit.unwrap_or(limits.default);
        let broker = Arc::new(MemoryBroker::new(clock, shards, limits).with_transitions(sink, 7));
        *self.broker.lock() = Some(Arc::clone(&broker));
        broker
    }

    async fn settle(&self) {
        // Calls deliver all messages before they return.
    }

    async fn is_empty(&self) -> bool {
        let broker = self.broker();
        let tables = broker.partitions.iter().map(|partition| partition.lock().capacity()).sum::<usize>();
        broker.sizes() == Sizes::default() && tables == 0
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, ..ProptestConfig::default() })]
    #[test]
    fn whatever_happens_everybody_is_told_what_the_model_says(steps in model::steps()) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(Box::pin(model::check(Box::new(MemoryFixture::default()), steps)));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn nobody_misses_or_hears_twice_while_all_publish_come_and_go() {
    Box::pin(threads::check(Box::new(MemoryFixture::default()))).await;
}

#[tokio::test]
async fn a_publication_that_nobody_hears_or_keeps_leaves_nothing() {
    let here = MemoryFixture::default();
    let mut world = World::at(Box::new(here.clone())).await;
    world.publish("e1").await;
    world.options.history_size = 3;
    world.publish_by_client("e2").await.unwrap();
    assert!(here.is_empty().await);
    world.publish("e3").await;
    assert_eq!(here.broker().sizes().channels, 1);
    world.ends_empty().await;
}

/// What an event of `event()` with two bytes of data takes.
fn weight() -> usize {
    384 + event("e1", 2).weight()
}

async fn limited(limit: usize) -> (MemoryFixture, World) {
    let here = MemoryFixture { limit: Some(limit), ..MemoryFixture::default() };
    let mut world = World::at(Box::new(here.clone())).await;
    world.options.history_size = 100;
    (here, world)
}

#[tokio::test]
async fn bytes_that_were_made_for_readers_count_as_well() {
    static LONG: Encoding = Encoding { name: "long", encode: |_| Some(bytes::Bytes::from(vec![0; 1_000])) };
    let (here, mut world) = limited(4 * weight() + 2_000).await;
    world.join(1, "").await;
    for n in 1..=3 {
        world.publish(&format!("e{n}")).await;
    }
    let range = HistoryRange { limit: 10, ..HistoryRange::default() };
    let read = world.broker.history(&ChannelKey::new("1".into(), "c"), range).await.unwrap().publications;
    assert!(read.iter().take(2).all(|publication| publication.bytes(&LONG).is_some()));
    assert_eq!(here.broker().sizes().kept_bytes, 3 * weight(), "it is looked at when there is more to keep");
    world.publish("e4").await;
    assert_eq!(here.broker().sizes().kept_bytes, 4 * weight() + 2_000);
    world.publish("e5").await;
    assert_eq!(here.broker().sizes().kept_bytes, 4 * weight() + 1_000, "the oldest has made room, with its bytes");
}

#[tokio::test]
async fn what_an_app_keeps_is_bounded_in_bytes() {
    let (here, mut world) = limited(3 * weight() + 10).await;
    world.join(1, "").await;
    world.join_in("d", 1, "", None).await;
    for n in 1..=5 {
        world.publish(&format!("e{n}")).await;
    }
    assert_eq!(here.broker().sizes().kept_bytes, 3 * weight());
    // Another channel of the app has nothing of its own that could go, so it keeps nothing, and says so.
    world.broker.publish(world.to_publish("d", "f1")).await.unwrap();
    world.received().await;
    for (channel, position, expected) in [
        ("c", "2A", "c: s3 in, 2 here @5A Complete [e3@3A e4@4A e5@5A]"),
        ("c", "1A", "c: s3 in, 2 here @5A Lost"),
        ("d", "0B", "d: s3 in, 2 here @1B Lost"),
        ("d", "1B", "d: s3 in, 2 here @1B Complete"),
    ] {
        let since = Since::Position(world.epochs.position(position));
        world.join_in(channel, 3, "", Some(since)).await;
        world.receives(&[], &[expected]).await;
        world.leave_in(channel, 3).await;
        world.received().await;
    }
    // Another app has bytes of its own.
    let elsewhere = Publish { channel: ChannelKey::new("2".into(), "c"), ..world.to_publish("c", "g") };
    world.broker.publish(elsewhere).await.unwrap();
    assert_eq!(here.broker().sizes().kept_bytes, 4 * weight() + POSITION_WEIGHT, "nobody is there, who would keep it");
    world.ends_empty().await;
}

#[tokio::test]
async fn what_is_too_big_is_said_and_not_kept() {
    let (here, mut world) = limited(3 * weight()).await;
    world.options.cache_ttl = Some(std::time::Duration::from_secs(60));
    world.join(1, "").await;
    world.publish("e1").await;
    assert_eq!(here.broker().sizes().kept_bytes, 2 * weight(), "in the history, and in the cache");
    let big = Publish { event: event("big", 3 * weight()), ..world.to_publish("c", "") };
    world.broker.publish(big).await.unwrap();
    assert_eq!(here.broker().sizes().kept_bytes, 0);
    world.publish("e3").await;
    world.receives(&[], &["c: s1 in, 1 here @0A", "c: e1@1A", "c: big@2A", "c: e3@3A"]).await;
    for (position, expected) in [("1A", "Lost"), ("2A", "Complete [e3@3A]")] {
        world.join_since(2, Since::Position(world.epochs.position(position))).await;
        world.receives(&[&format!("c: s2 in, 2 here @3A {expected} cached e3@3A")], &[]).await;
        world.leave(2).await;
        world.received().await;
    }
    world.ends_empty().await;
}

#[tokio::test]
async fn the_last_publication_has_precedence_over_those_before_it() {
    let (here, mut world) = limited(3 * weight()).await;
    world.join(1, "").await;
    for n in 1..=4 {
        world.publish(&format!("e{n}")).await;
    }
    assert_eq!(here.broker().sizes().kept_bytes, 3 * weight(), "there is no room left");
    world.options.cache_ttl = Some(std::time::Duration::from_secs(60));
    world.publish("e5").await;
    assert_eq!(here.broker().sizes().kept_bytes, 3 * weight());
    world.received().await;
    world.join_since(2, Since::Last(9)).await;
    world.receives(&["c: s2 in, 2 here @5A [e4@4A e5@5A] cached e5@5A"], &[]).await;
    world.ends_empty().await;
}

#[tokio::test]
async fn a_cached_publication_makes_room_for_the_next_one() {
    let (_, mut world) = limited(weight()).await;
    world.options.history_size = 0;
    world.options.cache_ttl = Some(std::time::Duration::from_secs(60));
    world.publish("e1").await;
    world.publish("e2").await;
    world.join(1, "").await;
    world.receives(&[], &["c: s1 in, 1 here cached e2"]).await;
    world.ends_empty().await;
}

#[tokio::test]
async fn nobody_fills_the_memory_with_positions() {
    let (here, mut world) = limited(5 * weight()).await;
    for n in 0..100 {
        let channel = format!("c{n}");
        world.join_in(&channel, 1, "", None).await;
        world.leave_in(&channel, 1).await;
    }
    let sizes = here.broker().sizes();
    assert!((1..20).contains(&sizes.channels) && sizes.kept_bytes <= 5 * weight(), "{sizes:?}");
    // While the channel has a subscription, the position takes nothing of the budget.
    world.join_in("c0", 1, "", None).await;
    assert_eq!(here.broker().sizes().kept_bytes, sizes.kept_bytes - POSITION_WEIGHT);
    world.ends_empty().await;
}

fn nth(n: u32, shards: u32) -> SessionRef {
    SessionRef { shard: (n % shards) as u16, slot: n / shards, life: 1 }
}

/// Joins so many sessions, session `n` to the channel that `channel` says, and answers the bytes of all tables.
async fn tables(sessions: u32, shards: u32, presence: bool, channel: impl Fn(u32) -> String) -> usize {
    let here = MemoryFixture::default();
    let mut world = World::at(Box::new(here.clone())).await;
    let recorder = RecordingShards::new(shards as u16);
    let broker = MemoryBroker::new(world.clock.clone(), recorder.clone(), MemoryLimits::default());
    (world.options.presence, world.options.max_members) = (presence, usize::MAX);
    for n in 0..sessions {
        let join = Join {
            session: session(n),
            at: nth(n, shards),
            ..world.to_join(&channel(n), n, &format!("user {n}"), None)
        };
        broker.join(join).await.unwrap();
        // A welcome names every member there.
        recorder.take((n % shards) as u16);
    }
    let heap = |channels: &super::Channels| channels.values().map(Channel::heap).sum::<usize>();
    let bytes = broker.partitions.iter().map(|partition| {
        let channels = partition.lock();
        channels.allocation_size() + heap(&channels)
    });
    let bytes = bytes.sum();
    for n in 0..sessions {
        let leave = Leave { channel: key(&channel(n)), session: session(n), at: nth(n, shards), request_id: 1 };
        broker.leave(leave).await.unwrap();
    }
    assert_eq!(broker.sizes(), Sizes::default());
    bytes
}

#[tokio::test]
async fn a_subscription_takes_little_memory() {
    // Tables double when they are 7/8 full: these numbers of sessions are just before and just after.
    for sessions in [3_500, 3_700] {
        let in_one = tables(sessions, 4, false, |_| "c".to_owned()).await / sessions as usize;
        let alone = tables(sessions, 4, false, |n| format!("c{n}")).await / sessions as usize;
        let present = tables(sessions, 4, true, |_| "presence-c".to_owned()).await / sessions as usize;
        println!("{sessions} sessions: {in_one} bytes each in one channel, {alone} alone, {present} present");
        assert!(in_one <= 24, "{in_one} bytes for one of many in a channel");
        assert!(alone <= 160, "{alone} bytes for a channel with one subscription");
        assert!(present <= 110, "{present} bytes for one who is present");
    }
    assert_eq!(size_of::<Channel>(), 32);
}

#[tokio::test]
async fn tables_shrink_when_people_go() {
    let here = MemoryFixture::default();
    let mut world = World::at(Box::new(here.clone())).await;
    world.options.presence = true;
    world.options.max_members = usize::MAX;
    for n in 0..900 {
        world.join(n, &format!("u{n}")).await;
        world.shards.take(at(n).shard);
    }
    let heap =
        || here.broker().partitions.iter().map(|p| p.lock().values().map(Channel::heap).sum::<usize>()).sum::<usize>();
    let full = heap();
    for n in 2..900 {
        world.leave(n).await;
    }
    assert!(heap() * 10 < full, "{} of {full} bytes are left for 2 of 900", heap());
    world.ends_empty().await;
}

// covers: G291
#[tokio::test]
async fn what_is_handed_over_goes_on_where_it_ended() {
    let (here, mut world) = limited(1 << 20).await;
    world.options.cache_ttl = Some(std::time::Duration::from_secs(60));
    world.options.history_ttl = std::time::Duration::from_secs(60);
    world.join(1, "").await;
    for id in ["e1", "e2", "e3"] {
        world.publish(id).await;
    }
    world.pass(20_000);
    world.publish("e4").await;
    world.received().await;
    let mut kept = Vec::new();
    let kept_bytes = here.broker().sizes().kept_bytes;
    let keep = |bytes: &[u8]| {
        kept.push(bytes.to_vec());
        Ok::<_, ()>(())
    };
    here.broker().hand_over(keep).unwrap();
    let said = world.broker.publish(world.to_publish("c", "late")).await;
    assert_eq!(said.unwrap_err(), crate::BrokerError::Unavailable, "nothing is said that would not be handed over");
    // The next node, after ten seconds.
    let next = MemoryFixture { limit: Some(1 << 20), ..MemoryFixture::default() };
    world.broker = next.open(Arc::clone(&world.clock), Arc::clone(&world.shards), Arc::clone(&world.sink)).await;
    for bytes in &kept {
        for cut in 0..bytes.len() {
            assert!(!next.broker().restore(&bytes[..cut], std::time::Duration::ZERO), "{cut}");
        }
        assert!(next.broker().restore(bytes, std::time::Duration::from_secs(10)));
    }
    assert_eq!(next.broker().sizes().kept_bytes, kept_bytes + POSITION_WEIGHT);
    for (position, expected) in [
        ("1A", "c: s2 in, 1 here @4A Complete [e2@2A e3@3A e4@4A] cached e4@4A"),
        ("4A", "c: s2 in, 1 here @4A Complete cached e4@4A"),
        ("5A", "c: s2 in, 1 here @4A Lost cached e4@4A"),
    ] {
        world.options.cache_ttl = Some(std::time::Duration::from_secs(60));
        world.join_since(2, Since::Position(world.epochs.position(position))).await;
        world.receives(&[expected], &[]).await;
        world.leave(2).await;
        world.received().await;
    }
    // The first publication is kept for a minute, of which the stop took ten seconds.
    world.pass(30_000);
    world.join_since(2, Since::Position(world.epochs.position("1A"))).await;
    world.receives(&["c: s2 in, 1 here @4A Lost cached e4@4A"], &[]).await;
    world.publish("e5").await;
    world.receives(&["c: e5@5A"], &[]).await;
}
