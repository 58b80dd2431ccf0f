//! Attempts that fail: the schedule, `Retry-After`, 410, and long failure.

use std::time::Duration;

use tidings_courier::{Notice, Settings};
use tidings_model::delivery::DeliveryState;
use tidings_model::id::{AppId, DeliveryKey};
use tidings_model::listener::Order;
use tidings_model::schedule::Schedule;
use tidings_store::queue::AttemptRange;

use crate::bench::{Answer, Bench, Party, settings};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_delivery_that_is_taken_has_one_attempt() {
    let mut bench = Bench::start().await;
    let to = bench.party("/a", Order::None, |_| {}).await;
    let (id, no) = bench.publish(&[to], None).await;
    let row = bench.until_state(no, to, DeliveryState::Delivered).await;
    assert_eq!((row.attempts, row.event_id), (1, id.clone()));
    assert_eq!(bench.receiver.got("/a"), [id]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lease_that_is_shorter_than_the_timeout_shortens_the_attempt() {
    let mut bench = Bench::with(Settings { lease: Duration::from_secs(1), ..settings() }).await;
    bench.receiver.answer("/slow", Answer::Hang);
    let long = |p: &mut Party| p.timeout = Duration::from_secs(15);
    let (quick, slow) = (bench.party("/quick", Order::None, long).await, bench.party("/slow", Order::None, long).await);
    let (_, no) = bench.publish(&[quick, slow], None).await;
    bench.until_state(no, quick, DeliveryState::Delivered).await;
    bench.until_state(no, slow, DeliveryState::Undelivered).await;
    let key = DeliveryKey { app: AppId::from("1"), event: no, destination: slow };
    for attempt in bench.store.attempts(&key, AttemptRange::first(100)).await.unwrap().rows {
        assert_eq!(attempt.outcome, "timeout");
    }
}

// covers: B1, B2, P01
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failing_delivery_follows_its_schedule_and_ends_undelivered() {
    let mut bench = Bench::start().await;
    bench.receiver.answer("/a", Answer::Status(500, "x-why: because\r\n"));
    let to = bench.party("/a", Order::None, |_| {}).await;
    let once = bench.party("/a?once", Order::None, |p| p.schedule = Schedule::parse(&["0s"]).unwrap()).await;
    bench.receiver.answer("/a?once", Answer::Status(500, ""));
    let (_, no) = bench.publish(&[to, once], None).await;
    let row = bench.until_state(no, to, DeliveryState::Undelivered).await;
    assert_eq!((row.attempts, row.last_error.as_deref()), (3, Some("answered 500")));
    let row = bench.until_state(no, once, DeliveryState::Undelivered).await;
    assert_eq!(row.attempts, 1, "a schedule of one entry means no retries");
    let key = DeliveryKey { app: AppId::from("1"), event: no, destination: to };
    let attempts = bench.store.attempts(&key, AttemptRange::first(100)).await.unwrap().rows;
    assert_eq!(
        attempts.iter().map(|a| (a.n, a.status, a.next_at.is_some())).collect::<Vec<_>>(),
        [(1, Some(500), true), (2, Some(500), true), (3, Some(500), false)]
    );
    assert!(attempts[0].response_headers.as_deref().unwrap().contains(r#""x-why":"because""#));

    bench.receiver.answer("/a", Answer::Status(200, ""));
    bench.store.retry(&key, 0).await.unwrap();
    bench.courier.wake_scheduler();
    let row = bench.until_state(no, to, DeliveryState::Delivered).await;
    assert_eq!(row.attempts, 4, "a retry by hand goes on counting");
}

// covers: R11
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn retry_after_is_honoured_within_its_cap_and_never_shortens_the_schedule() {
    let mut bench = Bench::with(Settings { retry_after_max: Duration::from_secs(60), ..settings() }).await;
    bench.receiver.answer("/long", Answer::Status(503, "retry-after: 1000000000\r\n"));
    bench.receiver.answer("/short", Answer::Status(503, "retry-after: 0\r\n"));
    let long = bench.party("/long", Order::None, |_| {}).await;
    let short = bench.party("/short", Order::None, |p| p.schedule = Schedule::parse(&["0s", "1h"]).unwrap()).await;
    let (_, no) = bench.publish(&[long, short], None).await;
    let wait = |no, to| {
        let bench = &bench;
        async move {
            let key = DeliveryKey { app: AppId::from("1"), event: no, destination: to };
            for _ in 0..1_000 {
                if let Some(first) = bench.store.attempts(&key, AttemptRange::first(100)).await.unwrap().rows.first() {
                    return Duration::from_millis((first.next_at.unwrap() - first.started_at) as u64);
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            panic!("no attempt");
        }
    };
    let delay = wait(no, long).await;
    assert!(delay >= Duration::from_secs(59) && delay < Duration::from_secs(65), "{delay:?}");
    let delay = wait(no, short).await;
    assert!(delay >= Duration::from_secs(2_800), "{delay:?}");
}

// covers: R12, C06
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn gone_disables_the_destination_and_tells() {
    let mut bench = Bench::start().await;
    bench.receiver.answer("/a", Answer::Status(410, ""));
    let to = bench.party("/a", Order::None, |_| {}).await;
    let (_, no) = bench.publish(&[to], None).await;
    bench.until_state(no, to, DeliveryState::Undelivered).await;
    assert_eq!(
        tokio::time::timeout(Duration::from_secs(10), bench.notices.recv()).await.unwrap(),
        Some(Notice::Disabled)
    );
    let changes = bench.store.changes(0).await.unwrap();
    assert_eq!(changes.listeners[0].0.disabled.as_ref().unwrap().reason, "gone");
    assert_eq!(bench.store.unannounced().await.unwrap().len(), 1);
}

// covers: C10
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_but_failure_for_long_disables_also_over_a_restart() {
    let mut bench = Bench::start().await;
    bench.receiver.answer("/a", Answer::Status(500, ""));
    let to = bench.party("/a", Order::None, |p| p.schedule = Schedule::parse(&["0s"]).unwrap()).await;
    let (_, first) = bench.publish(&[to], None).await;
    bench.until_state(first, to, DeliveryState::Undelivered).await;
    assert!(bench.store.changes(0).await.unwrap().listeners[0].0.enabled());
    let mut bench = bench.restart(Settings { disable_after: Duration::ZERO, ..settings() }).await;
    let (_, second) = bench.publish(&[to], None).await;
    bench.until_state(second, to, DeliveryState::Undelivered).await;
    assert_eq!(bench.store.changes(0).await.unwrap().listeners[0].0.disabled.as_ref().unwrap().reason, "failing");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_success_ends_a_failure() {
    let mut bench = Bench::start().await;
    bench.receiver.answer("/a", Answer::Status(500, ""));
    let to = bench.party("/a", Order::None, |_| {}).await;
    let (_, no) = bench.publish(&[to], None).await;
    bench.until_got("/a", 1).await;
    bench.receiver.answer("/a", Answer::Status(200, ""));
    bench.until_state(no, to, DeliveryState::Delivered).await;
    assert_eq!(bench.store.failing().await.unwrap(), []);
}

// covers: G131
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_closes_after_each_answer_fails_no_attempt() {
    let mut bench = Bench::start().await;
    bench.receiver.answer("/a", Answer::Once);
    let to = bench.party("/a", Order::Fifo, |p| p.schedule = Schedule::parse(&["0s", "1h"]).unwrap()).await;
    let mut events = Vec::new();
    for _ in 0..50 {
        events.push(bench.publish(&[to], None).await);
    }
    for (_, event) in &events {
        assert_eq!(bench.until_state(*event, to, DeliveryState::Delivered).await.attempts, 1);
    }
    // The one that met a closed connection came twice; after that the host is given fresh ones.
    let got = bench.receiver.got("/a");
    assert!((51..=54).contains(&got.len()), "{} requests", got.len());
    let mut ids = got;
    ids.dedup();
    assert_eq!(ids, events.into_iter().map(|(id, _)| id).collect::<Vec<_>>());
}
