//! Whose turn it is, by the desk alone.

use std::collections::HashSet;

use tidings_model::event::{Data, Event};
use tidings_model::id::{DeliveryKey, EventNo};
use tidings_store::log::{Lease, LeaseToken, Logged};
use tidings_store::queue::Leased;
use url::Url;

use super::*;
use crate::memory::Memory;
use crate::parcel::Parcel;

const OPEN: Terms = Terms::Open { concurrency: None, rate: None, host: None };

fn item(app: &str, destination: i64, event: i64) -> Item {
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
    let leased = Leased { key, attempts: 0, forgiven: 0, ordered: false, follows: false, lot: true, lease };
    let account = Memory::new(1 << 20).account(&leased.key.app);
    Item::new(leased, Parcel::new(logged, &account))
}

fn desk(max_in_flight: usize, per_host: usize) -> Desk {
    Desk::new(&Settings { max_in_flight, per_host, concurrency: 1, ..Settings::default() })
}

/// All turns that there are now.
fn turns(desk: &mut Desk, terms: Terms, now: Millis) -> Vec<Turn> {
    std::iter::from_fn(|| desk.start(|_| terms, |_| 1, now)).collect()
}

fn destinations(turns: &[Turn]) -> Vec<i64> {
    turns.iter().map(|turn| turn.permit.destination.0).collect()
}

// covers: G051
#[test]
fn turns_go_round_by_app() {
    let mut desk = desk(64, 64);
    (0..1_000).for_each(|no| desk.push(item("a", no, 1), true, false));
    (1_000..1_010).for_each(|no| desk.push(item("b", no, 2), true, false));
    assert_eq!(destinations(&turns(&mut desk, OPEN, 0))[..4], [0, 1_000, 1, 1_001]);
}

// covers: G051, G052
#[test]
fn who_never_answered_and_who_does_not_leave_room_for_the_others() {
    let mut desk = desk(4_096, 64);
    (0..10_000).for_each(|no| desk.push(item("a", no, 1), true, false));
    // Half of half of the turns, since as many have to be left.
    let first = turns(&mut desk, OPEN, 0);
    assert_eq!(first.len(), 1_024);
    desk.push(item("b", 20_000, 2), true, false);
    let other = turns(&mut desk, OPEN, 0);
    assert_eq!(destinations(&other), [20_000]);
    desk.learn(DestinationNo(20_000), Mood::Fine, |_| OPEN, 0);
    for turn in &other {
        desk.end(turn.permit, 0);
    }
    // None of the first answers. They come again, and so do those that were never tried, each within its part.
    for turn in &first {
        desk.learn(turn.permit.destination, Mood::Trouble, |_| OPEN, 0);
        desk.end(turn.permit, 0);
        desk.push(item("a", turn.permit.destination.0, 3), false, false);
    }
    let again = turns(&mut desk, OPEN, 0);
    let failing = again.iter().filter(|turn| turn.permit.health == Health::Failing).count();
    assert_eq!((again.len(), failing), (1_024, 512));
    // Who has answered has all of the rest, and an app no more than leaves something to the next.
    (30_000..40_000).for_each(|no| {
        desk.answered.add(DestinationNo(no));
        desk.push(item("c", no, 4), true, false);
    });
    let healthy = turns(&mut desk, OPEN, 0);
    assert!(healthy.iter().all(|turn| turn.permit.health == Health::Healthy));
    assert_eq!(healthy.len(), (4_096 - 1_024) * 3 / 4);
    (50_000..50_010).for_each(|no| desk.push(item("d", no, 5), true, false));
    assert_eq!(turns(&mut desk, OPEN, 0).len(), 10);
}

// covers: G051
#[test]
fn no_queue_waits_for_ever() {
    let mut desk = desk(2, 64);
    desk.answered.add(DestinationNo(1));
    let mut seen = HashSet::new();
    (0..100).for_each(|n| desk.push(item("a", 1, n), true, false));
    desk.push(item("a", 2, 1_000), true, false);
    for _ in 0..10 {
        for turn in turns(&mut desk, OPEN, 0) {
            seen.insert(turn.permit.destination.0);
            desk.end(turn.permit, 0);
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
    let there = Terms::Open { concurrency: None, rate: None, host: Some(Host::of(&url)) };

    let mut desk = desk(4_096, 4);
    (0..100).for_each(|no| desk.push(item("a", no, 1), true, false));
    desk.push(item("b", 200, 2), true, false);
    let first = turns(&mut desk, there, 0);
    assert_eq!(destinations(&first), [0, 200, 1, 2]);
    assert_eq!(desk.running(), 4);
    // Another host has places of its own.
    desk.push(item("a", 300, 3), true, false);
    let elsewhere = Terms::Open { concurrency: None, rate: None, host: Some(Host::of(&other)) };
    assert_eq!(destinations(&turns(&mut desk, elsewhere, 0)), [300]);
    // As many go on as have ended.
    desk.end(first[0].permit, 10);
    desk.end(first[1].permit, 10);
    assert_eq!(destinations(&turns(&mut desk, there, 10)), [3, 4]);
    // After a second without an answer the others hold no place any more, and the desk knows when that is.
    assert_eq!(desk.look_at(Millis::MAX), 1_000);
    assert!(turns(&mut desk, there, 999).is_empty());
    desk.wake(1_000);
    assert_eq!(destinations(&turns(&mut desk, there, 1_000)), [5, 6]);
    desk.end(first[2].permit, 1_001);
    assert!(turns(&mut desk, there, 1_001).is_empty(), "a place that was let go of is not given back twice");
    // All of them get there.
    let (mut now, mut count) = (1_001, 0);
    while count < 93 {
        now = desk.look_at(now + 10_000);
        desk.wake(now);
        count += turns(&mut desk, there, now).len();
        assert!(now < 1_000_000, "{count}");
    }
}

#[test]
fn who_waits_for_its_host_and_is_paused_or_disabled_keeps_nobody_waiting() {
    let url: Url = "https://receiver.example/".parse().unwrap();
    let there = Terms::Open { concurrency: None, rate: None, host: Some(Host::of(&url)) };
    let mut desk = desk(100, 1);
    (0..4).for_each(|no| desk.push(item("a", no, 1), true, false));
    let terms = |no: DestinationNo| if no.0 == 1 { Terms::Disabled } else { there };
    let first = desk.start(there_for_all(there), |_| 1, 0).unwrap();
    assert!(desk.start(there_for_all(there), |_| 1, 0).is_none());
    desk.rest(DestinationNo(2), 50_000, 0);
    desk.end(first.permit, 5);
    assert_eq!(desk.start(terms, |_| 1, 5).unwrap().permit.destination, DestinationNo(3));
    assert_eq!(desk.returns.len(), 2, "what the paused and the disabled one had");
}

fn there_for_all(terms: Terms) -> impl Fn(DestinationNo) -> Terms {
    move |_| terms
}

// covers: G271
#[test]
fn those_of_a_lane_go_together_and_never_apart() {
    let follows = |event| {
        let mut item = item("a", 1, event);
        (item.leased.ordered, item.leased.lot, item.leased.follows) = (true, false, event > 1);
        item
    };
    let mut desk = desk(8, 64);
    let events = |items: &[Item]| items.iter().map(|item| item.leased.key.event.0).collect::<Vec<_>>();
    let mut together = Item::together((1..=5).map(follows));
    assert_eq!(together.len(), 1);
    desk.push(together.remove(0), false, false);
    desk.push(item("a", 1, 9), true, false);
    // Fewer are taken than when they were fetched: the others go back, and do not go on their own.
    let turn = desk.start(|_| OPEN, |_| 3, 0).unwrap();
    assert_eq!(events(&turn.items), [9]);
    desk.end(turn.permit, 0);
    let turn = desk.start(|_| OPEN, |_| 3, 0).unwrap();
    assert_eq!(events(&turn.items), [1, 2, 3]);
    assert_eq!(desk.returns.iter().map(|(item, _)| item.leased.key.event.0).collect::<Vec<_>>(), [4, 5]);
    // What could not be sent stays together.
    desk.put_back(DestinationNo(1), turn.items, 100);
    desk.end(turn.permit, 0);
    assert!(desk.start(|_| OPEN, |_| 3, 99).is_none());
    desk.wake(100);
    assert_eq!(events(&desk.start(|_| OPEN, |_| 3, 100).unwrap().items), [1, 2, 3]);
}
