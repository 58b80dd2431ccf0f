//! Lists of deliveries and attempts, and the numbers of open work.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tidings_model::delivery::DeliveryState;
use tidings_model::id::{AppId, DeliveryKey};
use tidings_model::listener::Order;

use super::{World, attempt, event, finished, listener};
use crate::error::StoreError;
use crate::log::{Lane, Published};
use crate::queue::{AttemptRange, DeliveryFilter, DeliveryRow, Next, Retried};

/// How often a delivery ends and is reopened.
const ROUNDS: usize = 100;

/// A dozen events to four listeners, in every state, and as many of another app's.
async fn mixture(w: &mut World) -> Vec<DeliveryRow> {
    let own = w.listeners(4, Order::None).await;
    for i in 0..12 {
        let (_, leased) = w.publish(&format!("e{i}"), &own, Lane::Own).await;
        for (j, leased) in leased.iter().enumerate() {
            let next = match (i + j) % 5 {
                0 => Next::Retry(w.now + 1_000),
                1 => Next::Delivered,
                2 => Next::Undelivered,
                3 => Next::Canceled,
                _ => continue,
            };
            w.finish(vec![finished(leased, next)]).await;
        }
    }
    let other = AppId::from("2");
    let foreign = w.store.create_listener(listener(&other, "foreign", Order::None)).await.unwrap();
    for i in 0..12 {
        let mut publish = w.to(&format!("e{i}"), &[foreign], Lane::Own).await;
        publish.event = event(&other, &format!("e{i}"));
        let (_, leased) = w.stored_as(publish).await;
        if i % 2 == 0 {
            w.finish(vec![finished(&leased[0], Next::Undelivered)]).await;
        }
    }
    w.all().await
}

// covers: T03
pub(crate) async fn every_filter_pages_without_gap_or_repeat(mut w: World) {
    let all = mixture(&mut w).await;
    assert_eq!(all.len(), 48);
    assert!(all.is_sorted_by_key(|row| std::cmp::Reverse((row.key.event, row.key.destination))));
    assert!(all.iter().all(|row| row.key.app == w.app && row.listener.starts_with("lst_") && !row.event_id.is_empty()));
    let states = [None].into_iter().chain(DeliveryState::ALL.map(Some));
    let events = [None, Some(all[0].key.event), Some(all[20].key.event)];
    let destinations = [None, Some(all[0].key.destination), Some(all[1].key.destination)];
    for (state, (event, destination)) in
        states.flat_map(|s| events.map(|e| destinations.map(|d| (s, (e, d))))).flatten()
    {
        let expected: Vec<&DeliveryRow> = all
            .iter()
            .filter(|row| state.is_none_or(|s| row.state == s))
            .filter(|row| event.is_none_or(|e| row.key.event == e))
            .filter(|row| destination.is_none_or(|d| row.key.destination == d))
            .collect();
        for limit in [1, 3, 100] {
            let mut found = Vec::new();
            let mut before = None;
            loop {
                let filter = DeliveryFilter { state, destination, event, before, limit };
                let page = w.store.deliveries(&w.app, filter).await.unwrap();
                assert!(page.len() <= limit);
                let Some(last) = page.last() else { break };
                before = Some((last.key.event, last.key.destination));
                found.extend(page);
            }
            assert_eq!(found.iter().collect::<Vec<_>>(), expected, "{state:?} {event:?} {destination:?} by {limit}");
        }
    }
    // Another app sees nothing, even when it names the very delivery.
    let other = AppId::from("2");
    let filter = DeliveryFilter { destination: destinations[1], limit: 100, ..DeliveryFilter::default() };
    assert!(w.store.deliveries(&other, filter).await.unwrap().is_empty());
    let foreign = DeliveryKey { app: other, ..all[0].key.clone() };
    assert_eq!(w.store.delivery(&foreign).await.unwrap(), None);
    assert_eq!(w.store.delivery(&all[0].key).await.unwrap().as_ref(), Some(&all[0]));
}

// covers: T03
pub(crate) async fn attempts_are_kept_and_belong_to_the_app(mut w: World) {
    let no = w.listener(Order::None).await;
    let (_, leased) = w.publish("a", &[no], Lane::Own).await;
    let key = leased[0].key.clone();
    assert!(w.store.attempts(&key, AttemptRange::first(100)).await.unwrap().rows.is_empty());
    let retry = Next::Retry(w.now + 10);
    w.finish(vec![finished(&leased[0], retry)]).await;
    let row = w.store.delivery(&key).await.unwrap().unwrap();
    assert_eq!((row.attempts, row.due, row.last_error.as_deref()), (1, Some(w.now + 10), Some("attempt 1 failed")));
    w.now += 10;
    let again = w.claim(no, 1).await;
    w.deliver(&again[0]).await;
    let expected = [attempt(1, retry), attempt(2, Next::Delivered)];
    assert_eq!(w.store.attempts(&key, AttemptRange::first(100)).await.unwrap().rows, expected);
    let row = w.store.delivery(&key).await.unwrap().unwrap();
    assert_eq!((row.state, row.attempts, row.closed_at), (DeliveryState::Delivered, 2, Some(w.now)));
    let foreign = DeliveryKey { app: AppId::from("2"), ..key };
    assert_eq!(w.store.attempts(&foreign, AttemptRange::first(1)).await, Err(StoreError::Missing));
}

// covers: G031
pub(crate) async fn attempts_page_by_number_and_by_bytes(mut w: World) {
    let no = w.listener(Order::None).await;
    let (_, mut leased) = w.publish("a", &[no], Lane::Own).await;
    let key = leased[0].key.clone();
    for _ in 0..10 {
        let mut end = finished(&leased[0], Next::Retry(w.now));
        end.attempt.as_mut().unwrap().response_body = vec![b'x'; 10_000];
        w.finish(vec![end]).await;
        leased = w.claim(no, 1).await;
    }
    let list = async |after, limit, bytes| {
        let page = w.store.attempts(&key, AttemptRange { after, limit, bytes }).await.unwrap();
        (page.rows.iter().map(|attempt| attempt.n).collect::<Vec<_>>(), page.more)
    };
    assert_eq!(list(0, 3, usize::MAX).await, (vec![1, 2, 3], true));
    assert_eq!(list(3, 7, usize::MAX).await, ((4..=10).collect(), false));
    assert_eq!(list(10, 7, usize::MAX).await, (vec![], false));
    // A page has so many bytes at most, and one attempt at least.
    assert_eq!(list(2, 100, 35_000).await, (vec![3, 4, 5], true));
    assert_eq!(list(8, 100, 1).await, (vec![9], true));
    assert_eq!(list(9, 100, 1).await, (vec![10], false));
    // One that its first attempt delivered is a page too, and has none behind it.
    let (_, leased) = w.publish("b", &[no], Lane::Own).await;
    w.deliver(&leased[0]).await;
    for (after, count) in [(0, 1), (1, 0)] {
        let range = AttemptRange { after, limit: 1, bytes: 1 };
        let page = w.store.attempts(&leased[0].key, range).await.unwrap();
        assert_eq!((page.rows.len(), page.more), (count, false));
    }
}

/// A delivery moves between tables while it is read; each read finds it in exactly one of them.
pub(crate) async fn what_moves_is_seen_once(mut w: World) {
    let no = w.listener(Order::None).await;
    let (_, leased) = w.publish("a", &[no], Lane::Own).await;
    let (key, mut leased) = (leased[0].key.clone(), leased[0].clone());
    let (store, app, moving) = (Arc::clone(&w.store), w.app.clone(), Arc::new(AtomicBool::new(true)));
    let looking = tokio::spawn({
        let (key, moving) = (key.clone(), Arc::clone(&moving));
        let filter = DeliveryFilter { event: Some(key.event), limit: 10, ..DeliveryFilter::default() };
        async move {
            while moving.load(Ordering::Relaxed) {
                assert!(store.delivery(&key).await.unwrap().is_some(), "it was not there");
                assert_eq!(store.deliveries(&app, filter.clone()).await.unwrap().len(), 1);
                store.attempts(&key, AttemptRange::first(100)).await.unwrap();
            }
        }
    });
    for _ in 0..ROUNDS {
        w.deliver(&leased).await;
        assert_eq!(w.store.retry(&key, w.now).await.unwrap(), Retried::Due);
        leased = w.claim(no, 1).await.remove(0);
    }
    moving.store(false, Ordering::Relaxed);
    looking.await.unwrap();
}

// covers: G111
pub(crate) async fn depth_counts_open_work(mut w: World) {
    let all = mixture(&mut w).await;
    let depth = w.store.depth().await.unwrap();
    let of = |state| all.iter().filter(|row| row.state == state).count() as u64;
    assert_eq!(depth.deliveries, of(DeliveryState::Pending) + 6);
    assert_eq!(depth.undelivered, of(DeliveryState::Undelivered) + 6);
    assert_eq!(depth.fanouts, 0);
    let many = w.listeners(65, Order::None).await;
    assert!(matches!(
        w.store.publish(w.to("large", &many, Lane::Own).await).await.unwrap(),
        Published::Stored { queued: true, .. }
    ));
    assert_eq!(w.store.depth().await.unwrap().fanouts, 1);
    // The numbers are the same after a start.
    let before = w.store.depth().await.unwrap();
    w.reopen().await;
    let after = w.store.depth().await.unwrap();
    assert_eq!(
        (after.deliveries, after.undelivered, after.fanouts),
        (before.deliveries, before.undelivered, before.fanouts)
    );
    assert!(after.bytes > 0);
}
