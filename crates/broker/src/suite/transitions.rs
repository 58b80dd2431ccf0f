//! Transitions (occupied, vacated, member added, …) that a broker records.

use std::time::Duration;

use tidings_model::policy;
use tidings_model::transition::{Kind, Kinds};

use super::World;

/// Has these kinds recorded.
fn want(world: &World, kinds: &[Kind]) {
    *world.sink.wanted.lock() = kinds.iter().copied().collect();
}

fn want_all(world: &World) {
    want(world, &Kind::ALL);
}

pub(crate) async fn the_first_and_the_last_session_are_noted(world: &mut World) {
    want_all(world);
    world.join(1, "").await;
    world.join(2, "").await;
    world.join_in("d", 1, "", None).await;
    assert_eq!(world.recorded().await, ["c: occupied", "d: occupied"]);
    world.leave(1).await;
    assert_eq!(world.recorded().await, [""; 0]);
    world.leave(2).await;
    world.leave_in("d", 1).await;
    assert_eq!(world.recorded().await, ["c: vacated", "d: vacated"]);
}

pub(crate) async fn a_user_is_noted_from_the_first_session_to_the_last(world: &mut World) {
    want_all(world);
    (world.options.presence, world.options.join_leave) = (true, true);
    world.join(1, "ann b").await;
    world.join(2, "ann b").await;
    world.join(3, "").await;
    assert_eq!(world.recorded().await, ["c: occupied", "c: member_added ann b"]);
    world.leave(1).await;
    assert_eq!(world.recorded().await, [""; 0]);
    world.leave(2).await;
    world.leave(3).await;
    assert_eq!(world.recorded().await, ["c: member_removed ann b", "c: vacated"]);
    // Sessions receive join messages, but members are not listed.
    (world.options.presence, world.options.join_leave) = (false, true);
    world.join_in("d", 1, "ann", None).await;
    world.leave_in("d", 1).await;
    assert_eq!(world.recorded().await, ["d: occupied", "d: vacated"]);
}

pub(crate) async fn every_number_that_is_told_is_noted(world: &mut World) {
    want(world, &[Kind::SubscriptionCount]);
    world.options.subscription_count = true;
    world.join(1, "").await;
    world.join(2, "").await;
    world.leave(1).await;
    world.leave(2).await;
    assert_eq!(
        world.recorded().await,
        ["c: subscription_count 1", "c: subscription_count 2", "c: subscription_count 1"]
    );
    for n in 0..110 {
        world.join(n, "").await;
    }
    assert_eq!(world.recorded().await.last().unwrap(), "c: subscription_count 100");
    world.pass(5_000);
    world.sweep().await;
    assert_eq!(world.recorded().await, ["c: subscription_count 110"]);
}

pub(crate) async fn of_many_comers_one_misses_the_cached_event(world: &mut World) {
    want(world, &[Kind::CacheMiss]);
    world.options.cache_ttl = Some(Duration::from_secs(60));
    for n in 0..3 {
        world.join(n, "").await;
    }
    assert_eq!(world.recorded().await, ["c: cache_miss"]);
    world.publish("e1").await;
    world.join(3, "").await;
    assert_eq!(world.recorded().await, [""; 0], "it is there");
    world.pass(60_000);
    world.join(4, "").await;
    world.join(5, "").await;
    assert_eq!(world.recorded().await, ["c: cache_miss"], "it is there no more");
}

pub(crate) async fn what_nobody_wants_is_not_noted(world: &mut World) {
    (world.options.presence, world.options.subscription_count) = (true, true);
    world.options.cache_ttl = Some(Duration::from_secs(60));
    world.join(1, "ann").await;
    world.leave(1).await;
    want(world, &[Kind::Vacated]);
    world.join(1, "ann").await;
    world.leave(1).await;
    *world.sink.wanted.lock() = Kinds::NONE;
    world.join(1, "ann").await;
    world.leave(1).await;
    assert_eq!(world.recorded().await, ["c: vacated"]);
}

pub(crate) async fn what_becomes_of_the_servers_own_channels_is_not_noted(world: &mut World) {
    want_all(world);
    (world.options.presence, world.options.subscription_count) = (true, true);
    let online = policy::online("ann");
    world.join_in(&online, 1, "ann", None).await;
    world.leave_in(&online, 1).await;
    world.join(2, "").await;
    assert_eq!(world.recorded().await, ["c: occupied", "c: subscription_count 1"]);
}

pub(crate) async fn what_is_refused_or_repeated_is_no_transition(world: &mut World) {
    want_all(world);
    (world.options.presence, world.options.max_members) = (true, 1);
    world.join(1, "ann").await;
    world.join(1, "ann").await;
    world.join(2, "bob").await;
    world.leave(2).await;
    world.leave(3).await;
    assert_eq!(world.recorded().await, ["c: occupied", "c: member_added ann"]);
}

pub(crate) async fn numbers_grow_over_a_channels_lives(world: &mut World) {
    want_all(world);
    let mut numbers = Vec::new();
    for _ in 0..3 {
        world.join(1, "").await;
        world.leave(1).await;
        world.received().await;
        numbers.extend(std::mem::take(&mut *world.sink.recorded.lock()).iter().map(|recorded| recorded.number));
    }
    assert_eq!(numbers.len(), 6);
    assert!(numbers.is_sorted_by(|a, b| a < b), "{numbers:?}");
}
