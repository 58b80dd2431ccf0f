//! Tests of the dispatcher alone: which destination is dispatched next.

use std::collections::HashSet;

use tidings_model::event::{Data, Event};
use tidings_model::id::{DeliveryKey, EventNo};
use tidings_store::log::{Lease, LeaseToken, Logged};
use tidings_store::queue::Leased;
use url::Url;

use super::*;
use crate::memory::Memory;
use crate::shared_payload::SharedPayload;

const OPEN: DestinationPolicy = DestinationPolicy::Open { concurrency: None, rate: None, host: None };

fn item(app: &str, destination: i64, event: i64) -> QueuedDelivery {
    let app = AppId::from(app);
    let logged = Logged {
        no: EventNo(event),
        event: Event {
            id: format!("e{event}"),
            app: app.clone(),
            name: "n".to_owned(),
            channels: Vec::new(),
            data: Data::json("{}"),
            time: 0,
            op: None,
            key: None,
            except: None,
        },
        hook_version: None,
        received_at: 0,
        deliveries: 1,
    };
    let key = DeliveryKey { app, event: EventNo(event), destination: DestinationNo(destination) };
    let lease = Lease { token: LeaseToken(1), until: 1_000_000 };
    let leased = Leased { key, attempts: 0, forgiven: 0, ordered: false, follows: false, in_batch: true, lease };
    let account = Memory::new(1 << 20).account(&leased.key.app);
    QueuedDelivery::new(leased, SharedPayload::new(logged, &account))
}

fn dispatcher(max_in_flight: usize, per_host: usize) -> Dispatcher {
    Dispatcher::new(&Settings { max_in_flight, per_host, concurrency: 1, ..Settings::default() })
}

/// All requests that are dispatched now.
fn dispatches(dispatcher: &mut Dispatcher, policy: DestinationPolicy, now: Millis) -> Vec<Dispatch> {
    std::iter::from_fn(|| dispatcher.start(|_| policy, |_| 1, now)).collect()
}

fn destinations(dispatches: &[Dispatch]) -> Vec<i64> {
    dispatches.iter().map(|dispatch| dispatch.permit.destination.0).collect()
}

// covers: G051
#[test]
fn turns_go_round_by_app() {
    let mut dispatcher = dispatcher(64, 64);
    (0..1_000).for_each(|no| dispatcher.push(item("a", no, 1), true, false));
    (1_000..1_010).for_each(|no| dispatcher.push(item("b", no, 2), true, false));
    assert_eq!(destinations(&dispatches(&mut dispatcher, OPEN, 0))[..4], [0, 1_000, 1, 1_001]);
}

// covers: G051, G052
#[test]
fn who_never_answered_and_who_does_not_leave_room_for_the_others() {
    let mut dispatcher = dispatcher(4_096, 64);
    (0..10_000).for_each(|no| dispatcher.push(item("a", no, 1), true, false));
    // Half of half of the permits: an app must leave as much of its share free as it uses.
    let first = dispatches(&mut dispatcher, OPEN, 0);
    assert_eq!(first.len(), 1_024);
    dispatcher.push(item("b", 20_000, 2), true, false);
    let other = dispatches(&mut dispatcher, OPEN, 0);
    assert_eq!(destinations(&other), [20_000]);
    dispatcher.learn(DestinationNo(20_000), AttemptHealth::Healthy, |_| OPEN, 0);
    for dispatch in &other {
        dispatcher.end(dispatch.permit, 0);
    }
    // None of the first ones answers. Failing and untried destinations are dispatched, each within its share.
    for dispatch in &first {
        dispatcher.learn(dispatch.permit.destination, AttemptHealth::Failing, |_| OPEN, 0);
        dispatcher.end(dispatch.permit, 0);
        dispatcher.push(item("a", dispatch.permit.destination.0, 3), false, false);
    }
    let mut again = dispatches(&mut dispatcher, OPEN, 0);
    let failing = |all: &[Dispatch]| all.iter().filter(|one| one.permit.health == DestinationHealth::Failing).count();
    assert_eq!((again.len(), failing(&again)), (1_024, 1), "failing ones begin a millisecond apart");
    for now in 1..=1_000 {
        let ended = again.remove(0);
        dispatcher.end(ended.permit, now);
        again.extend(dispatches(&mut dispatcher, OPEN, now));
        assert!(again.len() == 1_024 && failing(&again) <= 512, "{} {now}", failing(&again));
    }
    assert!(failing(&again) > 256, "they take turns with those that were never tried: {}", failing(&again));
    // Healthy destinations may use all other permits, but an app leaves a quarter to other apps.
    (30_000..40_000).for_each(|no| {
        dispatcher.answered.add(DestinationNo(no));
        dispatcher.push(item("c", no, 4), true, false);
    });
    let healthy = dispatches(&mut dispatcher, OPEN, 0);
    assert!(healthy.iter().all(|dispatch| dispatch.permit.health == DestinationHealth::Healthy));
    assert_eq!(healthy.len(), (4_096 - 1_024) * 3 / 4);
    (50_000..50_010).for_each(|no| dispatcher.push(item("d", no, 5), true, false));
    assert_eq!(dispatches(&mut dispatcher, OPEN, 0).len(), 10);
}

// covers: G051
#[test]
fn no_queue_waits_for_ever() {
    let mut dispatcher = dispatcher(2, 64);
    dispatcher.answered.add(DestinationNo(1));
    let mut seen = HashSet::new();
    (0..100).for_each(|n| dispatcher.push(item("a", 1, n), true, false));
    dispatcher.push(item("a", 2, 1_000), true, false);
    for _ in 0..10 {
        for dispatch in dispatches(&mut dispatcher, OPEN, 0) {
            seen.insert(dispatch.permit.destination.0);
            dispatcher.end(dispatch.permit, 0);
        }
    }
    assert_eq!(seen, HashSet::from([1, 2]));
}

// covers: G053
#[test]
fn a_host_has_so_many_places_and_who_waits_takes_no_turn() {
    let url: Url = "https://receiver.example/a".parse().unwrap();
    let same: Url = "https://receiver.example:443/b".parse().unwrap();
    let other: Url = "http://receiver.example/".parse().unwrap();
    assert_eq!(Host::of(&url), Host::of(&same));
    assert_ne!(Host::of(&url), Host::of(&other));
    let there = DestinationPolicy::Open { concurrency: None, rate: None, host: Some(Host::of(&url)) };

    let mut dispatcher = dispatcher(4_096, 4);
    (0..100).for_each(|no| dispatcher.push(item("a", no, 1), true, false));
    dispatcher.push(item("b", 200, 2), true, false);
    let first = dispatches(&mut dispatcher, there, 0);
    assert_eq!(destinations(&first), [0, 200, 1, 2]);
    assert_eq!(dispatcher.running(), 4);
    // Another host has slots of its own.
    dispatcher.push(item("a", 300, 3), true, false);
    let elsewhere = DestinationPolicy::Open { concurrency: None, rate: None, host: Some(Host::of(&other)) };
    assert_eq!(destinations(&dispatches(&mut dispatcher, elsewhere, 0)), [300]);
    // As many are dispatched as have ended.
    dispatcher.end(first[0].permit, 10);
    dispatcher.end(first[1].permit, 10);
    assert_eq!(destinations(&dispatches(&mut dispatcher, there, 10)), [3, 4]);
    // After a second without an answer the others hold no slot any more, and the dispatcher knows when that is.
    assert_eq!(dispatcher.plan_wake(Millis::MAX), 1_000);
    assert!(dispatches(&mut dispatcher, there, 999).is_empty());
    dispatcher.wake(1_000);
    assert_eq!(destinations(&dispatches(&mut dispatcher, there, 1_000)), [5, 6]);
    dispatcher.end(first[2].permit, 1_001);
    assert!(dispatches(&mut dispatcher, there, 1_001).is_empty(), "a slot that was let go of is not given back twice");
    // All of them get there.
    let (mut now, mut count) = (1_001, 0);
    while count < 93 {
        now = dispatcher.plan_wake(now + 10_000);
        dispatcher.wake(now);
        count += dispatches(&mut dispatcher, there, now).len();
        assert!(now < 1_000_000, "{count}");
    }
}

#[test]
fn who_waits_for_its_host_and_is_paused_or_disabled_keeps_nobody_waiting() {
    let url: Url = "https://receiver.example/".parse().unwrap();
    let there = DestinationPolicy::Open { concurrency: None, rate: None, host: Some(Host::of(&url)) };
    let mut dispatcher = dispatcher(100, 1);
    (0..4).for_each(|no| dispatcher.push(item("a", no, 1), true, false));
    let policy = |no: DestinationNo| if no.0 == 1 { DestinationPolicy::Disabled } else { there };
    let first = dispatcher.start(there_for_all(there), |_| 1, 0).unwrap();
    assert!(dispatcher.start(there_for_all(there), |_| 1, 0).is_none());
    dispatcher.pause(DestinationNo(2), 50_000, 0);
    dispatcher.end(first.permit, 5);
    assert_eq!(dispatcher.start(policy, |_| 1, 5).unwrap().permit.destination, DestinationNo(3));
    assert_eq!(dispatcher.returns.len(), 2, "what the paused and the disabled one had");
}

// covers: G057
#[test]
fn destinations_with_no_room_for_fan_out_are_asked_for_when_they_run_low() {
    let mut dispatcher = dispatcher(64, 64);
    (1..=3).for_each(|no| dispatcher.push(item("a", no, 1), true, false));
    let first = dispatches(&mut dispatcher, OPEN, 0);
    assert_eq!(first.len(), 3);
    // One does not answer and has as many queued as its window allows, one is paused, the third has room.
    dispatcher.learn(DestinationNo(1), AttemptHealth::Failing, |_| OPEN, 0);
    (2..=3).for_each(|event| dispatcher.push(item("a", 1, event), false, false));
    dispatcher.pause(DestinationNo(2), 500, 0);
    dispatcher.push(item("a", 3, 2), true, false);
    let without_room = dispatcher.without_room(|_| OPEN, 0);
    assert_eq!(without_room, HashSet::from([DestinationNo(1), DestinationNo(2)]));
    assert!(!dispatcher.has_low());
    // It has two queued and one in flight: it runs low when one more has ended.
    assert!(!dispatcher.end(first[0].permit, 1));
    let permits: Vec<DispatchPermit> = dispatches(&mut dispatcher, OPEN, 1).iter().map(|one| one.permit).collect();
    let of_first = |permit: &&DispatchPermit| permit.destination == DestinationNo(1);
    dispatcher.end(*permits.iter().find(of_first).unwrap(), 2);
    let next = dispatches(&mut dispatcher, OPEN, 2);
    assert!(dispatcher.end(next[0].permit, 3), "nothing waits and nothing is under way");
    assert_eq!(dispatcher.take_low(&[AppId::from("b")]), [DestinationNo(1)]);
    // The pause ends.
    dispatcher.wake(500);
    assert!(dispatcher.has_low());
    dispatcher.still_low([DestinationNo(1)]);
    assert!(dispatcher.take_low(&[AppId::from("a")]).is_empty(), "the app has no room");
    assert!(!dispatcher.has_low());
}

fn there_for_all(policy: DestinationPolicy) -> impl Fn(DestinationNo) -> DestinationPolicy {
    move |_| policy
}

// covers: G271
#[test]
fn those_of_a_lane_go_together_and_never_apart() {
    let follows = |event| {
        let mut item = item("a", 1, event);
        (item.leased.ordered, item.leased.in_batch, item.leased.follows) = (true, false, event > 1);
        item
    };
    let mut dispatcher = dispatcher(8, 64);
    let events = |items: &[QueuedDelivery]| items.iter().map(|item| item.leased.key.event.0).collect::<Vec<_>>();
    let mut together = QueuedDelivery::group((1..=5).map(follows));
    assert_eq!(together.len(), 1);
    dispatcher.push(together.remove(0), false, false);
    dispatcher.push(item("a", 1, 9), true, false);
    // The batch size has shrunk since the claim: the rest is released, and not sent alone.
    let dispatch = dispatcher.start(|_| OPEN, |_| 3, 0).unwrap();
    assert_eq!(events(&dispatch.items), [9]);
    dispatcher.end(dispatch.permit, 0);
    let dispatch = dispatcher.start(|_| OPEN, |_| 3, 0).unwrap();
    assert_eq!(events(&dispatch.items), [1, 2, 3]);
    assert_eq!(dispatcher.returns.iter().map(|(item, _)| item.leased.key.event.0).collect::<Vec<_>>(), [4, 5]);
    // What could not be sent stays together.
    dispatcher.put_back(DestinationNo(1), dispatch.items, 100);
    dispatcher.end(dispatch.permit, 0);
    assert!(dispatcher.start(|_| OPEN, |_| 3, 99).is_none());
    dispatcher.wake(100);
    assert_eq!(events(&dispatcher.start(|_| OPEN, |_| 3, 100).unwrap().items), [1, 2, 3]);
}
