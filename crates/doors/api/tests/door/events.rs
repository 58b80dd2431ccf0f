//! Events: published, logged, shown, repeated.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use http::Request;
use serde_json::{Value, json};
use tidings_model::app::AppLimits;
use tokio::task::JoinSet;

use crate::kit::{Answer, Door, KEY, door, door_that_refuses_unknown_hooks, door_with, text};

async fn keyed(door: &Door, key: &str, body: &str) -> Answer {
    let request = Request::post("/v1/events")
        .header("authorization", format!("Bearer {KEY}"))
        .header("idempotency-key", key)
        .body(Body::from(body.to_owned()));
    door.send(request.unwrap()).await
}

#[tokio::test]
async fn an_event_is_logged_if_its_name_is_a_hook() {
    let door = door().await;
    let said = door.post("/v1/events", json!({"name": "nobody.cares", "id": "e0"})).await.ok(202);
    assert_eq!(said, json!({"id": "e0", "logged": false, "durable": false, "deliveries": 0}));
    door.get("/v1/events/e0").await.refused(404, "not_found");

    door.hook("person.created").await;
    door.listener(json!({"url": "http://127.0.0.1:1/", "hooks": ["person.created"]})).await;
    let event = json!({"name": "person.created", "id": "e1", "data": {"n": 1}, "channels": ["b", "a", "b"], "key": "k",
        "op": "update", "except": "123.456", "time": "2026-11-21T10:56:00.123+01:00"});
    let said = door.post("/v1/events", event).await.ok(202);
    let durable = door.durable;
    let channels = json!([{"name": "b", "sessions": 0}, {"name": "a", "sessions": 0}]);
    assert_eq!(said, json!({"id": "e1", "logged": true, "durable": durable, "deliveries": 1, "channels": channels}));
    assert_eq!(
        door.get("/v1/events/e1").await.ok(200),
        json!({"id": "e1", "name": "person.created", "channels": ["b", "a"], "data": {"n": 1}, "key": "k",
            "op": "update",
            "time": "2026-11-21T09:56:00.123Z", "received_at": "2026-11-21T09:56:40.000Z", "deliveries": 1})
    );
    let made = door.post("/v1/events/", json!({"name": "person.created"})).await.ok(202);
    let shown = door.get(&format!("/v1/events/{}/", text(&made["id"]))).await.ok(200);
    assert_eq!((&shown["data"], &shown["op"], &shown["key"]), (&Value::Null, &Value::Null, &Value::Null));
    assert!(text(&made["id"]).starts_with("evt_"));
}

// covers: I04
#[tokio::test]
async fn data_comes_back_byte_for_byte() {
    let door = door().await;
    door.hook("h").await;
    let values = [
        "null",
        "true",
        r#""""#,
        r#""\u00e5 \/ å \ud83d\ude00""#,
        r#""\ud800""#,
        "1e400",
        "-0.0",
        "123456789012345678901234567890",
        "1.10",
        r#"{"a":1,"a":2, "b" : [ 1 , 2 ],"":null}"#,
        "{ \"z\":1,\n\t\"a\":2 }",
        "[]",
    ];
    for (n, value) in values.iter().enumerate() {
        let body = format!(r#"{{"name":"h","id":"e{n}","data":  {value}  }}"#);
        door.call(KEY, "POST", "/v1/events", body).await.ok(202);
        let shown = door.get(&format!("/v1/events/e{n}")).await;
        assert!(shown.text.contains(&format!(r#""data":{value},"#)), "{value}: {}", shown.text);
        let listed = door.get("/v1/events?limit=1&name=h").await;
        assert!(listed.text.contains(&format!(r#""data":{value},"#)), "{value}: {}", listed.text);
    }
}

#[tokio::test]
async fn data_that_is_not_json_comes_as_base64() {
    let door = door().await;
    door.hook("h").await;
    let post = async |id: &str, mut fields: Value| {
        fields["name"] = json!("h");
        fields["id"] = json!(id);
        door.post("/v1/events", fields).await.ok(202);
        door.get(&format!("/v1/events/{id}")).await.ok(200)
    };
    let bytes = post("b", json!({"data_base64": "AP8", "content_type": "image/png"})).await;
    assert_eq!((&bytes["data_base64"], &bytes["content_type"]), (&json!("AP8="), &json!("image/png")));
    assert!(bytes.get("data").is_none(), "{bytes}");
    let untyped = post("u", json!({"data_base64": "AP8=", "data": null})).await;
    assert_eq!(untyped["content_type"], "application/octet-stream");
    for (id, content_type) in [("j", "application/json; charset=utf-8"), ("k", "application/CloudEvents+JSON")] {
        let shown = post(id, json!({"data_base64": "eyJhIjoxfQ==", "content_type": content_type})).await;
        assert_eq!(shown["data"], json!({"a": 1}));
        assert!(shown.get("content_type").is_none(), "{shown}");
    }
}

// covers: P03
#[tokio::test]
async fn a_repeat_with_its_key_gets_the_same_answer() {
    let door = door().await;
    door.hook("h").await;
    door.listener(json!({"url": "http://127.0.0.1:1/", "hooks": ["h"]})).await;
    let first = keyed(&door, "k1", r#"{"name":"h","data":1}"#).await;
    first.ok(202);
    let again = keyed(&door, "k1", r#"{"name":"h","data":1}"#).await;
    assert_eq!((again.status, &again.text), (first.status, &first.text));
    let other = keyed(&door, "k1", r#"{"name":"h","data":2}"#).await.refused(409, "idempotency_key_taken");
    assert_eq!(other["field"], "Idempotency-Key");
    let unlogged = keyed(&door, "k2", r#"{"name":"not.a.hook"}"#).await.ok(202);
    assert_eq!(unlogged["logged"], true);
    assert_eq!(keyed(&door, "k2", r#"{"name":"not.a.hook"}"#).await.ok(202), unlogged);
    door.clock.advance(Duration::from_secs(24 * 3_600 + 1));
    let forgotten = keyed(&door, "k1", r#"{"name":"h","data":2}"#).await.ok(202);
    assert_ne!(forgotten["id"], first.json()["id"]);
}

// covers: P03
#[tokio::test]
async fn repeats_at_the_same_time_are_one_event() {
    let door = Arc::new(door().await);
    door.hook("h").await;
    let mut requests = JoinSet::new();
    for _ in 0..16 {
        let door = Arc::clone(&door);
        requests.spawn(async move { keyed(&door, "k", r#"{"name":"h"}"#).await.ok(202) });
    }
    let mut answers = requests.join_all().await;
    answers.dedup();
    assert_eq!(answers.len(), 1, "{answers:?}");
    assert_eq!(door.all("/v1/events?name=h", 50).await.len(), 1);
}

#[tokio::test]
async fn an_id_is_one_event() {
    let door = door().await;
    door.hook("h").await;
    let event = json!({"name": "h", "id": "mine", "data": 1});
    let first = door.post("/v1/events", event.clone()).await.ok(202);
    assert_eq!(door.post("/v1/events", event).await.ok(202), first);
    let taken = door.post("/v1/events", json!({"name": "h", "id": "mine", "data": 2})).await.refused(409, "id_taken");
    assert_eq!(taken["field"], "id");
}

#[tokio::test]
async fn the_log_is_listed_newest_first_by_name_channel_and_time() {
    let door = door().await;
    for name in ["a", "b"] {
        door.hook(name).await;
    }
    for n in 0..7 {
        door.clock.advance(Duration::from_secs(1));
        let name = if n % 2 == 0 { "a" } else { "b" };
        let channel = format!("c{}", n % 3);
        let event = json!({"name": name, "id": format!("e{n}"), "channels": [channel]});
        door.post("/v1/events", event).await.ok(202);
    }
    let ids = async |query: &str| -> Vec<String> {
        let all = door.all(&format!("/v1/events{query}"), 2).await;
        all.iter().map(|event| text(&event["id"])).collect()
    };
    assert_eq!(ids("").await, ["e6", "e5", "e4", "e3", "e2", "e1", "e0"]);
    assert_eq!(ids("?name=b").await, ["e5", "e3", "e1"]);
    assert_eq!(ids("?channel=c0").await, ["e6", "e3", "e0"]);
    assert_eq!(ids("?name=a&since=2026-11-21T09:56:43Z&until=2026-11-21T09:56:46Z").await, ["e4", "e2"]);
    assert_eq!(ids("?name=nothing").await, Vec::<String>::new());
}

#[tokio::test]
async fn data_has_to_fit_the_fields_of_its_hook() {
    let door = door().await;
    door.post("/v1/hooks", json!({"name": "h", "fields": ["x", {"name": "n", "type": "integer"}]})).await.ok(201);
    door.post("/v1/events", json!({"name": "h", "data": {"n": 1.0, "more": []}})).await.ok(202);
    let wrong = door.post("/v1/events", json!({"name": "h", "data": {"n": "1"}})).await.refused(422, "invalid_field");
    assert_eq!(wrong["field"], "data.n");
    let none = door.post("/v1/events", json!({"name": "h", "data": [1]})).await.refused(422, "invalid_field");
    assert_eq!(none["field"], "data");
}

// covers: D02
#[tokio::test]
async fn publishes_are_limited_per_app() {
    let door = door_with(AppLimits { publishes_per_second: 3, ..AppLimits::default() }).await;
    for _ in 0..3 {
        door.post("/v1/events", json!({"name": "h"})).await.ok(202);
    }
    let refused = door.post("/v1/events", json!({"name": "h"})).await;
    refused.refused(429, "rate_limited");
    assert_eq!(refused.header("retry-after"), Some("1"));
    door.call(crate::kit::OTHER_KEY, "POST", "/v1/events", r#"{"name":"h"}"#).await.ok(202);
    door.clock.advance(Duration::from_secs(1));
    door.post("/v1/events", json!({"name": "h"})).await.ok(202);
}

// covers: I06
#[tokio::test]
async fn what_is_too_big_or_too_deep_is_refused_with_its_limit() {
    let door = door().await;
    let body = |data: String| format!(r#"{{"name":"h","data":{data}}}"#);
    door.call(KEY, "POST", "/v1/events", body(format!("\"{}\"", "x".repeat(998)))).await.ok(202);
    let over = door.call(KEY, "POST", "/v1/events", body(format!("\"{}\"", "x".repeat(999)))).await;
    let over = over.refused(413, "too_large");
    assert_eq!(over["field"], "data");
    assert!(text(&over["detail"]).contains("1000"), "{over}");
    assert!(text(&over["remedy"]).contains("`apps.limits.payload`"), "{over}");
    let huge = door.call(KEY, "POST", "/v1/events", vec![b' '; 1 << 20]).await.refused(413, "too_large");
    assert!(text(&huge["remedy"]).contains("`apps.limits.payload`"), "{huge}");
    let encoded = json!({"name": "h", "data_base64": "A".repeat(1_400)});
    assert_eq!(door.post("/v1/events", encoded).await.refused(413, "too_large")["field"], "data_base64");
    let nested = |depth: usize| body(format!("{}{}", "[".repeat(depth), "]".repeat(depth)));
    door.call(KEY, "POST", "/v1/events", nested(64)).await.ok(202);
    let deep = door.call(KEY, "POST", "/v1/events", nested(65)).await.refused(422, "invalid_field");
    assert_eq!((&deep["field"], &deep["detail"]), (&json!("data"), &json!("nested more than 64 deep")));
    let bomb = "[".repeat(90_000) + &"]".repeat(90_000);
    door.call(KEY, "POST", "/v1/events", bomb).await.refused(422, "invalid_field");
    let many = "[".repeat(190_000);
    door.call(KEY, "POST", "/v1/events", many).await.refused(400, "invalid_json");
}

// covers: G181
#[tokio::test]
async fn the_answer_says_who_got_it_and_who_was_probably_meant() {
    let door = door().await;
    for name in ["person.created", "person.deleted"] {
        door.hook(name).await;
    }
    door.listener(json!({"url": "http://127.0.0.1:1/", "hooks": ["person.*"]})).await;
    let mut listening = [door.listen("channels=news,kept:a").await, door.listen("channels=news").await];
    for (listening, n) in listening.iter_mut().zip([2, 1]) {
        // They are in the channels once they hear something.
        door.post("/v1/events", json!({"name": "e", "channels": ["news"], "data": n})).await.ok(202);
        listening.message().await;
    }
    let publish = async |name: &str, channels: &[&str]| {
        let event = json!({"name": name, "channels": channels});
        let answer = door.post("/v1/events", event).await.ok(202);
        (answer["channels"].clone(), answer["deliveries"].clone(), answer["hint"].as_str().map(str::to_owned))
    };
    let reached = |channels: &[(&str, u64)]| -> Value {
        channels.iter().map(|(name, sessions)| json!({"name": name, "sessions": sessions})).collect()
    };
    let (channels, deliveries, hint) = publish("person.created", &["kept:a", "news", "nobody"]).await;
    assert_eq!((channels, deliveries), (reached(&[("kept:a", 1), ("news", 2), ("nobody", 0)]), json!(1)));
    assert_eq!(hint, None);
    let (channels, deliveries, hint) = publish("person.craeted", &["news"]).await;
    assert_eq!((channels, deliveries), (reached(&[("news", 2)]), json!(0)));
    assert_eq!(hint.unwrap(), "there is no hook \"person.craeted\"; did you mean \"person.created\"?");
    let (channels, _, hint) = publish("greeting", &["nwes"]).await;
    assert_eq!(channels, reached(&[("nwes", 0)]));
    assert_eq!(hint.unwrap(), "no session is in the channel \"nwes\"; did you mean \"news\"?");
    // Nothing is near, or somebody got it.
    for (name, channels) in [("greeting", &[][..]), ("greeting", &["elsewhere"]), ("greeting", &["nwes", "news"])] {
        assert_eq!(publish(name, channels).await.2, None, "{name} {channels:?}");
    }
    let (channels, _, hint) = publish("person.create", &[]).await;
    assert_eq!((channels, hint.unwrap().contains("\"person.created\"")), (Value::Null, true));
}

// covers: G182
#[tokio::test]
async fn a_repeat_tells_nobody_and_says_so_by_leaving_it_out() {
    let door = door().await;
    door.hook("person.created").await;
    for body in [r#"{"name":"person.craeted","channels":["news"]}"#, r#"{"name":"person.created","channels":["news"]}"#]
    {
        let first = keyed(&door, body, body).await.ok(202);
        assert_eq!(first["channels"][0]["name"], "news");
        let again = keyed(&door, body, body).await.ok(202);
        assert_eq!(first["id"], again["id"]);
        assert!(again.get("channels").is_none() && again.get("hint").is_none(), "{again}");
    }
}

// covers: G183
#[tokio::test]
async fn an_app_can_refuse_events_that_have_no_hook() {
    let door = door_that_refuses_unknown_hooks().await;
    door.hook("person.created").await;
    let refused = async |event: Value| door.post("/v1/events", event).await.refused(422, "unknown_hook");
    let near = refused(json!({"name": "person.craeted", "channels": ["news"]})).await;
    assert_eq!(near["field"], "name");
    assert!(text(&near["remedy"]).contains("did you mean \"person.created\"?"), "{near}");
    let far = refused(json!({"name": "greeting"})).await;
    assert!(text(&far["remedy"]).contains("POST /v1/hooks"), "{far}");
    keyed(&door, "k", r#"{"name":"greeting"}"#).await.refused(422, "unknown_hook");
    // What can only be meant for a channel, and what has a hook.
    door.post("/v1/events", json!({"name": "greeting", "channels": ["news"]})).await.ok(202);
    door.post("/v1/events", json!({"name": "person.created"})).await.ok(202);
    assert!(door.all("/v1/events?name=greeting", 50).await.is_empty());
}
