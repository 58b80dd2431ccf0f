//! Rates, concurrency and pauses, as the receiver sees them.

use std::time::Duration;

use serde_json::json;
use tidings_model::clock::{Clock, SystemClock, millis, rfc3339};
use tidings_testkit::{Answer, Receiver};
use tokio::time::Instant;

use crate::kit::{SOON, attempted, hook, listener, nothing_pending, open, publish};

// covers: R16
#[tokio::test]
async fn a_rate_holds_at_the_receiver() {
    const RATE: usize = 20;
    const EVENTS: usize = 70;
    let receiver = Receiver::start();
    let server = open().start().await;
    server.nodes_know_each_other().await;
    let api = server.api();
    hook(&api, "e").await;
    listener(&api, json!({"url": receiver.url("/in"), "hooks": ["e"], "rate": RATE})).await;
    for number in 0..EVENTS {
        publish(&api, "e", json!({"n": number})).await;
    }
    let received = receiver.wait_for(EVENTS, |_| true, SOON).await;
    nothing_pending(&api).await;
    assert_eq!(receiver.total(), EVENTS);
    // One second's worth may come at once, then the rest at the rate. 150 ms are for what arrives late and thus
    // bunched.
    let first = received[0].at;
    for (number, request) in received.iter().enumerate().skip(RATE) {
        let earliest =
            Duration::from_secs_f64((number - RATE) as f64 / RATE as f64).saturating_sub(Duration::from_millis(150));
        let came = request.at - first;
        assert!(came >= earliest, "request {number} came after {came:?}, not before {earliest:?} is allowed");
    }
}

// covers: R16
#[tokio::test]
async fn a_concurrency_holds_at_the_receiver_and_is_used() {
    let receiver = Receiver::start();
    receiver.respond_otherwise(Answer::status(204).delay(Duration::from_millis(60)));
    let server = open().start().await;
    server.nodes_know_each_other().await;
    let api = server.api();
    hook(&api, "e").await;
    listener(&api, json!({"url": receiver.url("/three"), "hooks": ["e"], "concurrency": 3})).await;
    listener(&api, json!({"url": receiver.url("/one"), "hooks": ["e"], "order": "fifo"})).await;
    for number in 0..40 {
        publish(&api, "e", json!({"n": number})).await;
    }
    nothing_pending(&api).await;
    assert_eq!((receiver.received_on("/three").len(), receiver.received_on("/one").len()), (40, 40));
    assert_eq!(receiver.most_at_once("/three"), 3);
    assert_eq!(receiver.most_at_once("/one"), 1, "fifo is one after the other");
    let order: Vec<_> = receiver.received_on("/one").iter().map(|r| r.json()["data"]["n"].as_i64().unwrap()).collect();
    assert_eq!(order, (0..40).collect::<Vec<_>>());
}

// covers: R11
#[tokio::test]
async fn who_asks_for_a_pause_gets_one_and_then_everything() {
    let receiver = Receiver::start();
    receiver.respond_sequence("/in", vec![Answer::status(429).header("retry-after", "2"), Answer::status(204)]);
    let server = open().start().await;
    let api = server.api();
    hook(&api, "e").await;
    let schedule = json!(["0s", "10ms", "10ms"]);
    listener(&api, json!({"url": receiver.url("/in"), "hooks": ["e"], "schedule": schedule})).await;
    let event = publish(&api, "e", json!({"n": 0})).await;
    let (_, made) = attempted(&api, &event, 1).await;
    assert_eq!((&made[0]["outcome"], &made[0]["status"]), (&json!("http_status"), &json!(429)), "{made:?}");
    for number in 1..6 {
        publish(&api, "e", json!({"n": number})).await;
    }
    let received = receiver.wait_for(7, |_| true, SOON).await;
    nothing_pending(&api).await;
    let pause = received[1].at - received[0].at;
    // The receiver stamps a request when it has arrived, the server counts from its answer: some milliseconds may lie
    // between.
    assert!(pause >= Duration::from_millis(1_900), "2 s were asked for; the next request came after {pause:?}");
    assert_eq!(receiver.total(), 7);
}

// covers: R11
#[tokio::test]
async fn what_is_asked_for_never_shortens_the_schedule_and_has_a_cap() {
    let receiver = Receiver::start();
    let server = open().env("TIDINGS__COURIER__RETRY_AFTER_MAX", "2h").start().await;
    let api = server.api();
    let hour = |text: &str| -> i64 {
        let seconds: i64 = tidings_model::clock::parse_rfc3339(text).unwrap();
        seconds / 1_000
    };
    for (number, (asked, least, most)) in [
        ("0", 800, 1_300),
        ("-5", 800, 1_300),
        ("soon", 800, 1_300),
        ("Sun, 06 Nov 1994 08:49:37 GMT", 800, 1_300),
        ("3600", 3_600, 3_700),
        ("1000000000", 7_200, 7_300),
        ("Fri, 31 Dec 9999 23:59:59 GMT", 7_200, 7_300),
    ]
    .into_iter()
    .enumerate()
    {
        let name = format!("e{number}");
        hook(&api, &name).await;
        let path = format!("/{number}");
        receiver.respond(&path, Answer::status(503).header("retry-after", asked));
        listener(&api, json!({"url": receiver.url(&path), "hooks": [name], "schedule": ["0s", "1000s"]})).await;
        let event = publish(&api, &name, json!({})).await;
        let (delivery, made) = attempted(&api, &event, 1).await;
        let text = |field: &str| made[0][field].as_str().unwrap().to_owned();
        let wait = hour(&text("next_attempt_at")) - hour(&text("started_at"));
        assert!((least..=most).contains(&wait), "{asked}: {wait} s, not {least} to {most}: {made:?}");
        assert_eq!((&delivery["state"], &delivery["attempts"]), (&json!("pending"), &json!(1)), "{delivery}");
    }
}

#[tokio::test]
async fn what_is_put_off_comes_at_its_time_and_holds_up_nothing() {
    let receiver = Receiver::start();
    let server = open().start().await;
    let api = server.api();
    hook(&api, "e").await;
    listener(&api, json!({"url": receiver.url("/in"), "hooks": ["e"]})).await;
    let clock = SystemClock::new();
    let put_off = Duration::from_millis(2_500);
    let not_before = rfc3339(clock.wall_ms() + millis(put_off));
    let began = Instant::now();
    let later = json!({"name": "e", "data": "later", "not_before": not_before});
    api.post("/v1/events", later).await.expect_status(202);
    publish(&api, "e", json!("now")).await;
    let received = receiver.wait_for(2, |_| true, SOON).await;
    assert_eq!(received.iter().map(|one| one.json()["data"].clone()).collect::<Vec<_>>(), ["now", "later"]);
    // The clock's time is told in milliseconds, and both may be rounded.
    let waited = received[1].at.duration_since(began.into_std());
    assert!(waited + Duration::from_millis(5) >= put_off, "{waited:?}");
    nothing_pending(&api).await;
}
