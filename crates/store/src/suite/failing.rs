//! Destinations that fail: disabled in the end, enabled again, or deleted.

use tidings_model::delivery::DeliveryState;
use tidings_model::listener::{Disabled, Order};

use super::{World, delete, finished};
use crate::log::{Lane, MAX_DIRECT};
use crate::queue::{AttemptRange, DeliveryFilter, Next};

pub(crate) async fn gone_disables_at_once(mut w: World) {
    let no = w.listener(Order::Key).await;
    let (_, a) = w.publish_keyed("a", no, "joe").await;
    let (_, b) = w.publish_keyed("b", no, "ann").await;
    w.publish_keyed("c", no, "joe").await;
    w.publish_keyed("d", no, "ann").await;
    let version = w.store.changes(0).await.unwrap().version;
    for (leased, by_this) in [(&a[0], true), (&b[0], false)] {
        let mut end = finished(leased, Next::Undelivered);
        end.disable = Some("gone");
        let recorded = w.finish(vec![end]).await.remove(0);
        // Nothing more is leased for a disabled destination, whichever result disabled it.
        assert_eq!((recorded.stale, recorded.disabled, recorded.next_in_lane), (false, by_this, vec![]));
    }
    let changes = w.store.changes(version).await.unwrap();
    assert_eq!((changes.version, changes.listeners.len()), (version + 1, 1));
    let disabled = Disabled { reason: "gone".to_owned(), at: w.now };
    assert_eq!(changes.listeners[0].0.disabled, Some(disabled));
    assert_eq!(w.due().await, (vec![], None));
    assert!(w.store.failing().await.unwrap().is_empty());
}

pub(crate) async fn nothing_but_failure_disables_in_the_end(mut w: World) {
    let no = w.listener(Order::None).await;
    let (_, mut leased) = w.publish("a", &[no], Lane::Own).await;
    let began = w.now;
    for _ in 0..3 {
        let end = finished(&leased[0], Next::Retry(w.now + 1_000));
        assert!(!w.finish_since(vec![end], w.now - 2_500).await[0].disabled);
        assert_eq!(w.store.failing().await.unwrap(), [(no, began)]);
        w.now += 1_000;
        leased = w.claim(no, 9).await;
    }
    let end = finished(&leased[0], Next::Retry(w.now + 1_000));
    assert!(w.finish_since(vec![end], w.now - 2_500).await[0].disabled);
    assert_eq!(w.stored(no).await.0.disabled.unwrap().reason, "failing");
    // Its delivery waits, however long.
    w.now += 100_000;
    assert_eq!(w.due().await, (vec![], None));
    w.store.sweep(w.now).await.unwrap();
    assert_eq!(w.due().await, (vec![], None));
    assert_eq!(w.all().await[0].state, DeliveryState::Pending);
}

pub(crate) async fn a_success_clears_the_failures(mut w: World) {
    let no = w.listener(Order::None).await;
    let (_, a) = w.publish("a", &[no], Lane::Own).await;
    let (_, b) = w.publish("b", &[no], Lane::Own).await;
    w.finish(vec![finished(&a[0], Next::Undelivered)]).await;
    assert_eq!(w.store.failing().await.unwrap().len(), 1);
    let mut end = finished(&b[0], Next::Delivered);
    end.was_failing = true;
    w.finish(vec![end]).await;
    assert!(w.store.failing().await.unwrap().is_empty());
}

pub(crate) async fn failures_are_told_of_those_that_are_asked_about(mut w: World) {
    let all = w.listeners(3, Order::None).await;
    let (_, leased) = w.publish("a", &all, Lane::Own).await;
    w.finish(leased[..2].iter().map(|leased| finished(leased, Next::Undelivered)).collect()).await;
    let failing = w.store.failing_of(vec![all[1], all[2]]).await.unwrap();
    assert_eq!(failing, [(all[1], w.now)]);
    assert_eq!(w.store.failing_of(Vec::new()).await.unwrap(), []);
}

// covers: C06
pub(crate) async fn enabling_again_finds_what_waits(mut w: World) {
    let no = w.listener(Order::None).await;
    let (_, a) = w.publish("a", &[no], Lane::Own).await;
    let (_, b) = w.publish("b", &[no], Lane::Own).await;
    let mut end = finished(&a[0], Next::Retry(w.now + 1_000));
    end.disable = Some("gone");
    assert!(w.finish(vec![end]).await[0].disabled);
    // What was under way comes back after the disabling.
    w.finish(vec![finished(&b[0], Next::Retry(w.now + 2_000))]).await;
    w.now += 5_000;
    assert_eq!(w.due().await, (vec![], None));
    w.store.sweep(w.now).await.unwrap();
    w.reopen().await;
    assert_eq!(w.due().await, (vec![], None));
    assert_eq!(w.all().await.iter().filter(|row| row.state == DeliveryState::Pending).count(), 2);

    let (mut listener, _) = w.stored(no).await;
    listener.disabled = None;
    let version = listener.version;
    w.store.replace_listener(listener.clone(), version).await.unwrap();
    assert_eq!(w.due().await.0, [no]);
    assert!(w.store.failing().await.unwrap().is_empty());
    // Disabled by request and enabled: nothing is lost either.
    listener.disabled = Some(Disabled { reason: "by request".to_owned(), at: w.now });
    w.store.replace_listener(listener.clone(), version + 1).await.unwrap();
    assert_eq!(w.due().await, (vec![], None));
    listener.disabled = None;
    w.store.replace_listener(listener, version + 2).await.unwrap();
    assert_eq!(w.due().await.0, [no]);
    assert_eq!(w.claim(no, 9).await.len(), 2);
}

pub(crate) async fn a_disabling_is_announced_once(mut w: World) {
    let no = w.listener(Order::None).await;
    let (_, a) = w.publish("a", &[no], Lane::Own).await;
    let mut end = finished(&a[0], Next::Undelivered);
    end.disable = Some("gone");
    w.finish(vec![end]).await;
    let (mut listener, _) = w.stored(no).await;
    let told = (w.app.clone(), listener.id.clone());
    assert_eq!(w.store.unannounced().await.unwrap(), std::slice::from_ref(&told));
    // A change of its description does not suppress the announcement.
    listener.description = "changed".to_owned();
    let version = listener.version;
    w.store.replace_listener(listener.clone(), version).await.unwrap();
    assert_eq!(w.store.unannounced().await.unwrap(), [told]);
    w.store.announced(&w.app, &listener.id).await.unwrap();
    assert!(w.store.unannounced().await.unwrap().is_empty());
    // Disabling by request is not announced.
    listener.disabled = Some(Disabled { reason: "by request".to_owned(), at: w.now + 1 });
    w.store.replace_listener(listener, version + 1).await.unwrap();
    assert!(w.store.unannounced().await.unwrap().is_empty());
}

pub(crate) async fn a_deleted_listener_is_owed_nothing(mut w: World) {
    let gone = w.listener(Order::Fifo).await;
    let others = w.listeners(MAX_DIRECT, Order::None).await;
    let (_, leased) = w.publish("a", &[gone], Lane::Whole).await;
    for i in 0..520 {
        w.publish(&format!("e{i}"), &[gone], Lane::Whole).await;
    }
    let mut all = vec![gone];
    all.extend(&others);
    let (fanned, _) = w.publish("fanned", &all, Lane::Own).await;
    delete(&w, gone).await;
    let mut slices = 0;
    while w.store.cancel_orphans(w.now).await.unwrap() {
        slices += 1;
        assert!(slices < 10);
    }
    assert_eq!(slices, 2);
    assert!(w.deliver(&leased[0]).await.stale);
    // What is expanded afterwards is canceled too, not left out.
    w.expand(1_000).await;
    let filter = DeliveryFilter { destination: Some(gone), limit: 1_000, ..DeliveryFilter::default() };
    let rows = w.store.deliveries(&w.app, filter).await.unwrap();
    assert_eq!(rows.len(), 522);
    assert_eq!(rows[0].key.event, fanned);
    assert!(rows.iter().all(|row| row.state == DeliveryState::Canceled && row.closed_at == Some(w.now)));
    assert_eq!(w.due().await, (vec![], None));
    assert_eq!(w.store.depth().await.unwrap().deliveries, 64);
}

pub(crate) async fn what_happens_to_news_about_listeners_is_no_news(mut w: World) {
    let no = w.listener(Order::None).await;
    let mut publish = w.to("a", &[no], Lane::Own).await;
    publish.event.name = "tidings.listener.disabled".to_owned();
    let (_, leased) = w.stored_as(publish).await;
    let mut end = finished(&leased[0], Next::Undelivered);
    end.disable = Some("gone");
    let recorded = w.finish(vec![end]).await;
    assert!(recorded[0].disabled);
    assert!(w.store.unannounced().await.unwrap().is_empty());
}

pub(crate) async fn what_is_under_way_to_a_deleted_listener_ends_with_its_attempt(mut w: World) {
    let all = w.listeners(2, Order::None).await;
    let (event, leased) = w.publish("a", &all, Lane::Own).await;
    let (_, other) = w.publish("b", &all, Lane::Own).await;
    delete(&w, all[0]).await;
    while w.store.cancel_orphans(w.now).await.unwrap() {}
    // An attempt to the deleted listener fails: no other follows. The node restarts before the others end.
    let recorded = w.finish(vec![finished(&leased[0], Next::Retry(w.now + 10))]).await;
    assert_eq!(recorded, [crate::queue::Recorded::default()]);
    assert_eq!(w.store.attempts(&leased[0].key, AttemptRange::first(100)).await.unwrap().rows.len(), 1);
    w.reopen().await;
    for row in w.all().await {
        let gone = row.key.destination == all[0];
        let expected = if gone { DeliveryState::Canceled } else { DeliveryState::Pending };
        assert_eq!(row.state, expected, "{row:?}");
    }
    assert!(w.deliver(&other[0]).await.stale);
    assert_eq!(w.store.depth().await.unwrap().deliveries, 2);
    assert_eq!((w.due().await.0, event), (all[1..].to_vec(), leased[0].key.event));
}
