//! Retention: old events are deleted, but none with an open delivery.

use tidings_model::listener::Order;

use super::{World, finished};
use crate::log::{EventFilter, Idempotency, Lane, MAX_DIRECT, Published};
use crate::queue::{AttemptRange, Next};

/// Runs retention until nothing is left to delete. Returns the number of slices.
async fn retire(w: &World, events_before: i64, keys_before: i64) -> usize {
    let mut slices = 1;
    while w.store.retire(events_before, keys_before).await.unwrap().more {
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
        let left = w.store.events(&w.app, filter).await.unwrap().rows;
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
    let left = w.store.events(&w.app, EventFilter { limit: 9, ..EventFilter::default() }).await.unwrap().rows;
    assert_eq!(left.iter().map(|l| l.event.id.as_str()).collect::<Vec<_>>(), ["open", "fanout"]);
    assert_eq!(w.store.attempts(&leased[0].key, AttemptRange::first(100)).await.unwrap().rows.len(), 1);
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

/// Runs retention by size. Returns how many events it deleted.
async fn retire_above(w: &World, most: u64) -> u64 {
    let mut events = 0;
    for _ in 0..1_000 {
        let retired = w.store.retire_above(most).await.unwrap();
        events += retired.events;
        if !retired.more {
            return events;
        }
    }
    panic!("it never ends");
}

// covers: G041
pub(crate) async fn too_much_goes_oldest_first_and_never_what_is_pending(mut w: World) {
    let no = w.listener(Order::None).await;
    let mut first = None;
    for i in 0..60 {
        let mut publish = w.to(&format!("e{i}"), &[no], Lane::Own).await;
        publish.event.data = tidings_model::event::Data::json(vec![b'1'; 40_000]);
        let (_, leased) = w.stored_as(publish).await;
        // The oldest of all is still under way.
        if i == 0 {
            first = Some(leased)
        } else {
            drop(w.deliver(&leased[0]).await)
        }
        w.now += 1;
    }
    assert_eq!(retire_above(&w, u64::MAX).await, 0);
    let full = w.store.depth().await.unwrap().bytes;
    assert!(full > 60 * 40_000, "{full}");
    let most = full / 2;
    let gone = retire_above(&w, most).await;
    let left = w.store.depth().await.unwrap();
    assert!(left.bytes <= most && left.bytes > most - 200_000, "{} of {most} bytes", left.bytes);
    let ids = async || {
        let filter = EventFilter { limit: 100, ..EventFilter::default() };
        w.store.events(&w.app, filter).await.unwrap().rows.into_iter().map(|l| l.event.id).collect::<Vec<_>>()
    };
    let expected: Vec<String> = (gone + 1..60).rev().map(|i| format!("e{i}")).chain(["e0".to_owned()]).collect();
    assert_eq!(ids().await, expected);
    // However little may stay, what is pending does.
    assert_eq!(retire_above(&w, 0).await, 59 - gone);
    assert_eq!(ids().await, ["e0"]);
    assert!(!w.deliver(&first.unwrap()[0]).await.stale);
    assert_eq!(retire_above(&w, 0).await, 1);
    assert_eq!(w.store.depth().await.unwrap().deliveries, 0);
}

async fn forget_deleted(w: &World, before: i64) {
    while w.store.forget_deleted(before).await.unwrap() {}
}

// covers: G042
pub(crate) async fn what_is_gone_keeps_no_contents_and_is_forgotten(mut w: World) {
    let no = w.listener(Order::None).await;
    let mut changed = super::hook(&w.app, "person.created");
    changed.fields = Some(Vec::new());
    w.store.create_hook(changed.clone()).await.unwrap();
    let version = w.store.changes(i64::MAX - 1).await.unwrap().version;
    let mut publish = w.to("a", &[no], Lane::Own).await;
    publish.hook_version = Some(version);
    let (_, leased) = w.stored_as(publish).await;
    changed.fields = None;
    changed.updated_at = w.now;
    w.store.replace_hook(changed, version).await.unwrap();
    let later = w.store.changes(i64::MAX - 1).await.unwrap().version;
    w.store.delete_hook(&w.app, "person.created", w.now).await.unwrap();
    super::delete(&w, no).await;
    let everything = w.store.changes(-1).await.unwrap();
    let (hook, gone) = &everything.hooks[0];
    assert!(*gone && hook.description.is_empty() && hook.schema.is_none() && hook.defaults.timeout.is_none());
    let (listener, gone) = &everything.listeners[0];
    assert!(*gone && listener.description.is_empty() && listener.owner.is_none() && listener.hooks.is_empty());
    assert_eq!((listener.no, listener.url.as_str()), (no, "about:blank"));

    // Nothing is forgotten before its time, nor while it is named.
    w.now += 10_000_000;
    forget_deleted(&w, super::START).await;
    let fields = async |version| w.store.fields_at(&w.app, "person.created", version).await.unwrap();
    assert_eq!((fields(version).await, fields(later).await), (Some(Some(Vec::new())), Some(None)));
    forget_deleted(&w, w.now).await;
    assert_eq!((fields(version).await, fields(later).await), (Some(Some(Vec::new())), None), "an event has them still");
    let left = w.store.changes(-1).await.unwrap();
    assert_eq!((left.hooks.len(), left.listeners.len()), (0, 1), "a listener's deliveries are to be canceled first");
    while w.store.cancel_orphans(w.now).await.unwrap() {}
    w.finish(vec![finished(&leased[0], Next::Delivered)]).await;
    retire(&w, w.now, 0).await;
    forget_deleted(&w, w.now).await;
    assert_eq!(fields(version).await, None);
    assert!(w.store.changes(-1).await.unwrap().listeners.is_empty());
    assert_eq!(w.store.attempts(&leased[0].key, AttemptRange::first(1)).await, Err(crate::StoreError::Missing));
    // Their names are free again.
    w.store.create_hook(super::hook(&w.app, "person.created")).await.unwrap();
}
