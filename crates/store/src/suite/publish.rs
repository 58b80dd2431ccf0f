//! Publishes: written once, with the right deliveries, and refused where they have to be.

use std::sync::Arc;

use tidings_model::id::{AppId, EventNo};
use tidings_model::listener::Order;

use super::{World, event, hook, listener};
use crate::Store;
use crate::log::{Idempotency, Lane, MAX_DIRECT, Publish, Published};
use crate::queue::{Expanded, FanoutTurn};

pub(crate) async fn up_to_the_limit_deliveries_are_written_at_once(mut w: World) {
    let all = w.listeners(MAX_DIRECT, Order::None).await;
    let published = w.store.publish(w.to("a", &all, Lane::Own).await).await.unwrap();
    let Published::Stored { no, leased, queued } = published else { panic!("{published:?}") };
    assert_eq!(leased, all);
    assert!(!queued);
    assert_eq!((w.store.depth().await.unwrap().deliveries, w.store.depth().await.unwrap().fanouts), (64, 0));
    assert_eq!(w.store.event(&w.app, "a").await.unwrap().unwrap().deliveries, 64);
    assert!(w.all().await.iter().all(|row| row.key.event == no));
    assert_eq!(w.due().await, (vec![], None));
}

// covers: G415
pub(crate) async fn what_is_parked_is_passed_over(mut w: World) {
    let all = w.listeners(MAX_DIRECT + 1, Order::None).await;
    let mut events = Vec::new();
    for id in ["a", "b", "c"] {
        let published = w.store.publish(w.to(id, &all, Lane::Own).await).await.unwrap();
        let Published::Stored { no, .. } = published else { panic!("{published:?}") };
        events.push(no);
    }
    let written = async |w: &World, parked: &[EventNo]| {
        let before = w.all().await.len();
        let expanded = w.take_turn(FanoutTurn { parked: parked.to_vec(), ..FanoutTurn::default() }).await;
        let rows = w.all().await;
        assert_eq!(rows.len() - before, expanded.written);
        rows.iter().map(|row| row.key.event).max().filter(|_| expanded.written > 0)
    };
    assert_eq!(written(&w, &events[..2]).await, Some(events[2]));
    assert_eq!(written(&w, &events[..2]).await, None, "the others are parked");
    assert_eq!(w.store.depth().await.unwrap().fanouts, 2);
    // Later they are not.
    while w.expand(0).await.more {}
    assert_eq!((w.all().await.len(), w.store.depth().await.unwrap().fanouts), (3 * all.len(), 0));
}

pub(crate) async fn more_destinations_are_fanned_out_exactly_once(mut w: World) {
    let all = w.listeners(MAX_DIRECT + 1, Order::None).await;
    let published = w.store.publish(w.to("a", &all, Lane::Own).await).await.unwrap();
    assert!(matches!(&published, Published::Stored { leased, queued: true, .. } if leased.is_empty()), "{published:?}");
    assert_eq!((w.store.depth().await.unwrap().deliveries, w.store.depth().await.unwrap().fanouts), (0, 1));
    let expanded = w.expand(10).await;
    assert_eq!(expanded.leased.iter().map(|l| l.key.destination).collect::<Vec<_>>(), all[..10]);
    assert!(expanded.queued && !expanded.more);
    assert_eq!(w.all().await.len(), all.len());
    assert_eq!(w.due().await.0, all[10..]);
    // Of an app that holds its share of memory none is taken up, nor for destinations that have no room.
    w.store.publish(w.to("b", &all, Lane::Own).await).await.unwrap();
    let full_apps = vec![w.app.clone()];
    let kept = w.take_turn(FanoutTurn { fresh: 10, full_apps, ..FanoutTurn::default() }).await;
    assert!(kept.leased.is_empty() && !kept.queued, "{kept:?}");
    w.store.publish(w.to("c", &all, Lane::Own).await).await.unwrap();
    let full_destinations = all[..5].iter().copied().collect();
    let kept = w.take_turn(FanoutTurn { fresh: 10, full_destinations, ..FanoutTurn::default() }).await;
    assert_eq!(kept.leased.iter().map(|l| l.key.destination).collect::<Vec<_>>(), all[5..15]);
    assert_eq!(w.all().await.len(), 3 * all.len());
    let again = w.expand(10).await;
    assert!(again.leased.is_empty() && !again.queued && !again.more);
    assert_eq!(w.all().await.len(), 3 * all.len());
}

// covers: G056
/// Each app's fan-out has its turn, however much of another app's is waiting.
pub(crate) async fn fan_out_goes_round_by_app(mut w: World) {
    let all = w.listeners(MAX_DIRECT + 1, Order::None).await;
    let mut publishes = Vec::new();
    for (app, id) in [("1", "a"), ("1", "b"), ("1", "c"), ("3", "d"), ("2", "e")] {
        let mut publish = w.to(id, &all, Lane::Own).await;
        publish.event = event(&AppId::from(app), id);
        publishes.push(w.store.publish(publish).await.unwrap());
    }
    let mut turn = FanoutTurn::default();
    let mut turns = Vec::new();
    loop {
        let Expanded { app, more, .. } = w.take_turn(turn.clone()).await;
        turns.extend(app.as_ref().map(|app| app.as_str().to_owned()));
        turn.after = app;
        if !more {
            break;
        }
    }
    turns.dedup();
    assert_eq!(turns[..4], ["1", "2", "3", "1"], "{turns:?}");
    assert_eq!(w.all().await.len(), 3 * all.len());
}

pub(crate) async fn an_id_is_logged_once(mut w: World) {
    let no = w.listener(Order::None).await;
    w.publish("a", &[no], Lane::Own).await;
    let repeated = w.store.publish(w.to("a", &[no], Lane::Own).await).await.unwrap();
    assert_eq!(repeated, Published::Repeated { id: "a".to_owned(), deliveries: 1 });
    let mut other = w.to("a", &[no], Lane::Own).await;
    other.event.data = tidings_model::event::Data::json("1");
    assert_eq!(w.store.publish(other).await.unwrap(), Published::IdTaken);
    assert_eq!(w.all().await.len(), 1);
    // Another app's ids are its own.
    let mut elsewhere = w.to("a", &[], Lane::Own).await;
    elsewhere.event = event(&AppId::from("2"), "a");
    w.stored_as(elsewhere).await;
}

fn with_key(mut publish: Publish, key: &str, digest: u8) -> Publish {
    let forget_before = publish.received_at - 1_000;
    publish.idempotency = Some(Idempotency { key: key.to_owned(), digest: [digest; 32], forget_before });
    publish
}

pub(crate) async fn an_idempotency_key_makes_one_event(mut w: World) {
    let no = w.listener(Order::None).await;
    w.stored_as(with_key(w.to("a", &[no], Lane::Own).await, "k", 1)).await;
    let again = w.store.publish(with_key(w.to("b", &[no], Lane::Own).await, "k", 1)).await.unwrap();
    assert_eq!(again, Published::Repeated { id: "a".to_owned(), deliveries: 1 });
    let other = w.store.publish(with_key(w.to("c", &[no], Lane::Own).await, "k", 2)).await.unwrap();
    assert_eq!(other, Published::KeyTaken);
    let mut elsewhere = with_key(w.to("a", &[], Lane::Own).await, "k", 3);
    elsewhere.event.app = AppId::from("2");
    w.stored_as(elsewhere).await;
    // A refused publish does not use its idempotency key.
    let mut stale = with_key(w.to("d", &[no], Lane::Own).await, "stale", 1);
    stale.catalogue_version -= 1;
    assert_eq!(w.store.publish(stale).await.unwrap(), Published::StaleCatalogue);
    w.stored_as(with_key(w.to("d", &[no], Lane::Own).await, "stale", 1)).await;
    // Forgotten after its time, and then taken by whatever comes next.
    w.now += 1_001;
    w.stored_as(with_key(w.to("e", &[no], Lane::Own).await, "k", 2)).await;
    let after = w.store.publish(with_key(w.to("f", &[no], Lane::Own).await, "k", 1)).await.unwrap();
    assert_eq!(after, Published::KeyTaken);
}

// covers: G055
pub(crate) async fn other_apps_changes_make_no_publish_stale(mut w: World) {
    let no = w.listener(Order::None).await;
    let matched = [w.to("a", &[no], Lane::Own).await, w.to("b", &[no], Lane::Own).await];
    let other = AppId::from("2");
    w.store.create_hook(hook(&other, "h")).await.unwrap();
    w.store.create_listener(listener(&other, "l", Order::None)).await.unwrap();
    w.store.delete_listener(&other, "l", w.now).await.unwrap();
    let [first, second] = matched;
    w.stored_as(first).await;
    w.store.create_hook(hook(&w.app, "h")).await.unwrap();
    assert_eq!(w.store.publish(second.clone()).await.unwrap(), Published::StaleCatalogue);
    let again = Publish { catalogue_version: w.to("b", &[], Lane::Own).await.catalogue_version, ..second };
    w.stored_as(again.clone()).await;
    w.store.delete_listener(&w.app, &w.stored(no).await.0.id, w.now).await.unwrap();
    let mut late = again;
    late.event.id = "c".to_owned();
    assert_eq!(w.store.publish(late).await.unwrap(), Published::StaleCatalogue);
}

pub(crate) async fn duplicates_at_once_make_one_event(mut w: World) {
    let no = w.listener(Order::None).await;
    let mut tasks = Vec::new();
    for i in 0..32 {
        let publish = with_key(w.to(&format!("e{i}"), &[no], Lane::Own).await, "k", 1);
        let store = Arc::clone(&w.store);
        tasks.push(tokio::spawn(async move { store.publish(publish).await.unwrap() }));
    }
    let (mut stored, mut ids) = (0, Vec::new());
    for task in tasks {
        match task.await.unwrap() {
            Published::Stored { .. } => stored += 1,
            Published::Repeated { id, deliveries: 1 } => ids.push(id),
            other => panic!("{other:?}"),
        }
    }
    ids.dedup();
    assert_eq!((stored, ids.len()), (1, 1));
    let rows = w.all().await;
    assert_eq!((rows.len(), &rows[0].event_id), (1, &ids[0]));
}

pub(crate) async fn an_old_catalogue_is_refused(mut w: World) {
    let no = w.listener(Order::None).await;
    let publish = w.to("a", &[no], Lane::Own).await;
    w.store.create_listener(listener(&w.app, "other", Order::None)).await.unwrap();
    assert_eq!(w.store.publish(publish.clone()).await.unwrap(), Published::StaleCatalogue);
    assert_eq!(w.store.event(&w.app, "a").await.unwrap(), None);
    w.publish("a", &[no], Lane::Own).await;
    // What was stored before is repeated, whatever the catalogue was.
    assert!(matches!(w.store.publish(publish).await.unwrap(), Published::Repeated { .. }));
}

pub(crate) async fn nothing_goes_before_its_time(mut w: World) {
    let no = w.listener(Order::None).await;
    let mut publish = w.to("a", &[no], Lane::Own).await;
    publish.not_before = Some(w.now + 3_000);
    let (_, leased) = w.stored_as(publish).await;
    assert!(leased.is_empty());
    assert_eq!(w.due().await, (vec![], Some(w.now + 3_000)));
    assert!(w.claim(no, 9).await.is_empty());
    w.now += 3_000;
    assert_eq!(w.due().await.0, [no]);
    assert_eq!(w.claim(no, 9).await.len(), 1);
    // One whose time has passed needs no waiting.
    let mut publish = w.to("b", &[no], Lane::Own).await;
    publish.not_before = Some(w.now);
    assert_eq!(w.stored_as(publish).await.1.len(), 1);
}

pub(crate) async fn what_is_not_fresh_is_left_to_the_queue(mut w: World) {
    let all = w.listeners(2, Order::None).await;
    let mut publish = w.to("a", &all, Lane::Own).await;
    publish.destinations[1].fresh = false;
    let published = w.store.publish(publish).await.unwrap();
    assert!(
        matches!(&published, Published::Stored { leased, queued: true, .. } if *leased == all[..1]),
        "{published:?}"
    );
    assert_eq!(w.due().await.0, all[1..]);
    let store: &dyn Store = &*w.store;
    assert!(store.writable().await.is_ok() && store.durable());
}
