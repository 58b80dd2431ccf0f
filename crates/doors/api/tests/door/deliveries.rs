//! Deliveries: listed, shown with their attempts, retried.

use std::time::Duration;

use serde_json::{Value, json};
use tidings_testkit::{Answer, Receiver};

use crate::kit::{door, text};

#[tokio::test]
async fn a_delivery_shows_its_attempts_and_can_be_retried() {
    let receiver = Receiver::start();
    receiver.respond_sequence(
        "/in",
        vec![Answer::status(500).header("x-why", "because").body("no\u{fffd}"), Answer::status(204)],
    );
    let door = door().await;
    door.hook("h").await;
    let listener = door.listener(json!({"url": receiver.url("/in"), "hooks": ["h"], "schedule": ["0s"]})).await;
    door.post("/v1/events", json!({"name": "h", "id": "e"})).await.ok(202);
    let listed = door.all("/v1/deliveries?event=e", 10).await;
    assert_eq!(listed.len(), 1);
    let id = text(&listed[0]["id"]);
    let failed = door.delivery_in(&id, "undelivered").await;
    assert_eq!(
        failed,
        json!({"id": id, "state": "undelivered", "event": "e", "name": "h", "listener": listener, "attempts": 1,
            "next_attempt_at": null, "closed_at": "2026-11-21T09:56:40.000Z",
            "last_error": "answered 500 Internal Server Error"})
    );
    let attempts = door.get(&format!("/v1/deliveries/{id}/attempts/")).await.ok(200);
    let first = &attempts["data"][0];
    assert_eq!(attempts["next"], Value::Null);
    for (field, value) in json!({"n": 1, "started_at": "2026-11-21T09:56:40.000Z", "outcome": "http_status",
        "status": 500, "error": "answered 500 Internal Server Error", "remote": receiver.addr().to_string(),
        "response_body": "no\u{fffd}", "next_attempt_at": null})
    .as_object()
    .unwrap()
    {
        assert_eq!(&first[field], value, "{field}");
    }
    assert_eq!(first["response_headers"]["x-why"], "because");
    assert!(first["duration_ms"].is_u64());
    let failing = door.get(&format!("/v1/listeners/{listener}")).await.ok(200);
    assert_eq!(failing["failing_since"], "2026-11-21T09:56:40.000Z");

    let due = door.post(&format!("/v1/deliveries/{id}/retry"), json!({})).await.ok(202);
    assert_eq!((&due["id"], &due["listener"]), (&json!(id), &json!(listener)));
    let done = door.delivery_in(&id, "delivered").await;
    assert_eq!((&done["attempts"], &done["last_error"]), (&json!(2), &Value::Null), "{done}");
    assert_eq!(door.get(&format!("/v1/listeners/{listener}")).await.ok(200)["failing_since"], Value::Null);
}

#[tokio::test]
async fn the_next_attempt_is_told_in_wall_time() {
    let receiver = Receiver::start();
    receiver.respond_otherwise(Answer::status(500));
    let door = door().await;
    door.hook("h").await;
    let listener = door.listener(json!({"url": receiver.url("/"), "hooks": ["h"], "schedule": ["0s", "100s"]})).await;
    door.post("/v1/events", json!({"name": "h", "id": "e"})).await.ok(202);
    let path = format!("/v1/deliveries?listener={listener}");
    let waiting = tidings_testkit::eventually(crate::kit::SOON, || async {
        let delivery = door.all(&path, 5).await.remove(0);
        (delivery["attempts"] == 1).then_some(delivery)
    })
    .await;
    let at = |delivery: &Value| tidings_model::clock::parse_rfc3339(&text(&delivery["next_attempt_at"])).unwrap();
    let due = at(&waiting);
    assert!((80_000..=120_000).contains(&(due - crate::kit::NOW)), "{waiting}");
    // Somebody sets the clock: the attempt is as far away as before.
    door.clock.jump_wall(3_600_000);
    assert_eq!(at(&door.all(&path, 5).await[0]), due + 3_600_000);
    door.patch(&format!("/v1/listeners/{listener}"), json!({"enabled": false})).await.ok(200);
    assert_eq!(door.all(&path, 5).await[0]["next_attempt_at"], Value::Null, "nothing is sent to a disabled listener");
    let id = text(&waiting["id"]);
    let refused = door.post(&format!("/v1/deliveries/{id}/retry"), json!({})).await.refused(409, "conflict");
    assert!(text(&refused["remedy"]).contains(&listener), "{refused}");
    door.delete(&format!("/v1/listeners/{listener}")).await.ok(204);
    door.post(&format!("/v1/deliveries/{id}/retry"), json!({})).await.refused(404, "not_found");
}

#[tokio::test]
async fn deliveries_are_listed_by_state_listener_and_event() {
    let receiver = Receiver::start();
    receiver.respond("/bad", Answer::status(404));
    let door = door().await;
    door.hook("h").await;
    let fields = |path: &str| json!({"url": receiver.url(path), "hooks": ["h"], "schedule": ["0s"]});
    let good = door.listener(fields("/good")).await;
    let bad = door.listener(fields("/bad")).await;
    for n in 0..9 {
        door.clock.advance(Duration::from_secs(1));
        door.post("/v1/events", json!({"name": "h", "id": format!("e{n}")})).await.ok(202);
    }
    tidings_testkit::eventually(crate::kit::SOON, || async {
        door.all("/v1/deliveries?state=pending", 50).await.is_empty().then_some(())
    })
    .await;
    let all = door.all("/v1/deliveries", 5).await;
    let pairs: Vec<(String, String)> = all.iter().map(|d| (text(&d["event"]), text(&d["listener"]))).collect();
    let wanted: Vec<(String, String)> =
        (0..9).rev().flat_map(|n| [&bad, &good].map(|listener| (format!("e{n}"), listener.clone()))).collect();
    assert_eq!(pairs, wanted);
    assert_eq!(door.all("/v1/deliveries?state=undelivered", 2).await.len(), 9);
    assert_eq!(door.all(&format!("/v1/deliveries?listener={good}&state=delivered"), 4).await.len(), 9);
    assert_eq!(door.all("/v1/deliveries?event=e3", 1).await.len(), 2);
    assert!(door.all(&format!("/v1/deliveries?state=undelivered&listener={good}"), 4).await.is_empty());
    assert!(door.all("/v1/deliveries?event=unheard-of", 4).await.is_empty());
}

// covers: G038, D02
#[tokio::test]
async fn retries_by_hand_are_limited_as_tests_are() {
    let receiver = Receiver::start();
    receiver.respond("/bad", Answer::status(500));
    let door = door().await;
    let publish = async |name: &str, schedule: &[&str], events: usize| {
        door.hook(name).await;
        let fields = json!({"url": receiver.url(&format!("/{name}")), "hooks": [name], "schedule": schedule});
        let listener = door.listener(fields).await;
        let mut ids = Vec::new();
        for event in 0..events {
            let id = format!("{name}{event}");
            door.post("/v1/events", json!({"name": name, "id": id})).await.ok(202);
            ids.push(text(&door.all(&format!("/v1/deliveries?event={id}"), 10).await[0]["id"]));
        }
        (listener, ids)
    };
    let retry = async |id: &str| door.post(&format!("/v1/deliveries/{id}/retry"), json!({})).await;

    let (listener, ids) = publish("good", &["0s"], 1).await;
    door.delivery_in(&ids[0], "delivered").await;
    for _ in 0..9 {
        retry(&ids[0]).await.ok(202);
    }
    // They share a limit with tests.
    door.post(&format!("/v1/listeners/{listener}/test"), json!({})).await.ok(202);
    let refused = retry(&ids[0]).await;
    refused.refused(429, "rate_limited");
    assert_eq!(refused.header("retry-after"), Some("7"));
    door.post(&format!("/v1/listeners/{listener}/test"), json!({})).await.refused(429, "rate_limited");
    door.delivery_in(&ids[0], "delivered").await;
    assert!(receiver.received_on("/good").len() <= 11);

    // After an outage all that failed for good can be made up for, if not in a loop.
    let (_, ids) = publish("bad", &["0s"], 15).await;
    for id in &ids {
        door.delivery_in(id, "undelivered").await;
    }
    for id in &ids[..10] {
        retry(id).await.ok(202);
    }
    retry(&ids[10]).await.refused(429, "rate_limited");
    for id in &ids {
        door.delivery_in(id, "undelivered").await;
    }
    receiver.respond("/bad", Answer::status(204));
    door.clock.advance(Duration::from_secs(60));
    for id in &ids {
        retry(id).await.ok(202);
    }
    for id in &ids {
        door.delivery_in(id, "delivered").await;
    }
}

// covers: G048
#[tokio::test]
async fn of_an_answer_to_a_success_the_status_is_kept() {
    let receiver = Receiver::start();
    receiver.respond_otherwise(Answer::status(200).body("a long answer"));
    let door = door().await;
    door.hook("h").await;
    door.listener(json!({"url": receiver.url("/in"), "hooks": ["h"]})).await;
    door.post("/v1/events", json!({"name": "h", "id": "e"})).await.ok(202);
    let id = text(&door.all("/v1/deliveries?event=e", 10).await[0]["id"]);
    door.delivery_in(&id, "delivered").await;
    let attempts = door.get(&format!("/v1/deliveries/{id}/attempts")).await.ok(200);
    assert_eq!((&attempts["data"][0]["status"], &attempts["data"][0]["response_body"]), (&json!(200), &json!("")));
}
