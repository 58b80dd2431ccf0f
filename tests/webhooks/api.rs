//! The API besides webhooks: health endpoints, metrics, and answers to invalid requests.

use serde_json::{Value, json};
use tidings_testkit::{Answer, Receiver, eventually};

use crate::kit::{SOON, all, attempted, hook, listener, nothing_pending, open, publish};

/// The sum of a metric's samples whose labels hold `label`.
fn sample(metrics: &str, name: &str, label: &str) -> f64 {
    let fits = |line: &&str| line.starts_with(name) && line.contains(label) && !line.starts_with('#');
    metrics.lines().filter(fits).filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
}

#[tokio::test]
async fn machines_are_answered_and_counters_move() {
    let receiver = Receiver::start();
    receiver.respond_sequence("/in", vec![Answer::status(500), Answer::status(204)]);
    let server = open().start().await;
    let api = server.api();
    let open = api.without_key();
    assert_eq!(open.get("/healthz").await.expect_status(200).text(), "ok");
    let ready = open.get("/readyz").await.expect_status(200);
    assert_eq!(ready["ready"], true, "{}", ready.text());
    let counted = open.get("/metrics").await.expect_status(200);
    assert!(counted.header("content-type").is_some_and(|kind| kind.starts_with("application/openmetrics-text")));
    assert!(counted.text().ends_with("# EOF\n"), "{}", counted.text());
    let before = server.metrics().await;
    hook(&api, "e").await;
    listener(&api, json!({"url": receiver.url("/in"), "hooks": ["e"], "schedule": ["0s", "20ms"]})).await;
    publish(&api, "e", json!({})).await;
    nothing_pending(&api).await;
    // Counted once it is written down, which is also when the list has it.
    let after = eventually(SOON, || async {
        let text = server.metrics().await;
        (sample(&text, "tidings_courier_deliveries_closed_total", "delivered") == 1.0).then_some(text)
    })
    .await;
    let attempts = |text: &str| sample(text, "tidings_courier_attempts_total", "");
    assert_eq!(attempts(&after) - attempts(&before), 2.0, "{after}");
    assert!(!after.contains("whsec_") && !after.contains(&server.credentials.api_key));
}

/// Published events can be read back: from the log, by filters, with the data as it was sent.
#[tokio::test]
async fn the_log_shows_what_was_said() {
    let server = open().start().await;
    let api = server.api();
    hook(&api, "person.created").await;
    // Neither a hook nor a key: it never touches the disk.
    let unlogged = api.post("/v1/events", json!({"name": "nobody.asked", "data": 1})).await.expect_status(202);
    assert_eq!((&unlogged["logged"], &unlogged["deliveries"]), (&json!(false), &json!(0)));
    api.get(&format!("/v1/events/{}", unlogged.text_at("id"))).await.expect_status(404);
    let body = json!({
        "name": "person.created", "id": "p1", "channels": ["room-1", "room-1", "room-2"], "data": {"b": 1, "a": 2},
        "key": "k",
        "op": "create", "time": "2026-01-02T03:04:05.678Z",
    });
    api.post("/v1/events/", body).await.expect_status(202);
    publish(&api, "person.created", json!(null)).await;
    let shown = api.get("/v1/events/p1").await.expect_status(200);
    assert_eq!(shown["data"], json!({"b": 1, "a": 2}));
    assert!(
        shown.text().contains(r#""data":{"b":1,"a":2}"#) || shown.text().contains(r#""data":{"a":2,"b":1}"#),
        "{}",
        shown.text()
    );
    assert_eq!(
        (&shown["channels"], &shown["key"], &shown["op"]),
        (&json!(["room-1", "room-2"]), &json!("k"), &json!("create"))
    );
    assert_eq!(shown["time"], "2026-01-02T03:04:05.678Z");
    assert_eq!(all(&api, "/v1/events?name=person.created").await.len(), 2);
    assert_eq!(all(&api, "/v1/events?channel=room-2").await.len(), 1);
    assert_eq!(all(&api, "/v1/events?name=person").await.len(), 0);
}

// covers: I06, I03
#[tokio::test]
async fn too_much_and_too_deep_is_refused_and_the_rest_goes_on() {
    let server = open().start().await;
    let api = server.api();
    let deep = format!(r#"{{"name":"e","data":{}{}}}"#, "[".repeat(20_000), "]".repeat(20_000));
    let big = json!({"name": "e", "data": "x".repeat(11 * 1024)}).to_string();
    let huge = json!({"name": "e", "data": "x".repeat(2 << 20)}).to_string();
    for (what, body, statuses) in [("deep", deep, [422, 413]), ("big", big, [413, 413]), ("huge", huge, [413, 413])] {
        let sent = api.request(http::Method::POST, "/v1/events").body(body, "application/json").send().await;
        // A server that refuses early may close before all has been sent.
        if let Ok(refused) = sent {
            assert!(statuses.contains(&refused.status), "{what}: {} {}", refused.status, refused.text());
        }
    }
    for name in ["", "a b", "a*", "ø", "tidings.mine", &"x".repeat(201)] {
        let refused = api.post("/v1/events", json!({"name": name})).await.expect_status(422);
        assert_eq!(refused["field"], "name", "{name:?}: {}", refused.text());
    }
    let other = api.request(http::Method::POST, "/v1/events").body("name=e", "text/csv").await;
    assert_eq!(other.status, 415, "{}", other.text());
    assert_eq!(api.request(http::Method::PUT, "/v1/events").await.status, 405);
    api.get("/readyz").await.expect_status(200);
}

/// A test event goes to its listener only, whatever its match, and at a limited rate.
// covers: D02
#[tokio::test]
async fn a_test_send_is_one_request_to_one_listener() {
    let receiver = Receiver::start();
    let server = open().start().await;
    let api = server.api();
    hook(&api, "e").await;
    let picky = listener(&api, json!({"url": receiver.url("/picky"), "hooks": ["e"], "match": {"never": "so"}})).await;
    listener(&api, json!({"url": receiver.url("/other"), "hooks": ["e", "tidings.test"]})).await;
    let test = api.post(&format!("/v1/listeners/{}/test", picky.id), json!({})).await.expect_status(202);
    let got = receiver.wait_for(1, |_| true, SOON).await;
    assert_eq!((got[0].path.as_str(), &got[0].json()["type"]), ("/picky", &json!("tidings.test")));
    assert_eq!(got[0].header("webhook-id"), Some(test.text_at("id").as_str()));
    let named = api.post(&format!("/v1/listeners/{}/test", picky.id), json!({"name": "e", "data": {"n": 1}})).await;
    let (delivery, _) = attempted(&api, &named.expect_status(202).text_at("id"), 1).await;
    assert_eq!(delivery["listener"], picky.id);
    nothing_pending(&api).await;
    assert!(receiver.received_on("/other").is_empty(), "a test reached somebody else");
    let mut refused = Value::Null;
    for _ in 0..20 {
        let again = api.post(&format!("/v1/listeners/{}/test", picky.id), json!({})).await;
        if again.status == 429 {
            assert!(again.header("retry-after").is_some(), "{}", again.text());
            refused = again.json;
            break;
        }
    }
    assert_eq!(refused["code"], "rate_limited", "a listener can be flooded with tests");
}

/// A hook that a listener names cannot be deleted; deleting a listener cancels its pending deliveries.
#[tokio::test]
async fn what_is_in_use_stays_and_what_goes_is_not_called() {
    let receiver = Receiver::start();
    receiver.respond("/in", Answer::status(500));
    let server = open().start().await;
    let api = server.api();
    hook(&api, "e").await;
    let made = listener(&api, json!({"url": receiver.url("/in"), "hooks": ["e"], "schedule": ["0s", "1s"]})).await;
    assert_eq!(api.delete("/v1/hooks/e").await.expect_status(409)["code"], "in_use");
    assert_eq!(api.post("/v1/hooks", json!({"name": "e"})).await.expect_status(409)["code"], "exists");
    let event = publish(&api, "e", json!({})).await;
    attempted(&api, &event, 1).await;
    api.delete(&format!("/v1/listeners/{}", made.id)).await.expect_status(204);
    api.delete("/v1/hooks/e").await.expect_status(204);
    let canceled = eventually(SOON, || async {
        let deliveries = all(&api, &format!("/v1/deliveries?event={event}")).await;
        deliveries.into_iter().next().filter(|delivery| delivery["state"] != "pending")
    })
    .await;
    assert_eq!(canceled["state"], "canceled", "{canceled}");
    assert_eq!(receiver.total(), 1, "a deleted listener was called");
}

#[tokio::test]
async fn a_path_that_is_nobodys_is_told_where_to_look() {
    let server = open().start().await;
    for path in ["/nothing", "/v2/events"] {
        let reply = server.api().get(path).await.expect_status(404);
        assert_eq!(reply["code"], "not_found", "{path}: {}", reply.text());
        assert!(reply["remedy"].as_str().is_some_and(|remedy| remedy.contains("/v1")), "{path}: {}", reply.text());
    }
}
