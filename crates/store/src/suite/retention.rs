//! Forgetting what is old, and nothing that is still owed.

use tidings_model::listener::Order;

use super::{World, finished};
use crate::log::{EventFilter, Idempotency, Lane, MAX_DIRECT, Published};
use crate::queue::Next;

/// Retires until nothing is left to retire; answers in how many slices.
async fn retire(w: &World, events_before: i64, keys_before: i64) -> usize {
    let mut slices = 1;
    while w.store.retire(events_before, keys_before).await.unwrap() {
        slices += 1;
        assert!(slices < 100);
    }
    slices
}

pub(crate) async fn old_events_go_with_their_deliveries(mut w: World) {
    let no = w.listener(Order::None).await;
    let mut ends = Vec::new();
    for i in 0..600 {
        let mut publish = w.to(&format!("e{i}"), &[no], Lane::Own).await;
        publish.event.channels = vec!["c".to_owned()];
        ends.push(finished(&w.stored_as(publish).await.1[0], Next::Delivered));
        w.now += 1;
    }
    w.finish(ends.clone()).await;
    assert_eq!(retire(&w, super::START, 0).await, 1);
    assert_eq!(w.all().await.len(), 600);
    let cut = super::START + 590;
    assert!(retire(&w, cut, 0).await > 1);
    assert_eq!(w.all().await.len(), 10);
    for filter in [
        EventFilter { limit: 100, ..EventFilter::default() },
        EventFilter { limit: 100, channel: Some("c".to_owned()), ..EventFilter::default() },
    ] {
        let left = w.store.events(&w.app, filter).await.unwrap();
        assert_eq!(left.len(), 10);
        assert!(left.iter().all(|l| l.received_at >= cut));
    }
    assert_eq!(w.store.delivery(&ends[0].delivery.key).await.unwrap(), None);
    // All of it, and the next event is a new one all the same.
    retire(&w, w.now, 0).await;
    assert!(w.all().await.is_empty());
    let (next, _) = w.publish("e0", &[no], Lane::Own).await;
    assert!(next > ends[599].delivery.key.event);
}

pub(crate) async fn events_with_open_work_are_kept(mut w: World) {
    let all = w.listeners(MAX_DIRECT + 1, Order::None).await;
    w.publish("fanout", &all, Lane::Own).await;
    let (_, leased) = w.publish("open", &all[..2], Lane::Own).await;
    w.deliver(&leased[0]).await;
    w.publish("none", &[], Lane::Own).await;
    w.now += 10;
    retire(&w, w.now, 0).await;
    let left = w.store.events(&w.app, EventFilter { limit: 9, ..EventFilter::default() }).await.unwrap();
    assert_eq!(left.iter().map(|l| l.event.id.as_str()).collect::<Vec<_>>(), ["open", "fanout"]);
    assert_eq!(w.store.attempts(&leased[0].key).await.unwrap().len(), 1);
    // Once the work has ended, they go.
    w.deliver(&leased[1]).await;
    retire(&w, w.now, 0).await;
    assert_eq!(w.store.event(&w.app, "open").await.unwrap(), None);
    assert!(w.store.event(&w.app, "fanout").await.unwrap().is_some());
    let expanded = w.expand(100).await;
    w.finish(expanded.leased.iter().map(|l| finished(l, Next::Undelivered)).collect()).await;
    retire(&w, w.now, 0).await;
    assert!(w.all().await.is_empty());
}

pub(crate) async fn old_keys_are_forgotten(mut w: World) {
    let no = w.listener(Order::None).await;
    let mut first = w.to("a", &[no], Lane::Own).await;
    first.idempotency = Some(Idempotency { key: "k".to_owned(), digest: [1; 32], forget_before: 0 });
    w.stored_as(first.clone()).await;
    retire(&w, 0, w.now).await;
    assert!(matches!(w.store.publish(first.clone()).await.unwrap(), Published::Repeated { .. }));
    retire(&w, 0, w.now + 1).await;
    first.event.id = "b".to_owned();
    assert!(matches!(w.store.publish(first).await.unwrap(), Published::Stored { .. }));
}
