//! Order: of a lane only the oldest open delivery goes.

use tidings_model::listener::Order;

use super::{World, finished};
use crate::log::{Lane, MAX_DIRECT};
use crate::queue::Next;

// covers: C08
pub(crate) async fn a_whole_lane_goes_one_by_one(mut w: World) {
    let no = w.listener(Order::Fifo).await;
    let (a, leased) = w.publish("a", &[no], Lane::Whole).await;
    let (b, none) = w.publish("b", &[no], Lane::Whole).await;
    let (c, _) = w.publish("c", &[no], Lane::Whole).await;
    assert_eq!((leased.len(), none.len()), (1, 0));
    assert!(w.claim(no, 9).await.is_empty());
    let recorded = w.deliver(&leased[0]).await;
    let next = recorded.next_in_lane.unwrap();
    assert_eq!((next.key.event, next.ordered), (b, true));
    assert!(w.claim(no, 9).await.is_empty());
    // An end that is no success lets the next go all the same.
    let recorded = w.finish(vec![finished(&next, Next::Undelivered)]).await.remove(0);
    let next = recorded.next_in_lane.unwrap();
    assert_eq!(next.key.event, c);
    assert_eq!(w.deliver(&next).await.next_in_lane, None);
    assert!(a < b && b < c);
    // The lane is empty: the next publish goes at once.
    assert_eq!(w.publish("d", &[no], Lane::Whole).await.1.len(), 1);
}

// covers: C08
pub(crate) async fn keys_do_not_block_each_other(mut w: World) {
    let no = w.listener(Order::Key).await;
    let (_, joe) = w.publish_keyed("a", no, "joe").await;
    let (_, joe2) = w.publish_keyed("b", no, "joe").await;
    let (_, ann) = w.publish_keyed("c", no, "ann").await;
    let (_, unkeyed) = w.publish("d", &[no], Lane::Key).await;
    assert_eq!((joe.len(), joe2.len(), ann.len(), unkeyed.len()), (1, 0, 1, 1));
    w.finish(vec![finished(&joe[0], Next::Retry(w.now + 60_000))]).await;
    assert_eq!(w.deliver(&ann[0]).await.next_in_lane, None);
    assert_eq!(w.publish_keyed("e", no, "ann").await.1.len(), 1);
    assert!(w.publish_keyed("f", no, "joe").await.1.is_empty());
    assert!(w.claim(no, 9).await.is_empty());
}

// covers: C08
pub(crate) async fn a_failing_head_holds_up_its_lane(mut w: World) {
    let no = w.listener(Order::Fifo).await;
    let (a, leased) = w.publish("a", &[no], Lane::Whole).await;
    w.publish("b", &[no], Lane::Whole).await;
    let recorded = w.finish(vec![finished(&leased[0], Next::Retry(w.now + 5_000))]).await.remove(0);
    assert_eq!(recorded.next_in_lane, None);
    assert_eq!(w.due().await, (vec![], Some(w.now + 5_000)));
    w.now += 5_000;
    let again = w.claim(no, 9).await;
    assert_eq!(again.iter().map(|l| (l.key.event, l.attempts, l.ordered)).collect::<Vec<_>>(), [(a, 1, true)]);
    w.store.release(again, w.now).await.unwrap();
    let again = w.claim(no, 9).await;
    assert_eq!(again.len(), 1);
    assert_eq!(again[0].key.event, a);
    w.now += super::LEASED_FOR + 1;
    assert_eq!(w.store.sweep(w.now).await.unwrap(), 1);
    assert_eq!(w.claim(no, 9).await[0].key.event, a);
}

// covers: C08
pub(crate) async fn an_ordered_delivery_goes_behind_an_earlier_fanout(mut w: World) {
    let many = w.listeners(MAX_DIRECT, Order::None).await;
    let ordered = w.listener(Order::Fifo).await;
    let mut all = many.clone();
    all.push(ordered);
    let mut large = w.to("large", &all, Lane::Own).await;
    large.destinations[MAX_DIRECT].lane = Lane::Whole;
    let (first, leased) = w.stored_as(large).await;
    assert!(leased.is_empty());

    // Of a later small publish, what needs no order goes at once, what does goes behind.
    let mut small = w.to("small", &[many[0], ordered], Lane::Own).await;
    small.destinations[1].lane = Lane::Whole;
    let (second, leased) = w.stored_as(small).await;
    assert_eq!(leased.iter().map(|l| l.key.destination).collect::<Vec<_>>(), many[..1]);
    assert_eq!(w.store.depth().await.unwrap().fanouts, 2);

    let expanded = w.expand(1_000).await;
    assert!(expanded.more);
    let head = expanded.leased.iter().find(|l| l.key.destination == ordered).unwrap();
    assert_eq!((head.key.event, head.ordered), (first, true));
    let expanded = w.expand(1_000).await;
    assert!(!expanded.more && expanded.leased.is_empty());
    assert_eq!(w.deliver(head).await.next_in_lane.unwrap().key.event, second);
}

pub(crate) async fn the_next_waits_for_its_time(mut w: World) {
    let no = w.listener(Order::Fifo).await;
    let (_, leased) = w.publish("a", &[no], Lane::Whole).await;
    let mut later = w.to("b", &[no], Lane::Whole).await;
    later.not_before = Some(w.now + 3_000);
    let (b, _) = w.stored_as(later).await;
    w.publish("c", &[no], Lane::Whole).await;
    let recorded = w.deliver(&leased[0]).await;
    // Whoever let it go knows when to come back.
    assert_eq!((recorded.next_in_lane, recorded.lane_due), (None, Some(w.now + 3_000)));
    assert_eq!(w.due().await, (vec![], Some(w.now + 3_000)));
    w.now += 3_000;
    let claimed = w.claim(no, 9).await;
    assert_eq!(claimed.iter().map(|l| l.key.event).collect::<Vec<_>>(), [b]);
}
