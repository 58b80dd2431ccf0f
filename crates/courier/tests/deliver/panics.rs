//! An attempt that panics fails its own delivery, and no other.

use std::time::Duration;

use tidings_courier::DestinationPolicy;
use tidings_model::delivery::DeliveryState;
use tidings_model::id::{AppId, DeliveryKey, DestinationNo, EventNo};
use tidings_model::listener::Order;
use tidings_store::queue::AttemptRange;

use crate::bench::{Bench, OPEN};

/// The outcomes of a delivery's attempts, and whether a retry was scheduled after each.
async fn outcomes(bench: &Bench, event: EventNo, destination: DestinationNo) -> Vec<(String, bool)> {
    let key = DeliveryKey { app: AppId::from("1"), event, destination };
    let attempts = bench.store.attempts(&key, AttemptRange::first(100)).await.unwrap().rows;
    attempts.into_iter().map(|attempt| (attempt.outcome, attempt.next_at.is_some())).collect()
}

fn panicked_twice() -> [(String, bool); 2] {
    [("internal".to_owned(), true), ("internal".to_owned(), false)]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_delivery_that_panics_ends_after_two_attempts_and_the_others_arrive() {
    let mut bench = Bench::start().await;
    let to = bench.party("/a", Order::None, |p| p.panics_at = Some("e000002".to_owned())).await;
    let mut events = Vec::new();
    for _ in 0..3 {
        events.push(bench.publish(&[to], None).await.1);
    }
    for event in [events[0], events[2]] {
        assert_eq!(bench.until_state(event, to, DeliveryState::Delivered).await.attempts, 1);
    }
    let row = bench.until_state(events[1], to, DeliveryState::Undelivered).await;
    assert!(row.last_error.as_deref().unwrap().contains("the outlet was told to panic"), "{row:?}");
    assert_eq!(outcomes(&bench, events[1], to).await, panicked_twice());
    assert!(bench.metrics().contains("panics_total{unit=\"attempt\"} 2\n"), "{}", bench.metrics());
    let mut got = bench.receiver.got("/a");
    got.sort();
    assert_eq!(got, ["e000001", "e000003"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_a_batch_only_the_delivery_that_panics_fails_and_the_lane_keeps_its_order() {
    let mut bench = Bench::start().await;
    let closed = |p: &mut crate::bench::Party| {
        (p.batch, p.policy, p.panics_at) = (10, DestinationPolicy::Disabled, Some("e000003".to_owned()));
    };
    let to = bench.party("/fifo", Order::Fifo, closed).await;
    let mut events = Vec::new();
    for _ in 0..5 {
        events.push(bench.publish(&[to], None).await.1);
    }
    // All of them go together in one request, which panics.
    bench.outlet.0.lock().get_mut(&to).unwrap().policy = OPEN;
    bench.courier.wake_scheduler();
    for event in &events[..2] {
        assert_eq!(bench.until_state(*event, to, DeliveryState::Delivered).await.attempts, 1);
    }
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert_eq!(bench.receiver.got("/fifo"), ["e000001", "e000002"], "none overtakes the one that waits");
    bench.until_state(events[2], to, DeliveryState::Undelivered).await;
    assert_eq!(outcomes(&bench, events[2], to).await, panicked_twice());
    for event in &events[3..] {
        assert_eq!(bench.until_state(*event, to, DeliveryState::Delivered).await.attempts, 1);
    }
    assert_eq!(bench.receiver.got("/fifo"), ["e000001", "e000002", "e000004", "e000005"], "each by itself");
    assert!(bench.metrics().contains("panics_total{unit=\"attempt\"} 4\n"), "{}", bench.metrics());
}
