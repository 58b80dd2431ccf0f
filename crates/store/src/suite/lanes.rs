//! Order: of a lane, only the oldest open delivery is attempted.

use tidings_model::listener::Order;

use super::{GATHERS, World, finished};
use crate::log::{Lane, MAX_DIRECT};
use crate::queue::{Finished, Leased, Next, Recorded};

// covers: C08
pub(crate) async fn a_whole_lane_goes_one_by_one(mut w: World) {
    let no = w.listener(Order::Fifo).await;
    let (a, leased) = w.publish("a", &[no], Lane::Whole).await;
    let (b, none) = w.publish("b", &[no], Lane::Whole).await;
    let (c, _) = w.publish("c", &[no], Lane::Whole).await;
    assert_eq!((leased.len(), none.len()), (1, 0));
    assert!(w.claim(no, 9).await.is_empty());
    let recorded = w.deliver(&leased[0]).await;
    let next = recorded.next_in_lane[0].clone();
    assert_eq!((next.key.event, next.ordered), (b, true));
    assert!(w.claim(no, 9).await.is_empty());
    // An end that is no success lets the next go all the same.
    let recorded = w.finish(vec![finished(&next, Next::Undelivered)]).await.remove(0);
    let next = recorded.next_in_lane[0].clone();
    assert_eq!(next.key.event, c);
    assert_eq!(w.deliver(&next).await.next_in_lane, []);
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
    assert_eq!(w.deliver(&ann[0]).await.next_in_lane, []);
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
    assert_eq!(recorded.next_in_lane, []);
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
    assert_eq!(w.deliver(head).await.next_in_lane[0].clone().key.event, second);
}

pub(crate) async fn the_next_waits_for_its_time(mut w: World) {
    let no = w.listener(Order::Fifo).await;
    let (_, leased) = w.publish("a", &[no], Lane::Whole).await;
    let mut later = w.to("b", &[no], Lane::Whole).await;
    later.not_before = Some(w.now + 3_000);
    let (b, _) = w.stored_as(later).await;
    w.publish("c", &[no], Lane::Whole).await;
    let recorded = w.deliver(&leased[0]).await;
    // The answer says when the lane is due.
    assert_eq!((recorded.next_in_lane, recorded.lane_due), (vec![], Some(w.now + 3_000)));
    assert_eq!(w.due().await, (vec![], Some(w.now + 3_000)));
    w.now += 3_000;
    let claimed = w.claim(no, 9).await;
    assert_eq!(claimed.iter().map(|l| l.key.event).collect::<Vec<_>>(), [b]);
}

/// Finishes deliveries of one request in one batch, with a batch size of four.
async fn end(w: &World, group: &[Leased], next: Next) -> Recorded {
    let batch = group.iter().map(|leased| Finished { batch: 4, ..finished(leased, next) }).collect();
    let mut recorded = w.finish(batch).await;
    let last = recorded.pop().unwrap();
    assert!(recorded.iter().all(|one| !one.stale && one.next_in_lane.is_empty() && one.lane_due.is_none()));
    last
}

fn events(group: &[Leased]) -> Vec<(i64, u32, bool)> {
    group.iter().map(|leased| (leased.key.event.0, leased.attempts, leased.follows)).collect()
}

// covers: G271
pub(crate) async fn consecutive_ones_go_together(mut w: World) {
    let no = w.listener(Order::Fifo).await;
    let mut all = Vec::new();
    let (first, head) = w.publish("e0", &[no], Lane::Whole).await;
    for i in 1..=9 {
        all.push(w.publish(&format!("e{i}"), &[no], Lane::Whole).await.0.0);
    }
    // The first went alone; the next four together, and nobody gets any of the others.
    let recorded = end(&w, &head, Next::Delivered).await;
    let group = recorded.next_in_lane;
    let expected: Vec<_> = all[..4].iter().enumerate().map(|(i, no)| (*no, 0, i > 0)).collect();
    assert_eq!(events(&group), expected);
    assert!(group.iter().all(|leased| leased.ordered && !leased.in_batch && leased.key.event > first));
    assert!(w.claim_together(no, 9, 4).await.is_empty());
    // The lane goes on as a whole, however it ended.
    let group = end(&w, &group, Next::Undelivered).await.next_in_lane;
    assert_eq!(events(&group).iter().map(|(no, ..)| *no).collect::<Vec<_>>(), all[4..8]);
    let recorded = end(&w, &group, Next::Delivered).await;
    // One is left, which waits a moment for more.
    assert_eq!((recorded.next_in_lane, recorded.lane_due), (vec![], Some(w.now + GATHERS)));
    w.now += GATHERS;
    assert_eq!(events(&w.claim_together(no, 9, 4).await), [(all[8], 0, false)]);
}

// covers: G271
pub(crate) async fn what_went_together_comes_back_together(mut w: World) {
    let no = w.listener(Order::Fifo).await;
    let (first, head) = w.publish("e0", &[no], Lane::Whole).await;
    let mut all = vec![first.0];
    for i in 1..=5 {
        all.push(w.publish(&format!("e{i}"), &[no], Lane::Whole).await.0.0);
    }
    end(&w, &head, Next::Retry(w.now + 5_000)).await;
    w.now += 5_000;
    let expected = |attempts: [u32; 4]| -> Vec<_> { (0..4).map(|i| (all[i], attempts[i], i > 0)).collect() };
    let group = w.claim_together(no, 9, 4).await;
    assert_eq!(events(&group), expected([1, 0, 0, 0]));
    // All of them failed, each at its own time if it were alone: none goes before the oldest does.
    let fails = |(i, leased)| Finished { batch: 4, ..finished(leased, Next::Retry(w.now + 9_000 - 1_000 * i as i64)) };
    let recorded = w.finish(group.iter().enumerate().map(fails).collect()).await;
    assert!(recorded.iter().all(|one| !one.stale && one.next_in_lane.is_empty()));
    assert_eq!(w.due().await, (vec![], Some(w.now + 9_000)));
    w.now += 9_000;
    // Fewer may be asked for.
    let group = w.claim_together(no, 2, 4).await;
    assert_eq!(events(&group), expected([2, 1, 1, 0])[..2]);
    w.store.release(group, w.now).await.unwrap();
    let group = w.claim_together(no, 9, 4).await;
    assert_eq!(events(&group), expected([2, 1, 1, 1]));
    // Whoever held them is gone.
    w.now += super::LEASED_FOR + 1;
    assert_eq!(w.store.sweep(w.now).await.unwrap(), 4);
    assert_eq!(events(&w.claim(no, 9).await), expected([2, 1, 1, 1])[..1]);
    assert!(w.claim(no, 9).await.is_empty());
    assert_eq!(w.reopen().await, 1);
    let group = w.claim_together(no, 9, 4).await;
    assert_eq!(events(&group), expected([2, 1, 1, 1]));
    assert_eq!(w.reopen().await, 4);
    let group = w.claim_together(no, 9, 9).await;
    assert_eq!(events(&group).iter().map(|(no, ..)| *no).collect::<Vec<_>>(), all);
}

// covers: G271
pub(crate) async fn a_few_wait_for_more(mut w: World) {
    let no = w.listener(Order::Key).await;
    let (_, joe) = w.publish_keyed("a", no, "joe").await;
    let (_, ann) = w.publish_keyed("b", no, "ann").await;
    let (second, _) = w.publish_keyed("c", no, "joe").await;
    let recorded = end(&w, &joe, Next::Delivered).await;
    assert_eq!((recorded.next_in_lane, recorded.lane_due), (vec![], Some(w.now + GATHERS)));
    // Another key's are none of its lane.
    w.publish_keyed("d", no, "ann").await;
    let (third, _) = w.publish_keyed("e", no, "joe").await;
    assert!(w.claim_together(no, 9, 4).await.is_empty());
    w.now += GATHERS;
    let group = w.claim_together(no, 9, 4).await;
    assert_eq!(events(&group), [(second.0, 0, false), (third.0, 0, true)]);
    // What is not to go yet, and what comes after it, does not go along.
    let mut later = w.to("f", &[no], Lane::Key).await;
    later.event.key = Some("joe".to_owned());
    later.not_before = Some(w.now + 3_000);
    w.stored_as(later).await;
    w.publish_keyed("g", no, "joe").await;
    let recorded = end(&w, &group, Next::Delivered).await;
    assert_eq!((recorded.next_in_lane, recorded.lane_due), (vec![], Some(w.now + 3_000)));
    assert_eq!(end(&w, &ann, Next::Delivered).await.lane_due, Some(w.now + GATHERS));
}
