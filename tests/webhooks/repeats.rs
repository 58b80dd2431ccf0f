//! Repeated publishes: by id, by idempotency key, concurrent, and over a restart.

use std::collections::BTreeSet;

use serde_json::json;
use tidings_testkit::{Api, Receiver, Reply};
use tokio::task::JoinSet;

use crate::kit::{all, hook, listener, nothing_pending, open, told};

async fn with_key(api: &Api, key: &str, data: serde_json::Value) -> Reply {
    api.post("/v1/events", json!({"name": "e", "data": data})).header("idempotency-key", key).await
}

// covers: P03
#[tokio::test]
async fn an_idempotency_key_gives_the_same_answer_also_over_a_restart() {
    let receiver = Receiver::start();
    let mut server = open().start().await;
    let api = server.api();
    hook(&api, "e").await;
    listener(&api, json!({"url": receiver.url("/in"), "hooks": ["e"]})).await;
    let first = with_key(&api, "order-17", json!({"n": 1})).await.expect_status(202);
    assert_eq!((&first["logged"], &first["durable"], &first["deliveries"]), (&json!(true), &json!(true), &json!(1)));
    for restart in [false, true] {
        if restart {
            server.kill9().await;
            server.restart().await;
        }
        let api = server.api();
        let again = with_key(&api, "order-17", json!({"n": 1})).await.expect_status(202);
        assert_eq!(again.json, first.json, "restarted: {restart}");
        let other = with_key(&api, "order-17", json!({"n": 2})).await.expect_status(409);
        assert_eq!(other["code"], "idempotency_key_taken", "{}", other.text());
    }
    let api = server.api();
    nothing_pending(&api).await;
    assert_eq!(all(&api, "/v1/events").await.len(), 1);
    assert!(told(&receiver.received())["/in"].iter().all(|id| *id == first.text_at("id")));
    for bad in ["", "a\tb", &"x".repeat(256)] {
        let refused = with_key(&api, bad, json!(1)).await;
        assert!((400..500).contains(&refused.status), "{bad:?}: {}", refused.status);
    }
}

// covers: P03
#[tokio::test(flavor = "multi_thread")]
async fn the_same_key_at_the_same_time_is_one_event() {
    let server = open().start().await;
    let api = server.api();
    let mut publishes = JoinSet::new();
    for _ in 0..24 {
        let api = api.clone();
        publishes.spawn(async move { with_key(&api, "at-once", json!({"n": 1})).await.expect_status(202).json });
    }
    let answers = publishes.join_all().await;
    assert!(answers.iter().all(|answer| *answer == answers[0]), "{answers:?}");
    assert_eq!(all(&api, "/v1/events").await.len(), 1);
}

// covers: P03, I03
#[tokio::test]
async fn an_id_is_one_event_also_over_a_restart() {
    let receiver = Receiver::start();
    let mut server = open().start().await;
    let api = server.api();
    hook(&api, "e").await;
    listener(&api, json!({"url": receiver.url("/in"), "hooks": ["e"]})).await;
    let body = json!({"id": "invoice-7", "name": "e", "data": {"n": 1}});
    let first = api.post("/v1/events", body.clone()).await.expect_status(202);
    for restart in [false, true] {
        if restart {
            server.kill9().await;
            server.restart().await;
        }
        let api = server.api();
        let again = api.post("/v1/events", body.clone()).await.expect_status(202);
        assert_eq!(again["id"], first["id"]);
        let other =
            api.post("/v1/events", json!({"id": "invoice-7", "name": "e", "data": {"n": 2}})).await.expect_status(409);
        assert_eq!((&other["code"], &other["field"]), (&json!("id_taken"), &json!("id")), "{}", other.text());
    }
    let api = server.api();
    nothing_pending(&api).await;
    assert_eq!(all(&api, "/v1/events").await.len(), 1);
    assert_eq!(all(&api, "/v1/deliveries?event=invoice-7").await.len(), 1);
    // An id with a dot could be read as another one with a timestamp, once it is signed.
    for bad in ["a.b", "", "a b", "ø", "a/b", &"x".repeat(129)] {
        let refused = api.post("/v1/events", json!({"id": bad, "name": "e"})).await.expect_status(422);
        assert_eq!(refused["field"], "id", "{bad:?}: {}", refused.text());
    }
}

/// Pages of a list that grows meanwhile: no entry twice, and none missing that was there at the start.
#[tokio::test]
async fn pages_neither_repeat_nor_skip() {
    let server = open().start().await;
    let api = server.api();
    hook(&api, "e").await;
    let publish = |number: usize| {
        let api = api.clone();
        async move { api.post("/v1/events", json!({"id": format!("n{number}"), "name": "e"})).await.expect_status(202) }
    };
    for number in 0..23 {
        publish(number).await;
    }
    let mut seen = Vec::new();
    let mut cursor = String::new();
    for page in 0.. {
        let shown = api.get(&format!("/v1/events?name=e&limit=5{cursor}")).await.expect_status(200);
        let ids = shown["data"].as_array().unwrap().iter().map(|event| event["id"].as_str().unwrap().to_owned());
        seen.extend(ids);
        publish(100 + page).await;
        match shown["next"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => break,
        }
    }
    let newest_first: Vec<String> = (0..23).rev().map(|number| format!("n{number}")).collect();
    assert_eq!(seen, newest_first);
    assert_eq!(seen.iter().collect::<BTreeSet<_>>().len(), 23);
    for wrong in ["limit=0", "limit=251", "limit=x", "cursor=!", "cursor=aGVsbG8", "since=yesterday", "nmae=e"] {
        let refused = api.get(&format!("/v1/events?{wrong}")).await.expect_status(400);
        assert_eq!(refused["code"], "invalid_request", "{wrong}: {}", refused.text());
    }
    for (path, count) in [("/v1/events/", 23 + 5), ("/v1/hooks", 1)] {
        let first = api.get(&format!("{path}?limit=250")).await.expect_status(200);
        assert!(first["data"].as_array().unwrap().len() >= count, "{path}: {}", first.text());
    }
}
