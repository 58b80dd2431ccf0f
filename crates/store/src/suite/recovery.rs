//! Restarts, and clocks that were set back or forward.

use tidings_model::delivery::DeliveryState;
use tidings_model::listener::Order;

use super::{World, finished};
use crate::log::{Lane, MAX_DIRECT};
use crate::queue::{Expanded, Next};

const HOUR: i64 = 3_600_000;

pub(crate) async fn leases_of_an_earlier_life_are_void(mut w: World) {
    let all = w.listeners(2, Order::None).await;
    let (_, leased) = w.publish("a", &all, Lane::Own).await;
    assert_eq!(w.reopen().await, 2);
    assert_eq!(w.due().await.0, all);
    assert!(w.deliver(&leased[0]).await.stale);
    let again = w.claim(all[0], 9).await;
    assert_eq!((again.len(), again[0].attempts), (1, 0));
    assert!(!w.deliver(&again[0]).await.stale);
    assert_eq!(w.reopen().await, 0);
}

// covers: C03
pub(crate) async fn a_clock_set_back_moves_what_is_due_once(mut w: World) {
    let no = w.listener(Order::None).await;
    let (_, leased) = w.publish("a", &[no], Lane::Own).await;
    let mut later = w.to("b", &[no], Lane::Own).await;
    later.not_before = Some(w.now + 5_000);
    w.stored_as(later).await;
    let many = w.listeners(MAX_DIRECT + 1, Order::None).await;
    let mut large = w.to("c", &many, Lane::Own).await;
    large.not_before = Some(w.now + 7_000);
    w.stored_as(large).await;
    w.finish(vec![finished(&leased[0], Next::Retry(w.now + 60_000))]).await;

    w.now -= HOUR;
    w.reopen().await;
    assert_eq!(w.due().await.1, Some(w.now + 5_000));
    let dues: Vec<_> = w.all().await.iter().filter_map(|row| row.due).collect();
    assert_eq!(dues, [w.now + 5_000, w.now + 60_000]);
    w.expand(0).await;
    assert_eq!(w.all().await[0].due, Some(w.now + 7_000));
    // Event numbers still stand an hour ahead: that must not move anything again.
    w.reopen().await;
    assert_eq!(w.due().await.1, Some(w.now + 5_000));
    w.publish("d", &[], Lane::Own).await;
    w.now += 1_000;
    w.reopen().await;
    assert_eq!(w.due().await.1, Some(w.now + 4_000));
    // Set back a second time: moved a second time.
    w.now -= HOUR;
    w.reopen().await;
    assert_eq!(w.due().await.1, Some(w.now + 4_000));
    // Set forth: things come early, and nothing is lost.
    w.now += 5 * HOUR;
    w.reopen().await;
    assert_eq!(w.due().await.0.len(), 66);
}

// covers: C07
pub(crate) async fn ten_thousand_survive_a_restart(mut w: World) {
    let all = w.listeners(100, Order::None).await;
    for i in 0..100 {
        w.publish(&format!("e{i}"), &all, Lane::Own).await;
    }
    while w.expand(0).await.more {}
    assert_eq!(w.store.depth().await.unwrap().deliveries, 10_000);
    w.reopen().await;
    let mut claimed = std::collections::HashSet::new();
    for no in &all {
        for leased in w.claim(*no, 1_000).await {
            assert!(claimed.insert(leased.key));
        }
    }
    assert_eq!(claimed.len(), 10_000);
}

pub(crate) async fn fanout_goes_on_after_a_restart(mut w: World) {
    let all = w.listeners(1_203, Order::None).await;
    let (event, _) = w.publish("a", &all, Lane::Own).await;
    let mut slices = Vec::new();
    loop {
        let Expanded { written, more, .. } = w.expand(3).await;
        slices.push(written);
        w.reopen().await;
        if !more {
            break;
        }
    }
    assert!(slices.len() > 2 && slices.iter().sum::<usize>() == all.len(), "{slices:?}");
    let mut found: Vec<_> = w.all().await.iter().map(|row| (row.key.event, row.key.destination)).collect();
    found.sort();
    assert_eq!(found, all.iter().map(|no| (event, *no)).collect::<Vec<_>>());
    assert_eq!(w.due().await.0.len(), 100);
    assert_eq!(w.store.depth().await.unwrap().fanouts, 0);
}

// covers: C10
pub(crate) async fn states_survive_a_restart(mut w: World) {
    let all = w.listeners(4, Order::None).await;
    let (_, leased) = w.publish("a", &all, Lane::Own).await;
    w.finish(vec![
        finished(&leased[0], Next::Delivered),
        finished(&leased[1], Next::Undelivered),
        finished(&leased[2], Next::Canceled),
        finished(&leased[3], Next::Retry(w.now + 1)),
    ])
    .await;
    let (before, failing) = (w.all().await, w.store.failing().await.unwrap());
    assert_eq!(failing.len(), 2);
    w.reopen().await;
    assert_eq!((w.all().await, w.store.failing().await.unwrap()), (before.clone(), failing));
    let states: Vec<_> = before.iter().rev().map(|row| row.state).collect();
    let (delivered, undelivered) = (DeliveryState::Delivered, DeliveryState::Undelivered);
    assert_eq!(states, [delivered, undelivered, DeliveryState::Canceled, DeliveryState::Pending]);
}
