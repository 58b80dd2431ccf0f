//! Listeners that answer 410: they are disabled, one event reports it, and they can be enabled again.

use serde_json::{Value, json};
use tidings_testkit::{Answer, Receiver, eventually};

use crate::kit::{SOON, all, attempts, hook, listener, nothing_pending, open, publish, settled};

// covers: R12, C06
#[tokio::test]
async fn who_answers_410_is_disabled_once_and_resumes_when_enabled() {
    let receiver = Receiver::start();
    receiver.respond("/gone", Answer::status(410));
    let server = open().start().await;
    let api = server.api();
    hook(&api, "e").await;
    listener(&api, json!({"url": receiver.url("/told"), "hooks": ["tidings.listener.disabled"]})).await;
    let gone = listener(&api, json!({"url": receiver.url("/gone"), "hooks": ["e"], "owner": "customer-7"})).await;
    // Several at once: each of them meets a 410, and the listener is disabled once.
    let mut events = Vec::new();
    let mut deliveries = 0;
    for number in 0..8 {
        let said = api.post("/v1/events", json!({"name": "e", "data": {"n": number}})).await.expect_status(202);
        deliveries += said["deliveries"].as_u64().unwrap();
        events.push(said.text_at("id"));
    }
    let path = format!("/v1/listeners/{}", gone.id);
    let shown = eventually(SOON, || async {
        let shown = api.get(&path).await.expect_status(200);
        (shown["enabled"] == false).then_some(shown)
    })
    .await;
    assert_eq!(shown["disabled_reason"], "gone", "{}", shown.text());
    assert!(shown["disabled_at"].is_string(), "{}", shown.text());
    let told = receiver.wait_for(1, |request| request.path == "/told", SOON).await.remove(0).json();
    assert_eq!(told["type"], "tidings.listener.disabled");
    assert_eq!((&told["data"]["listener"], &told["data"]["reason"]), (&json!(gone.id), &json!("gone")), "{told}");
    assert_eq!(told["data"]["owner"], "customer-7", "{told}");

    // What is published now is not for it, and what it was owed stays visible.
    let before = receiver.received_on("/gone").len();
    let said = api.post("/v1/events", json!({"name": "e", "data": {"n": "while disabled"}})).await.expect_status(202);
    assert_eq!(said["deliveries"], 0, "a disabled listener is owed what it was owed, and nothing new");
    let owed = all(&api, &format!("/v1/deliveries?listener={}&state=pending", gone.id)).await;
    let failed = all(&api, &format!("/v1/deliveries?listener={}&state=undelivered", gone.id)).await;
    assert_eq!((owed.len() + failed.len()) as u64, deliveries, "{owed:?}\n{failed:?}");
    assert!(!failed.is_empty(), "who met the 410 is undelivered");
    for delivery in &failed {
        let made = attempts(&api, delivery).await;
        assert_eq!((made.len(), &made[0]["status"]), (1, &json!(410)), "{made:?}");
    }
    // A retry by hand cannot go out while it is disabled.
    assert_eq!(receiver.received_on("/gone").len(), before, "a disabled listener was called");

    receiver.respond("/gone", Answer::status(204));
    let enabled = api.patch(&path, json!({"enabled": true})).await.expect_status(200);
    assert_eq!((&enabled["enabled"], &enabled["disabled_reason"]), (&json!(true), &Value::Null), "{}", enabled.text());
    let again = publish(&api, "e", json!({"n": "again"})).await;
    nothing_pending(&api).await;
    for delivery in settled(&api, &again).await {
        assert_eq!(delivery["state"], "delivered", "{delivery}");
    }
    for delivery in &failed {
        let id = delivery["id"].as_str().unwrap();
        api.post(&format!("/v1/deliveries/{id}/retry"), json!({})).await.expect_status(202);
    }
    nothing_pending(&api).await;
    for event in &events {
        assert!(settled(&api, event).await.iter().all(|delivery| delivery["state"] == "delivered"), "{event}");
    }
    // Everything is settled, so this is all that will ever come.
    assert_eq!(receiver.received_on("/told").len(), 1, "told more than once");
}

/// A listener that is disabled by a request keeps its deliveries; no event reports it, and nothing is lost.
// covers: C06
#[tokio::test]
async fn what_waits_for_a_disabled_listener_is_delivered_when_it_is_enabled() {
    let receiver = Receiver::start();
    receiver.respond("/in", Answer::status(500));
    let server = open().start().await;
    let api = server.api();
    hook(&api, "e").await;
    let schedule = json!(["0s", "300ms", "300ms"]);
    let made = listener(&api, json!({"url": receiver.url("/in"), "hooks": ["e"], "schedule": schedule})).await;
    let event = publish(&api, "e", json!({})).await;
    receiver.wait_for(1, |_| true, SOON).await;
    let path = format!("/v1/listeners/{}", made.id);
    api.patch(&path, json!({"enabled": false})).await.expect_status(200);
    receiver.respond("/in", Answer::status(204));
    let waiting = eventually(SOON, || async {
        let waiting = all(&api, &format!("/v1/deliveries?event={event}")).await.remove(0);
        // Due long ago, were it not for its listener: no next attempt is promised.
        (waiting["attempts"].as_u64()? >= 1).then_some(waiting)
    })
    .await;
    assert_eq!((&waiting["state"], &waiting["next_attempt_at"]), (&json!("pending"), &Value::Null), "{waiting}");
    api.patch(&path, json!({"enabled": true})).await.expect_status(200);
    assert_eq!(settled(&api, &event).await[0]["state"], "delivered");
    assert_eq!(receiver.received().len(), 2);
}
