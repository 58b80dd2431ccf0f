//! The first entry of a schedule delays the first attempt.

use serde_json::{Value, json};
use tidings_model::clock::parse_rfc3339;
use tidings_testkit::Receiver;

use crate::kit::{attempts, listener, open, publish, settled};

fn at(time: &Value) -> i64 {
    parse_rfc3339(time.as_str().unwrap()).unwrap()
}

// covers: G163
#[tokio::test]
async fn the_first_attempt_is_made_when_the_schedule_begins() {
    let receiver = Receiver::start();
    let server = open().start().await;
    let api = server.api();
    api.post("/v1/hooks", json!({"name": "e", "defaults": {"schedule": ["1500ms", "1h"]}})).await.expect_status(201);
    listener(&api, json!({"url": receiver.url("/hook"), "hooks": ["e"]})).await;
    listener(&api, json!({"url": receiver.url("/own"), "hooks": ["e"], "schedule": ["2500ms"]})).await;
    listener(&api, json!({"url": receiver.url("/fifo"), "hooks": ["e"], "schedule": ["2s"], "order": "fifo"})).await;
    listener(&api, json!({"url": receiver.url("/now"), "hooks": ["e"], "schedule": ["0s"]})).await;
    for n in 0..2 {
        let event = publish(&api, "e", json!({"n": n})).await;
        let published = at(&api.get(&format!("/v1/events/{event}")).await.expect_status(200)["received_at"]);
        let deliveries = settled(&api, &event).await;
        assert_eq!(deliveries.len(), 4, "{deliveries:?}");
        for delivery in deliveries {
            let made = attempts(&api, &delivery).await;
            assert_eq!((made.len(), &delivery["state"]), (1, &json!("delivered")), "waiting is no attempt: {made:?}");
            let id = delivery["listener"].as_str().unwrap();
            let shown = api.get(&format!("/v1/listeners/{id}")).await.expect_status(200);
            let delay = match shown["url"].as_str().unwrap().rsplit('/').next() {
                Some("hook") => 1_500,
                Some("own") => 2_500,
                Some("fifo") => 2_000,
                _ => 0,
            };
            let waited = at(&made[0]["started_at"]) - published;
            assert!(waited >= delay, "{shown:?} was called after {waited} ms");
        }
    }
}
