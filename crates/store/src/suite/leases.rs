//! Claims and leases: what is leased to whom, and that a lost lease changes nothing.

use std::collections::HashSet;

use tidings_model::delivery::DeliveryState;
use tidings_model::id::{AppId, DeliveryKey, DestinationNo, EventNo};
use tidings_model::listener::Order;

use super::{LEASED_FOR, World, delete, finished, wanted};
use crate::error::StoreError;
use crate::log::{Lane, LeaseToken};
use crate::queue::{AttemptRange, Next, Recorded, Retried, Skip};

pub(crate) async fn claims_take_the_longest_due_first(mut w: World) {
    let all = w.listeners(2, Order::None).await;
    let mut back = Vec::new();
    for (i, later) in [30, 10, 20].into_iter().enumerate() {
        let (no, leased) = w.publish(&format!("e{i}"), &all[..1], Lane::Own).await;
        w.store.release(leased, w.now + later).await.unwrap();
        back.push(no);
    }
    w.now += 25;
    let claimed = w.store.claim(vec![wanted(all[0], 9), wanted(all[1], 9)], w.now, w.lease()).await.unwrap();
    assert_eq!(claimed.iter().map(|l| l.key.event).collect::<Vec<_>>(), [back[1], back[2]]);
    assert!(w.claim(all[0], 9).await.is_empty());
    assert_eq!(w.due().await, (vec![], Some(w.now + 5)));
    w.now += 5;
    assert!(w.claim(all[0], 0).await.is_empty());
    assert_eq!(w.claim(all[0], 1).await.len(), 1);
    assert_eq!(w.due().await, (vec![], None));
}

pub(crate) async fn a_lost_lease_changes_nothing(mut w: World) {
    let no = w.listener(Order::None).await;
    let (_, leased) = w.publish("a", &[no], Lane::Own).await;
    let mut forged = leased[0].clone();
    forged.lease.token = LeaseToken(forged.lease.token.0 + 1_000_000);
    let before = w.all().await;
    let stale = Recorded { stale: true, ..Recorded::default() };
    for next in [Next::Delivered, Next::Undelivered, Next::Canceled, Next::Retry(w.now)] {
        let mut end = finished(&forged, next);
        end.disable = Some("gone");
        assert_eq!(w.finish(vec![end]).await, std::slice::from_ref(&stale));
    }
    w.store.release(vec![forged], w.now).await.unwrap();
    assert_eq!(w.all().await, before);
    assert!(w.store.attempts(&leased[0].key, AttemptRange::first(100)).await.unwrap().rows.is_empty());
    assert!(w.stored(no).await.0.enabled());
    assert_eq!(w.due().await, (vec![], None));

    // A batch is answered in its order, and a stale one among it spoils nothing.
    let (_, other) = w.publish("b", &[no], Lane::Own).await;
    assert_eq!(w.deliver(&leased[0]).await, Recorded::default());
    let batch = vec![finished(&leased[0], Next::Delivered), finished(&other[0], Next::Delivered)];
    assert_eq!(w.finish(batch).await, [stale, Recorded::default()]);
    assert_eq!(w.store.attempts(&leased[0].key, AttemptRange::first(100)).await.unwrap().rows.len(), 1);
}

pub(crate) async fn released_deliveries_come_back(mut w: World) {
    let no = w.listener(Order::None).await;
    let (_, leased) = w.publish("a", &[no], Lane::Own).await;
    w.store.release(leased.clone(), w.now + 100).await.unwrap();
    assert_eq!(w.due().await, (vec![], Some(w.now + 100)));
    w.now += 100;
    let again = w.claim(no, 9).await;
    assert_eq!((again.len(), again[0].attempts), (1, 0));
    // The first holder has lost its lease.
    assert!(w.deliver(&leased[0]).await.stale);
    assert!(!w.deliver(&again[0]).await.stale);
}

pub(crate) async fn run_out_leases_are_swept(mut w: World) {
    let all = w.listeners(3, Order::None).await;
    let (_, leased) = w.publish("a", &all, Lane::Own).await;
    w.now += LEASED_FOR;
    assert_eq!(w.store.sweep(w.now).await.unwrap(), 0);
    w.deliver(&leased[0]).await;
    w.now += 1;
    assert_eq!(w.store.sweep(w.now).await.unwrap(), 2);
    assert_eq!(w.store.sweep(w.now).await.unwrap(), 0);
    assert_eq!(w.due().await.0, all[1..]);
    assert!(w.deliver(&leased[1]).await.stale);
    assert_eq!(w.claim(all[1], 9).await.len(), 1);
}

pub(crate) async fn what_was_leased_together_ends_apart(mut w: World) {
    let all = w.listeners(5, Order::None).await;
    let (event, leased) = w.publish("a", &all, Lane::Own).await;
    assert!(w.all().await.iter().all(|row| row.state == DeliveryState::Pending && row.due.is_none()));
    assert_eq!(w.store.retry(&leased[0].key, w.now).await, Ok(Retried::UnderWay));
    w.finish(vec![finished(&leased[3], Next::Delivered), finished(&leased[1], Next::Retry(w.now + 10))]).await;
    w.store.release(vec![leased[4].clone()], w.now + 20).await.unwrap();
    // Each of them has left, so none of them can end once more.
    for left in [1, 3, 4] {
        assert!(w.deliver(&leased[left]).await.stale);
    }
    // The same end twice in one batch is one end.
    let twice = vec![finished(&leased[0], Next::Undelivered), finished(&leased[0], Next::Delivered)];
    assert_eq!(w.finish(twice).await.iter().map(|r| r.stale).collect::<Vec<_>>(), [false, true]);
    assert_eq!(w.store.depth().await.unwrap().deliveries, 3);
    // What is left when its holder dies is due at once, the others when they were.
    assert_eq!(w.reopen().await, 1);
    let rows = w.all().await;
    assert!(rows.iter().rev().map(|row| row.key.destination).eq(all.iter().copied()) && rows[0].key.event == event);
    let dues: Vec<_> = rows.iter().rev().map(|row| row.due).collect();
    assert_eq!(dues, [None, Some(w.now + 10), Some(w.now), None, Some(w.now + 20)]);
}

pub(crate) async fn no_token_is_given_twice(mut w: World) {
    let mut seen = HashSet::new();
    for _ in 0..3 {
        assert!((0..100).all(|_| seen.insert(w.store.new_token())));
        w.reopen().await;
    }
}

pub(crate) async fn due_tells_who_and_when(mut w: World) {
    let all = w.listeners(4, Order::None).await;
    for (i, no) in all.iter().enumerate() {
        let (_, leased) = w.publish(&format!("e{i}"), &[*no], Lane::Own).await;
        w.store.release(leased, w.now + 40 - 10 * i as i64).await.unwrap();
    }
    assert_eq!(w.due().await, (vec![], Some(w.now + 10)));
    w.now += 30;
    assert_eq!(w.due().await, (vec![all[3], all[2], all[1]], Some(w.now + 10)));
    let due = async |destinations: &[DestinationNo], apps: &[&str], limit| {
        let apps = apps.iter().map(|app| AppId::from(*app)).collect();
        w.store.due(w.now, Skip { destinations: destinations.to_vec(), apps }, limit).await.unwrap()
    };
    assert_eq!(due(&[all[3]], &[], 1).await.destinations, [all[2]]);
    for skipped in [due(&all, &[], 9).await, due(&[], &["it's another", w.app.as_str()], 9).await] {
        assert_eq!((skipped.destinations.len(), skipped.next), (0, None));
    }
    assert_eq!(due(&[], &["it's another"], 9).await.destinations.len(), 3);
}

pub(crate) async fn a_retry_by_hand_in_each_state(mut w: World) {
    let no = w.listener(Order::Fifo).await;
    let (_, a) = w.publish("a", &[no], Lane::Whole).await;
    let (b, _) = w.publish("b", &[no], Lane::Whole).await;
    let key_b = DeliveryKey { app: w.app.clone(), event: b, destination: no };
    let retry = async |w: &World, key: &DeliveryKey| w.store.retry(key, w.now).await;
    assert_eq!(retry(&w, &a[0].key).await, Ok(Retried::UnderWay));
    assert_eq!(retry(&w, &key_b).await, Ok(Retried::Waiting));
    w.finish(vec![finished(&a[0], Next::Retry(w.now + 60_000))]).await;
    assert_eq!(retry(&w, &a[0].key).await, Ok(Retried::Due));
    let again = w.claim(no, 9).await;
    assert_eq!((again.len(), again[0].attempts, again[0].forgiven), (1, 1, 0));
    let next = w.finish(vec![finished(&again[0], Next::Undelivered)]).await.remove(0).next_in_lane[0].clone();
    assert_eq!(w.store.delivery(&a[0].key).await.unwrap().unwrap().state, DeliveryState::Undelivered);

    // Opened again, out of its lane, with its schedule before it; attempts go on counting.
    assert_eq!(retry(&w, &a[0].key).await, Ok(Retried::Due));
    let row = w.store.delivery(&a[0].key).await.unwrap().unwrap();
    assert_eq!((row.state, row.attempts, row.due), (DeliveryState::Pending, 2, Some(w.now)));
    let opened = w.claim(no, 9).await;
    assert_eq!((opened[0].attempts, opened[0].forgiven, opened[0].ordered), (2, 2, false));
    assert_eq!(w.deliver(&opened[0]).await, Recorded::default());
    let attempts = w.store.attempts(&a[0].key, AttemptRange::first(100)).await.unwrap().rows;
    assert_eq!(attempts.iter().map(|a| a.n).collect::<Vec<_>>(), [1, 2, 3]);
    // What was delivered can be sent again too.
    assert_eq!(retry(&w, &a[0].key).await, Ok(Retried::Due));
    assert_eq!(w.all().await.len(), 2);

    // No delivery of another app, none that does not exist, none of a deleted listener.
    let foreign = DeliveryKey { app: AppId::from("2"), ..a[0].key.clone() };
    assert_eq!(retry(&w, &foreign).await, Err(StoreError::Missing));
    let unknown = DeliveryKey { event: EventNo(7), ..a[0].key.clone() };
    assert_eq!(retry(&w, &unknown).await, Err(StoreError::Missing));
    let nobody = DeliveryKey { destination: DestinationNo(99), ..a[0].key.clone() };
    assert_eq!(retry(&w, &nobody).await, Err(StoreError::Missing));
    w.deliver(&next).await;
    delete(&w, no).await;
    assert_eq!(retry(&w, &key_b).await, Err(StoreError::Missing));
}
