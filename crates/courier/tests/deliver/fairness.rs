//! Fairness: a failing or slow destination does not delay others. Windows, rates, permits.

use std::time::Duration;

use tidings_courier::{DestinationPolicy, Host, Settings};
use tidings_model::delivery::DeliveryState;
use tidings_model::listener::Order;

use crate::bench::{Answer, Bench, OPEN, settings};

// covers: R15
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn destinations_that_hang_delay_nobody_else() {
    let mut bench = Bench::with(Settings { max_in_flight: 8, ..settings() }).await;
    let mut all = Vec::new();
    for i in 0..20 {
        let path = format!("/hang{i}");
        bench.receiver.answer(&path, Answer::Hang);
        all.push(bench.party(&path, Order::None, |_| {}).await);
    }
    let sound = bench.party("/sound", Order::None, |_| {}).await;
    all.push(sound);
    let mut events = Vec::new();
    for _ in 0..30 {
        events.push(bench.publish(&all, None).await.1);
    }
    for event in &events {
        bench.until_state(*event, sound, DeliveryState::Delivered).await;
    }
    // The hanging ones are not done: twenty destinations, thirty events each, half a second an attempt, four at a time.
    let (under_way, _) = bench.courier.load();
    assert!(under_way > 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_destination_never_has_more_under_way_than_it_allows() {
    let mut bench = Bench::start().await;
    let to = bench
        .party("/a", Order::None, |p| {
            p.policy = DestinationPolicy::Open { concurrency: Some(3), rate: None, host: None }
        })
        .await;
    for _ in 0..300 {
        bench.publish(&[to], None).await;
    }
    bench.until_got("/a", 300).await;
    let most = bench.receiver.most_at_once("/a");
    assert!((1..=3).contains(&most), "{most}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_waits_shares_requests_and_is_accounted_for_one_by_one() {
    let mut bench = Bench::start().await;
    let to = bench
        .party("/a", Order::Key, |p| {
            p.policy = DestinationPolicy::Open { concurrency: Some(1), rate: None, host: None };
            p.batch = 5;
            p.schedule = tidings_model::schedule::Schedule::parse(&["0s", "50ms"]).unwrap();
        })
        .await;
    // While this one hangs, the others come together.
    bench.receiver.answer("/a", Answer::Hang);
    let mut events = vec![bench.publish(&[to], Some("first")).await];
    bench.until_got("/a", 1).await;
    bench.receiver.answer("/a", Answer::Status(200, ""));
    for n in 0..40 {
        // Of each key there are two, and the second goes after the first.
        events.push(bench.publish(&[to], Some(&format!("k{}", n / 2))).await);
    }
    for (_, event) in &events[1..] {
        bench.until_state(*event, to, DeliveryState::Delivered).await;
    }
    let requests = bench.receiver.got("/a");
    let carried: Vec<Vec<&str>> = requests.iter().map(|ids| ids.split(',').collect()).collect();
    assert!(carried.iter().all(|ids| (1..=5).contains(&ids.len())), "{carried:?}");
    assert!(carried.iter().any(|ids| ids.len() > 1), "{carried:?}");
    // In one request they may come together, and then in their order.
    let flat: Vec<&str> = carried.concat();
    let at = |id: &str| flat.iter().rposition(|other| *other == id).unwrap();
    for pair in events[1..].chunks(2) {
        assert!(at(&pair[0].0) < at(&pair[1].0), "{pair:?} in {carried:?}");
    }
}

// covers: G271, H08
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lane_goes_on_as_a_whole() {
    let mut bench = Bench::start().await;
    let to = bench
        .party("/a", Order::Fifo, |p| {
            (p.batch, p.policy) = (100, DestinationPolicy::Disabled);
            let again = ["0s", "300ms", "300ms", "300ms", "300ms", "300ms", "300ms", "300ms"];
            p.schedule = tidings_model::schedule::Schedule::parse(&again).unwrap();
        })
        .await;
    let mut events = Vec::new();
    for _ in 0..300 {
        events.push(bench.publish(&[to], None).await);
    }
    bench.receiver.answer("/a", Answer::Status(500, ""));
    bench.outlet.0.lock().get_mut(&to).unwrap().policy = OPEN;
    bench.courier.wake_scheduler();
    bench.until_got("/a", 1).await;
    bench.receiver.answer("/a", Answer::Status(200, ""));
    for (_, event) in &events {
        bench.until_state(*event, to, DeliveryState::Delivered).await;
    }
    // What failed comes again as it was.
    let mut requests = bench.receiver.got("/a");
    requests.dedup();
    let carried: Vec<Vec<&str>> = requests.iter().map(|ids| ids.split(',').collect()).collect();
    assert_eq!(carried.iter().map(Vec::len).collect::<Vec<_>>(), [100, 100, 100]);
    assert_eq!(carried.concat(), events.iter().map(|(id, _)| id.as_str()).collect::<Vec<_>>());
    assert!(bench.delivery(events[99].1, to).await.attempts > 1, "the whole of it failed");
    assert_eq!(bench.delivery(events[100].1, to).await.attempts, 1);
}

// covers: G051
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_app_whose_new_listeners_hang_delays_no_other_app() {
    let mut bench = Bench::with(Settings { max_in_flight: 16, ..settings() }).await;
    let mut hanging = Vec::new();
    for i in 0..60 {
        let path = format!("/hang{i}");
        bench.receiver.answer(&path, Answer::Hang);
        hanging.push(bench.party(&path, Order::None, |p| p.timeout = Duration::from_secs(20)).await);
    }
    let first = bench.publish(&hanging, None).await.1;
    // As many as they get: a quarter.
    for _ in 0..2_000 {
        if bench.courier.load().0 == 4 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(bench.courier.load().0, 4);
    bench.app = tidings_model::id::AppId::from("2");
    let sound = bench.party("/sound", Order::None, |_| {}).await;
    let event = bench.publish(&[sound], None).await.1;
    bench.until_state(event, sound, DeliveryState::Delivered).await;
    // All the while the others hung, and most of them wait for their turn.
    bench.app = tidings_model::id::AppId::from("1");
    for destination in hanging {
        assert_eq!(bench.delivery(first, destination).await.attempts, 0);
    }
}

// covers: G054
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_app_that_fills_the_memory_leaves_room_for_others() {
    const QUEUE: usize = 64 << 10;
    let mut bench = Bench::with(Settings { queue_bytes: QUEUE, ..settings() }).await;
    let mut hanging = Vec::new();
    for i in 0..40 {
        let path = format!("/hang{i}");
        bench.receiver.answer(&path, Answer::Hang);
        hanging.push(bench.party(&path, Order::None, |p| p.timeout = Duration::from_secs(20)).await);
    }
    // Ten times of what fits, from which three quarters may be its own.
    for _ in 0..40 {
        bench.publish(&hanging, None).await;
    }
    assert!((QUEUE / 2..QUEUE).contains(&bench.courier.load().1), "{:?}", bench.courier.load());
    bench.app = tidings_model::id::AppId::from("2");
    let sound = bench.party("/sound", Order::None, |_| {}).await;
    for _ in 0..20 {
        let event = bench.publish(&[sound], None).await.1;
        bench.until_state(event, sound, DeliveryState::Delivered).await;
    }
    // So does what has to be fetched from the store, behind all that the other app has there.
    let event = bench.publish_elsewhere(&[sound]).await;
    assert_eq!(bench.until_got("/sound", 21).await.last(), Some(&event));
}

// covers: G053
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_hangs_does_not_keep_others_from_its_host() {
    let mut bench = Bench::with(Settings { per_host: 2, ..settings() }).await;
    let url = format!("http://{}/", bench.receiver.addr).parse().unwrap();
    let policy = DestinationPolicy::Open { concurrency: None, rate: None, host: Some(Host::of(&url)) };
    let mut all = Vec::new();
    for i in 0..6 {
        let path = format!("/hang{i}");
        bench.receiver.answer(&path, Answer::Hang);
        all.push(bench.party(&path, Order::None, |p| (p.policy, p.timeout) = (policy, Duration::from_secs(20))).await);
    }
    let sound = bench.party("/sound", Order::None, |p| p.policy = policy).await;
    all.push(sound);
    let event = bench.publish(&all, None).await.1;
    bench.until_state(event, sound, DeliveryState::Delivered).await;
    assert_eq!(bench.delivery(event, all[0]).await.attempts, 0, "it still hangs");
}

// covers: R16
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rate_is_kept_to() {
    let mut bench = Bench::start().await;
    let to = bench
        .party("/a", Order::None, |p| {
            p.policy = DestinationPolicy::Open { concurrency: None, rate: Some(20), host: None }
        })
        .await;
    let started = tokio::time::Instant::now();
    for _ in 0..60 {
        bench.publish(&[to], None).await;
    }
    bench.until_got("/a", 60).await;
    // Twenty at once from the full bucket, then twenty a second.
    assert!(started.elapsed() >= Duration::from_millis(1_900), "{:?}", started.elapsed());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_destination_that_asks_for_less_is_left_alone_for_a_while() {
    let mut bench = Bench::start().await;
    bench.receiver.answer("/a", Answer::Status(429, "retry-after: 2\r\n"));
    let to = bench
        .party("/a", Order::None, |p| {
            p.policy = DestinationPolicy::Open { concurrency: Some(1), rate: None, host: None }
        })
        .await;
    bench.publish(&[to], None).await;
    bench.until_got("/a", 1).await;
    let started = tokio::time::Instant::now();
    bench.receiver.answer("/a", Answer::Status(200, ""));
    for _ in 0..10 {
        bench.publish(&[to], None).await;
    }
    bench.until_got("/a", 12).await;
    assert!(
        started.elapsed() >= Duration::from_millis(1_500),
        "all of its deliveries wait, not just the one: {:?}",
        started.elapsed()
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_does_not_fit_in_memory_waits_in_the_store() {
    let mut bench = Bench::with(Settings { queue_bytes: 20_000, ..settings() }).await;
    let to = bench.party("/a", Order::None, |_| {}).await;
    for _ in 0..2_000 {
        bench.publish(&[to], None).await;
        let (_, held) = bench.courier.load();
        assert!(held < 100_000, "{held}");
    }
    bench.until_got("/a", 2_000).await;
}
