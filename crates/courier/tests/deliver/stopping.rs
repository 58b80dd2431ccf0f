//! Stopping, starting again, and destinations that go away.

use std::time::Duration;

use tidings_courier::DestinationPolicy;
use tidings_model::delivery::DeliveryState;
use tidings_model::id::AppId;
use tidings_model::listener::Order;

use crate::bench::{Answer, Bench, OPEN, settings};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_graceful_stop_finishes_what_is_under_way_and_keeps_the_rest() {
    let mut bench = Bench::start().await;
    let to = bench
        .party("/a", Order::None, |p| {
            p.policy = DestinationPolicy::Open { concurrency: Some(2), rate: None, host: None }
        })
        .await;
    for _ in 0..500 {
        bench.publish(&[to], None).await;
    }
    bench.courier.stop(Duration::from_secs(5)).await;
    let sent = bench.receiver.got("/a").len();
    let open = bench.store.depth().await.unwrap().deliveries as usize;
    assert_eq!(sent + open, 500, "each was either sent and recorded, or is still owed");
    let bench = bench.restart(settings()).await;
    bench.until_got("/a", 500).await;
    assert_eq!(bench.receiver.got("/a").len(), 500, "nothing was repeated");
}

// covers: C02, C04
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_leased_when_we_died_is_attempted_again_with_the_same_id() {
    let mut bench = Bench::start().await;
    bench.receiver.answer("/a", Answer::Hang);
    let to = bench.party("/a", Order::None, |_| {}).await;
    let (id, no) = bench.publish(&[to], None).await;
    bench.until_got("/a", 1).await;
    bench.receiver.answer("/a", Answer::Status(200, ""));
    let bench = bench.restart(settings()).await;
    bench.until_state(no, to, DeliveryState::Delivered).await;
    assert_eq!(bench.receiver.got("/a"), [id.clone(), id]);
}

// covers: N06
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_another_node_has_left_is_found_without_being_told() {
    let mut bench = Bench::start().await;
    let mut to = Vec::new();
    for n in 0..100 {
        to.push(bench.party(&format!("/{n}"), Order::None, |_| {}).await);
    }
    bench.publish(&to[..1], None).await;
    bench.until_got("/0", 1).await;
    // The second one is to more than are written at once.
    let (few, many) = (bench.publish_elsewhere(&to[..1]).await, bench.publish_elsewhere(&to).await);
    assert_eq!(bench.until_got("/99", 1).await, std::slice::from_ref(&many));
    let mut got = bench.until_got("/0", 3).await.split_off(1);
    got.sort();
    assert_eq!(got, [few, many]);
}

// covers: C06
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_disabled_destination_keeps_what_it_is_owed_and_gets_it_when_enabled() {
    let mut bench = Bench::start().await;
    let to = bench.party("/a", Order::None, |_| {}).await;
    bench.outlet.0.lock().get_mut(&to).unwrap().policy = DestinationPolicy::Disabled;
    let (_, no) = bench.publish(&[to], None).await;
    // Taken up when it was published, and given back unattempted.
    bench.until_given_back(no, to).await;
    assert!(bench.receiver.got("/a").is_empty());
    bench.outlet.0.lock().get_mut(&to).unwrap().policy = OPEN;
    bench.courier.wake_scheduler();
    bench.until_state(no, to, DeliveryState::Delivered).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deleted_destination_is_owed_nothing_more() {
    let mut bench = Bench::start().await;
    bench.receiver.answer("/a", Answer::Status(500, ""));
    let to = bench
        .party("/a", Order::None, |p| p.schedule = tidings_model::schedule::Schedule::parse(&["0s", "1h"]).unwrap())
        .await;
    let (_, no) = bench.publish(&[to], None).await;
    bench.until_got("/a", 1).await;
    bench.store.delete_listener(&AppId::from("1"), "/a", 0).await.unwrap();
    bench.outlet.0.lock().remove(&to);
    bench.courier.cancel_orphans();
    bench.until_state(no, to, DeliveryState::Canceled).await;
}
