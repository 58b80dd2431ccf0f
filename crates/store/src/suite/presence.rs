//! The presence journal: each change is announced once.

use tidings_model::delivery::DeliveryState;
use tidings_model::id::DestinationNo;
use tidings_model::listener::Order;

use super::World;
use crate::log::Lane;
use crate::presence::{Applied, PresenceChange, PresenceKey};

/// For how long a departure can be reverted.
const WINDOW: i64 = 3_000;

fn key(world: &World, channel: &str, user: Option<&str>) -> PresenceKey {
    PresenceKey { app: world.app.clone(), channel: channel.to_owned(), user: user.map(str::to_owned) }
}

fn change(world: &World, number: i64, present: bool) -> PresenceChange {
    let event = format!("tidings_{number}");
    let key = key(world, "c", None);
    PresenceChange { key, present, number, event, suppress: false, window: WINDOW, now: world.now, wall: world.now }
}

/// Applies a change; one that is to be announced is marked as announced.
async fn apply(world: &World, change: PresenceChange) -> Applied {
    let (key, number) = (change.key.clone(), change.number);
    let applied = world.store.apply_change(change).await.unwrap();
    if applied == Applied::Announce {
        world.store.mark_announced(&key, number).await.unwrap();
    }
    applied
}

/// Change `number` is a departure, delivered to these destinations when the window is over.
async fn depart(world: &World, number: i64, destinations: &[DestinationNo], lane: Lane) {
    assert_eq!(apply(world, change(world, number, false)).await, Applied::Announce);
    let mut publish = world.to(&format!("tidings_{number}"), destinations, lane).await;
    publish.not_before = Some(world.now + WINDOW);
    publish.event.key = Some("c".to_owned());
    assert_eq!(world.stored_as(publish).await.1, []);
}

async fn states(world: &World) -> Vec<(String, DeliveryState)> {
    world.all().await.into_iter().map(|row| (row.event_id, row.state)).collect()
}

pub(crate) async fn each_change_is_announced_once(world: World) {
    assert_eq!(apply(&world, change(&world, 1, true)).await, Applied::Announce);
    assert_eq!(apply(&world, change(&world, 2, true)).await, Applied::Known);
    // The departure has no deliveries, and was long ago.
    assert_eq!(apply(&world, change(&world, 3, false)).await, Applied::Announce);
    assert_eq!(apply(&world, change(&world, 4, false)).await, Applied::Known);
    let later = PresenceChange { wall: world.now + WINDOW, ..change(&world, 5, true) };
    assert_eq!(apply(&world, later).await, Applied::Announce);
    // Members have records of their own.
    let member = PresenceChange { key: key(&world, "c", Some("ann")), ..change(&world, 1, true) };
    assert_eq!(apply(&world, member.clone()).await, Applied::Announce);
    assert_eq!(apply(&world, member).await, Applied::Known);
}

pub(crate) async fn a_suppressed_arrival_suppresses_its_departure(world: World) {
    let suppress = |number| PresenceChange { suppress: true, ..change(&world, number, true) };
    assert_eq!(apply(&world, suppress(1)).await, Applied::Suppressed);
    assert_eq!(apply(&world, change(&world, 2, false)).await, Applied::Known);
    // It is no short absence: the arrival was never announced.
    assert_eq!(apply(&world, change(&world, 3, true)).await, Applied::Announce);
    // A present record stays present, and its departure is announced.
    assert_eq!(apply(&world, suppress(4)).await, Applied::Known);
    assert_eq!(apply(&world, change(&world, 5, false)).await, Applied::Announce);
    let later = |number| PresenceChange { suppress: true, wall: world.now + WINDOW, ..change(&world, number, true) };
    assert_eq!(apply(&world, later(6)).await, Applied::Suppressed);
    assert_eq!(apply(&world, change(&world, 7, false)).await, Applied::Known);
    assert_eq!(world.store.presence_records(None, 9).await.unwrap(), [], "nothing is left to reconcile");
}

pub(crate) async fn an_old_change_is_known(world: World) {
    assert_eq!(apply(&world, change(&world, 1, true)).await, Applied::Announce);
    // Reported while it was present: the departure in between is older.
    assert_eq!(apply(&world, change(&world, 5, true)).await, Applied::Known);
    assert_eq!(apply(&world, change(&world, 4, false)).await, Applied::Known);
    assert_eq!(apply(&world, change(&world, 6, false)).await, Applied::Announce);
    assert_eq!(apply(&world, change(&world, 3, true)).await, Applied::Known);
    // A recorded change that was not announced is announced by the next caller, once.
    assert_eq!(world.store.apply_change(change(&world, 7, false)).await.unwrap(), Applied::Known);
    let back = PresenceChange { wall: world.now + WINDOW, ..change(&world, 8, true) };
    assert_eq!(world.store.apply_change(back.clone()).await.unwrap(), Applied::Announce);
    assert_eq!(apply(&world, back.clone()).await, Applied::Announce);
    assert_eq!(apply(&world, back).await, Applied::Known);
}

pub(crate) async fn a_departure_is_reverted_within_its_window(mut world: World) {
    let all = world.listeners(2, Order::None).await;
    apply(&world, change(&world, 1, true)).await;
    depart(&world, 2, &all, Lane::Own).await;
    world.now += WINDOW - 1;
    assert_eq!(apply(&world, change(&world, 3, true)).await, Applied::Reverted);
    let canceled = ("tidings_2".to_owned(), DeliveryState::Canceled);
    assert_eq!(states(&world).await, [canceled.clone(), canceled]);
    world.now += 10 * WINDOW;
    assert_eq!(world.due().await, (Vec::new(), None));
    // It is present, and its next departure counts.
    depart(&world, 4, &all, Lane::Own).await;
    assert_eq!(world.due().await, (Vec::new(), Some(world.now + WINDOW)));
}

pub(crate) async fn an_attempted_departure_is_not_reverted(mut world: World) {
    let all = world.listeners(2, Order::None).await;
    apply(&world, change(&world, 1, true)).await;
    depart(&world, 2, &all, Lane::Own).await;
    world.now += WINDOW;
    let leased = world.claim(all[0], 1).await;
    assert_eq!(apply(&world, change(&world, 3, true)).await, Applied::Announce);
    world.deliver(&leased[0]).await;
    let (going, pending) = ("tidings_2".to_owned(), DeliveryState::Pending);
    assert_eq!(states(&world).await, [(going.clone(), pending), (going, DeliveryState::Delivered)]);
}

pub(crate) async fn a_reverted_departure_lets_its_lane_go_on(mut world: World) {
    let no = world.listener(Order::Key).await;
    apply(&world, change(&world, 1, true)).await;
    depart(&world, 2, &[no], Lane::Key).await;
    assert_eq!(world.publish_keyed("next", no, "c").await.1, [], "it waits behind the departure");
    assert_eq!(apply(&world, change(&world, 3, true)).await, Applied::Reverted);
    world.now += 1;
    let leased = world.claim(no, 2).await;
    assert_eq!(leased.len(), 1);
    world.deliver(&leased[0]).await;
    let ended = [("next".to_owned(), DeliveryState::Delivered), ("tidings_2".to_owned(), DeliveryState::Canceled)];
    assert_eq!(states(&world).await, ended);
}

pub(crate) async fn a_short_absence_is_not_announced(mut world: World) {
    // Only arrivals have deliveries here: a departure has no event, and a short absence still is not announced.
    assert_eq!(apply(&world, change(&world, 1, true)).await, Applied::Announce);
    assert_eq!(apply(&world, change(&world, 2, false)).await, Applied::Announce);
    world.now += WINDOW - 1;
    assert_eq!(apply(&world, change(&world, 3, true)).await, Applied::Reverted);
    assert_eq!(apply(&world, change(&world, 4, false)).await, Applied::Announce);
    world.now += WINDOW;
    assert_eq!(apply(&world, change(&world, 5, true)).await, Applied::Announce);
}

pub(crate) async fn present_or_unannounced_records_are_listed(mut world: World) {
    assert_eq!(world.store.last_presence_number().await.unwrap(), 0);
    for (channel, user, number) in [("b", None, 1), ("a", None, 2), ("b", Some("ann"), 3), ("b", Some("bob"), 4)] {
        let change = PresenceChange { key: key(&world, channel, user), ..change(&world, number, true) };
        assert_eq!(apply(&world, change).await, Applied::Announce);
    }
    for (channel, number) in [("a", 5), ("b", 6)] {
        let change = PresenceChange { key: key(&world, channel, None), ..change(&world, number, false) };
        assert_eq!(world.store.apply_change(change.clone()).await.unwrap(), Applied::Announce);
        if channel == "a" {
            world.store.mark_announced(&change.key, number).await.unwrap();
        }
    }
    world.reopen().await;
    let mut found = Vec::new();
    let mut after = None;
    loop {
        let page = world.store.presence_records(after, 2).await.unwrap();
        let Some(last) = page.last() else { break };
        after = Some(last.key.clone());
        found.extend(page.into_iter().map(|s| (s.key.channel, s.key.user, s.present, s.number, s.announced)));
    }
    let b = |user: Option<&str>, present, number, announced| {
        ("b".to_owned(), user.map(str::to_owned), present, number, announced)
    };
    assert_eq!(found, [b(None, false, 6, false), b(Some("ann"), true, 3, true), b(Some("bob"), true, 4, true)]);
    assert_eq!(world.store.last_presence_number().await.unwrap(), 6);
}

pub(crate) async fn old_absent_records_are_forgotten(world: World) {
    apply(&world, change(&world, 1, true)).await;
    apply(&world, change(&world, 2, false)).await;
    assert!(!world.store.forget_absent(world.now).await.unwrap());
    assert_eq!(apply(&world, change(&world, 2, false)).await, Applied::Known);
    assert!(!world.store.forget_absent(world.now + 1).await.unwrap());
    assert_eq!(apply(&world, change(&world, 2, false)).await, Applied::Announce, "its record is gone");
    apply(&world, change(&world, 3, true)).await;
    assert!(!world.store.forget_absent(world.now + 1).await.unwrap());
    assert_eq!(apply(&world, change(&world, 3, true)).await, Applied::Known, "a present record is not forgotten");
}

pub(crate) async fn one_of_concurrent_changes_is_announced(world: World) {
    let mut turns = tokio::task::JoinSet::new();
    for number in 1..=20 {
        let (store, change) = (std::sync::Arc::clone(&world.store), change(&world, number, true));
        turns.spawn(async move { store.apply_change(change).await.unwrap() });
    }
    let announced = turns.join_all().await.into_iter().filter(|applied| *applied == Applied::Announce).count();
    assert_eq!(announced, 1);
}
