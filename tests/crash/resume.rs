//! State over a restart: attempts that were in flight, retries with their position in the schedule, failing and
//! disabled listeners, and leased batches of which a part had failed.

use serde_json::{Value, json};
use tidings_testkit::{Answer, Receiver, eventually};
use tokio::task::JoinSet;

use crate::common::{
    LATER, SOON, assert_each_once, counts, delivery, drained, hook, listed, listener, local, publish, publish_all,
};

// covers: C02
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_under_way_is_attempted_again_with_the_same_id() {
    let partner = Receiver::start();
    partner.respond("/in", Answer::hang());
    let mut server = local().start().await;
    hook(&server.api(), "job.done").await;
    listener(&server.api(), json!({"url": partner.url("/in"), "hooks": ["job.done"]})).await;
    publish(&server.api(), "job.done", 1).await.expect_status(202);
    partner.wait_for(1, |_| true, SOON).await;
    server.kill9().await;
    partner.respond("/in", Answer::default());
    server.restart().await;
    let came = partner.wait_for(2, |_| true, SOON).await;
    assert_eq!(came[0].header("webhook-id"), Some("e-1"));
    assert_eq!(came[1].header("webhook-id"), Some("e-1"));
    assert_eq!(came[0].body, came[1].body);
    drained(&server, SOON).await;
    assert_eq!(partner.total(), 2);
    // Nobody knows how the attempt that was cut off ended, so it is not one.
    assert_eq!(delivery(&server.api(), 1).await["attempts"], 1);
}

// covers: C09, C10
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn retries_and_failures_keep_their_place_over_restarts() {
    let partner = Receiver::start();
    partner.respond("/in", Answer::status(500));
    let mut server = local().start().await;
    hook(&server.api(), "job.failed").await;
    let schedule = ["0s", "200ms", "4s", "30m"];
    let body = json!({"url": partner.url("/in"), "hooks": ["job.failed"], "schedule": schedule});
    let id = listener(&server.api(), body).await;
    publish_all(&server.api(), "job.failed", 0..5).await;
    let api = server.api();
    let twice = || async {
        for n in 0..5 {
            if delivery(&api, n).await["attempts"] != 2 {
                return None;
            }
        }
        Some(())
    };
    eventually(SOON, twice).await;
    let mut before = Vec::new();
    for n in 0..5 {
        before.push(delivery(&api, n).await);
    }
    let failing_since = api.get(&format!("/v1/listeners/{id}")).await["failing_since"].clone();
    assert!(failing_since.is_string(), "it is failing, and nothing says since when: {failing_since}");

    // Once asked to, once killed: both ways.
    server.terminate().await.expect_code(0);
    server.restart().await;
    server.kill9().await;
    server.restart().await;
    let api = server.api();
    for (n, before) in (0..5).zip(&before) {
        let after = delivery(&api, n).await;
        // The third attempt may have been made meanwhile, if this machine is slow.
        if after["attempts"] == 2 {
            assert_eq!(after["last_error"], before["last_error"]);
            assert_times_close(&after["next_attempt_at"], &before["next_attempt_at"]);
        }
    }
    assert_eq!(api.get(&format!("/v1/listeners/{id}")).await["failing_since"], failing_since);
    partner.wait_for(15, |_| true, SOON).await;
    let api = server.api();
    eventually(SOON, || async { (delivery(&api, 4).await["attempts"] == 3).then_some(()) }).await;
    for n in 0..5 {
        let third = eventually(SOON, || async {
            let now = delivery(&api, n).await;
            (now["attempts"] == 3).then_some(now)
        });
        let id = third.await["id"].as_str().unwrap_or_default().to_owned();
        let attempts = api.get(&format!("/v1/deliveries/{id}/attempts")).await.expect_status(200);
        let numbers: Vec<_> = attempts["data"].as_array().into_iter().flatten().map(|one| one["n"].clone()).collect();
        assert_eq!(numbers, [1, 2, 3], "{}", attempts.text());
    }
    assert!(counts(&partner.received()).values().all(|times| *times == 3), "the schedule began anew, or was skipped");
    // The fourth is due in half an hour: it is made when somebody asks for it, and clears the listener's name.
    partner.respond("/in", Answer::default());
    for n in 0..5 {
        let id = delivery(&api, n).await["id"].as_str().unwrap_or_default().to_owned();
        api.post(&format!("/v1/deliveries/{id}/retry"), json!({})).await.expect_status(202);
    }
    drained(&server, SOON).await;
    let listener = api.get(&format!("/v1/listeners/{id}")).await.expect_status(200);
    assert_eq!(listener["failing_since"], Value::Null, "{}", listener.text());
}

/// Asserts that both are times, less than five seconds apart: steady clocks start again with each process.
#[track_caller]
fn assert_times_close(after: &Value, before: &Value) {
    let parse = |time: &Value| time.as_str().and_then(tidings_model::clock::parse_rfc3339);
    match (parse(after), parse(before)) {
        (Some(after), Some(before)) => assert!((after - before).abs() < 5_000, "{before} became {after}"),
        _ => panic!("not both times: {before} and {after}"),
    }
}

// covers: C06
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_waits_for_a_disabled_listener_survives_and_is_resumed() {
    let partner = Receiver::start();
    partner.respond("/in", Answer::status(500));
    let mut server = local().start().await;
    hook(&server.api(), "job.held").await;
    let schedule = ["0s", "1s", "1s", "1s", "1s", "1s", "1s", "1s", "1s", "1s", "1s", "1s", "1s", "1s", "1s"];
    let body = json!({"url": partner.url("/in"), "hooks": ["job.held"], "schedule": schedule});
    let id = listener(&server.api(), body).await;
    publish_all(&server.api(), "job.held", 0..20).await;
    partner.wait_for(1, |_| true, SOON).await;
    server.api().patch(&format!("/v1/listeners/{id}"), json!({"enabled": false})).await.expect_status(200);
    server.kill9().await;
    partner.respond("/in", Answer::default());
    server.restart().await;
    let api = server.api();
    assert_eq!(listed(&api, &id, "pending").await, 20);
    let before = partner.total();
    // Another listener's deliveries pass: so there was a chance for those of the disabled one too.
    listener(&api, json!({"url": partner.url("/other"), "hooks": ["job.held"]})).await;
    publish_all(&api, "job.held", 20..25).await;
    partner.wait_for(5, |request| request.path == "/other", SOON).await;
    assert_eq!(partner.total(), before + 5, "a disabled listener was called");
    assert_eq!(listed(&api, &id, "pending").await, 20);
    api.patch(&format!("/v1/listeners/{id}"), json!({"enabled": true})).await.expect_status(200);
    drained(&server, LATER).await;
    assert_eq!(listed(&api, &id, "delivered").await, 20);
}

// covers: C05, C04
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_a_group_that_fails_in_part_only_that_part_is_repeated() {
    let partner = Receiver::start();
    partner.respond_sequence("/ill", vec![Answer::status(500), Answer::reset(), Answer::default()]);
    let server = local().start().await;
    let api = server.api();
    hook(&api, "batch.run").await;
    for path in ["/one", "/two"] {
        listener(&api, json!({"url": partner.url(path), "hooks": ["batch.run"]})).await;
    }
    let schedule = ["0s", "100ms", "100ms", "100ms"];
    listener(&api, json!({"url": partner.url("/ill"), "hooks": ["batch.run"], "schedule": schedule})).await;
    publish(&api, "batch.run", 0).await.expect_status(202);
    drained(&server, SOON).await;
    for (path, times) in [("/one", 1), ("/two", 1), ("/ill", 3)] {
        assert_eq!(partner.received_on(path).len(), times, "{path}");
    }

    // Publishes that arrive together share a transaction. Every other one takes an id that is taken: it fails alone.
    let mut publishing = JoinSet::new();
    for n in 1..=64 {
        let api = api.clone();
        let id = if n % 2 == 0 { format!("e-{n}") } else { "e-0".to_owned() };
        let event = json!({"name": "batch.run", "id": id, "data": {"n": n}});
        publishing.spawn(async move { (n, api.post("/v1/events", event).await) });
    }
    for (n, reply) in publishing.join_all().await {
        assert_eq!(reply.status, if n % 2 == 0 { 202 } else { 409 }, "{n}: {}", reply.text());
    }
    drained(&server, SOON).await;
    for path in ["/one", "/two"] {
        assert_each_once(&partner.received_on(path), (0..=64).filter(|n| n % 2 == 0));
    }
}
