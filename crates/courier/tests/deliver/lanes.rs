//! Order: the deliveries of a lane are made one after the other, whatever else fails.

use tidings_model::delivery::DeliveryState;
use tidings_model::listener::Order;

use crate::bench::{Answer, Bench, settings};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fifo_destination_gets_its_events_in_order_one_at_a_time() {
    let mut bench = Bench::start().await;
    let to = bench.party("/fifo", Order::Fifo, |_| {}).await;
    let mut ids = Vec::new();
    for _ in 0..200 {
        ids.push(bench.publish(&[to], None).await.0);
    }
    assert_eq!(bench.until_got("/fifo", 200).await, ids);
    assert_eq!(bench.receiver.most_at_once("/fifo"), 1);
}

// covers: C08
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_blocked_key_blocks_no_other_and_is_never_overtaken() {
    let mut bench = Bench::start().await;
    let to = bench
        .party("/key", Order::Key, |p| {
            p.schedule = tidings_model::schedule::Schedule::parse(&["0s", "100ms", "10m"]).unwrap()
        })
        .await;
    bench.receiver.answer("/key", Answer::Status(500, ""));
    let (a1, _) = bench.publish(&[to], Some("a")).await;
    bench.until_got("/key", 2).await;
    // Key "a" now waits for ten minutes.
    bench.receiver.answer("/key", Answer::Status(200, ""));
    let (_, a2) = bench.publish(&[to], Some("a")).await;
    let (b1, b) = bench.publish(&[to], Some("b")).await;
    bench.until_state(b, to, DeliveryState::Delivered).await;
    let row = bench.delivery(a2, to).await;
    assert_eq!((row.state, row.attempts, row.due), (DeliveryState::Pending, 0, None));
    assert_eq!(bench.receiver.got("/key"), [a1.clone(), a1, b1]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn order_holds_across_fan_out_and_a_restart() {
    let mut bench = Bench::start().await;
    let fifo = bench.party("/fifo", Order::Fifo, |_| {}).await;
    let mut all = vec![fifo];
    for i in 0..100 {
        all.push(bench.party(&format!("/x{i}"), Order::None, |_| {}).await);
    }
    let mut ids = Vec::new();
    for round in 0..20 {
        // Every other event goes to a hundred more, so it becomes a fan-out row.
        let to = if round % 2 == 0 { all.as_slice() } else { &all[..1] };
        ids.push(bench.publish(to, None).await.0);
    }
    let bench = bench.restart(settings()).await;
    bench.until_got("/x99", 10).await;
    // The restart may repeat what was under way, next to its first time and never later.
    let got = bench.until_each_got("/fifo", 20).await;
    assert_eq!(got, ids);
}
