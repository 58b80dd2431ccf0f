//! Bugs of durian, our predecessor, as a user would see them here if they came back.

use std::time::Duration;

use serde_json::{Value, json};
use tidings_testkit::{Answer, Receiver, Server};

use crate::kit::{attempts, hook, listener, nothing_pending, only_settled, open, publish, told};

/// Makes a listener, publishes once, and returns the outcomes of all attempts.
async fn outcomes(server: &Server, fields: Value, event: &str) -> Vec<Value> {
    let api = server.api();
    listener(&api, fields).await;
    let delivery = only_settled(&api, &publish(&api, event, json!({"n": 1})).await).await;
    let attempts = attempts(&api, &delivery).await;
    assert_eq!(delivery["attempts"], attempts.len(), "{delivery}");
    attempts
}

// covers: B1
#[tokio::test]
async fn whether_to_retry_is_what_the_schedule_says() {
    let receiver = Receiver::start();
    receiver.respond_otherwise(Answer::status(500));
    let server = open().start().await;
    let api = server.api();
    for (name, schedule) in [("once", json!(["0s"])), ("thrice", json!(["0s", "20ms", "20ms"]))] {
        hook(&api, name).await;
        let url = receiver.url(&format!("/{name}"));
        let made = outcomes(&server, json!({"url": url, "hooks": [name], "schedule": schedule}), name).await;
        let wanted = schedule.as_array().unwrap().len();
        assert_eq!(made.len(), wanted, "{made:?}");
        assert_eq!(receiver.received_on(&format!("/{name}")).len(), wanted);
        assert!(made.iter().all(|a| a["outcome"] == "http_status" && a["status"] == 500), "{made:?}");
        assert_eq!(made.last().unwrap()["next_attempt_at"], Value::Null);
    }
}

// covers: B2, B10
#[tokio::test]
async fn one_listeners_timeout_is_read_and_is_nobody_elses() {
    let receiver = Receiver::start();
    receiver.respond("/hangs", Answer::hang());
    receiver.respond("/slow", Answer::status(200).delay(Duration::from_millis(700)));
    let server = open().start().await;
    let api = server.api();
    hook(&api, "e").await;
    let hasty = json!({"url": receiver.url("/hangs"), "hooks": ["e"], "timeout": "200ms", "schedule": ["0s"]});
    let patient = json!({"url": receiver.url("/slow"), "hooks": ["e"], "schedule": ["0s"]});
    let (hasty, patient) = (listener(&api, hasty).await, listener(&api, patient).await);
    let event = publish(&api, "e", json!(1)).await;
    let deliveries = crate::kit::settled(&api, &event).await;
    let of = |id: &str| deliveries.iter().find(|d| d["listener"] == id).unwrap();
    let gave_up = attempts(&api, of(&hasty.id)).await;
    assert_eq!(gave_up[0]["outcome"], "timeout", "{gave_up:?}");
    let took = gave_up[0]["duration_ms"].as_u64().unwrap();
    assert!((200..5_000).contains(&took), "its own 200 ms, not the configured 15 s: {took} ms");
    let waited = attempts(&api, of(&patient.id)).await;
    assert_eq!((waited.len(), &waited[0]["outcome"]), (1, &json!("delivered")), "{waited:?}");
}

// covers: B2, B3, B4
#[tokio::test]
async fn the_nearer_setting_wins_and_can_be_taken_back() {
    let receiver = Receiver::start();
    receiver.respond_otherwise(Answer::status(500));
    // On for all: retries after an hour.
    let server = open().env("TIDINGS__COURIER__SCHEDULE", r#"["0s", "1h"]"#).start().await;
    let api = server.api();
    // B3: what the hook says is not overridden by the general default …
    let defaults = json!({"timeout": "250ms", "schedule": ["0s", "10ms"]});
    api.post("/v1/hooks", json!({"name": "h", "defaults": defaults})).await.expect_status(201);
    let of_hook = listener(&api, json!({"url": receiver.url("/hook"), "hooks": ["h"]})).await;
    let attempts_of = |event: String| {
        let api = api.clone();
        async move { attempts(&api, &only_settled(&api, &event).await).await.len() }
    };
    assert_eq!(attempts_of(publish(&api, "h", json!({})).await).await, 2);
    // … B4: and what is on for all can be off for one.
    let change = json!({"schedule": ["0s"]});
    api.patch(&format!("/v1/listeners/{}", of_hook.id), change).await.expect_status(200);
    assert_eq!(attempts_of(publish(&api, "h", json!({})).await).await, 1);
    // Taken back, the hook's holds again.
    let back = api.patch(&format!("/v1/listeners/{}", of_hook.id), json!({"schedule": null})).await.expect_status(200);
    assert_eq!(back["schedule"], Value::Null);
    assert_eq!(attempts_of(publish(&api, "h", json!({})).await).await, 2);
    // The hook's timeout holds for a listener that has none.
    receiver.respond("/hook", Answer::hang());
    let event = publish(&api, "h", json!({})).await;
    let hung = attempts(&api, &only_settled(&api, &event).await).await;
    assert!(hung.iter().all(|a| a["outcome"] == "timeout" && a["duration_ms"].as_u64() < Some(5_000)), "{hung:?}");
}

// covers: B5
#[tokio::test]
async fn declaring_a_hook_connects_it_to_the_models_changes() {
    let receiver = Receiver::start();
    let server = open().start().await;
    let api = server.api();
    // One listener waits for the hook; the other comes after it.
    let of_creations = json!({"url": receiver.url("/before"), "hooks": ["person.*"], "match": {"$op": "create"}});
    listener(&api, of_creations).await;
    hook(&api, "person.saved").await;
    listener(&api, json!({"url": receiver.url("/after"), "hooks": ["person.saved"]})).await;
    for op in ["create", "update"] {
        let saved = json!({"id": op, "name": "person.saved", "op": op, "data": {"name": "Joe"}});
        let answer = api.post("/v1/events", saved).await.expect_status(202);
        assert_eq!(answer["logged"], true, "{}", answer.text());
    }
    nothing_pending(&api).await;
    let ids = |ids: &[&str]| ids.iter().map(|&id| id.to_owned()).collect::<Vec<_>>();
    let expected = [("/after".to_owned(), ids(&["create", "update"])), ("/before".to_owned(), ids(&["create"]))];
    assert_eq!(told(&receiver.received()), expected.into());
}

// covers: B6
#[tokio::test]
async fn a_hook_without_fields_sends_all_and_one_with_none_sends_none() {
    let receiver = Receiver::start();
    let server = open().start().await;
    let api = server.api();
    let data = json!({"b": 1, "a": {"deep": [1, 2]}, "secret": "x"});
    for (name, fields, sent) in [
        ("absent", json!({"name": "absent"}), data.clone()),
        ("null", json!({"name": "null", "fields": null}), data.clone()),
        ("none", json!({"name": "none", "fields": []}), json!({})),
        (
            "two",
            json!({"name": "two", "fields": ["a", {"name": "b", "type": "integer"}]}),
            json!({"b": 1, "a": {"deep": [1, 2]}}),
        ),
    ] {
        api.post("/v1/hooks", fields).await.expect_status(201);
        listener(&api, json!({"url": receiver.url(&format!("/{name}")), "hooks": [name]})).await;
        publish(&api, name, data.clone()).await;
        nothing_pending(&api).await;
        assert_eq!(receiver.received_on(&format!("/{name}"))[0].json()["data"], sent, "{name}");
    }
}

// covers: B7
#[tokio::test]
async fn two_hooks_on_one_model_both_fire_and_nobody_is_told_twice() {
    let receiver = Receiver::start();
    let server = open().start().await;
    let api = server.api();
    hook(&api, "person.saved").await;
    hook(&api, "person.audited").await;
    for (path, hooks) in [
        ("/saved", json!(["person.saved"])),
        ("/saved-too", json!(["person.saved"])),
        ("/audited", json!(["person.audited"])),
        ("/overlapping", json!(["person.saved", "person.*", "*"])),
    ] {
        listener(&api, json!({"url": receiver.url(path), "hooks": hooks})).await;
    }
    for name in ["person.saved", "person.audited"] {
        api.post("/v1/events", json!({"id": name.replace('.', "-"), "name": name, "op": "update", "data": {"n": 1}}))
            .await
            .expect_status(202);
    }
    nothing_pending(&api).await;
    let ids = |ids: &[&str]| ids.iter().map(|&id| id.to_owned()).collect::<Vec<_>>();
    let expected = [
        ("/audited".to_owned(), ids(&["person-audited"])),
        ("/overlapping".to_owned(), ids(&["person-audited", "person-saved"])),
        ("/saved".to_owned(), ids(&["person-saved"])),
        ("/saved-too".to_owned(), ids(&["person-saved"])),
    ];
    assert_eq!(told(&receiver.received()), expected.into());
    assert!(receiver.received().iter().all(|request| request.json()["op"] == "update"));
}

// covers: B9
#[tokio::test]
async fn a_listeners_settings_are_stored_as_they_were_given() {
    let server = open().start().await;
    let api = server.api();
    hook(&api, "e").await;
    let given = json!({
        "url": "https://partner.example/in?x=1", "hooks": ["e", "e.*"],
        "match": {"n": {"is": 12345678901234567_u64}, ".like": "x"},
        "rate": 7, "concurrency": 3, "order": "key", "timeout": "2500ms", "schedule": ["0s", "90s", "24h"],
        "enabled": false, "owner": "customer-7", "description": "für Ådne",
    });
    let made = api.post("/v1/listeners", given.clone()).await.expect_status(201);
    let read = api.get(&format!("/v1/listeners/{}", made.text_at("id"))).await.expect_status(200);
    for (field, value) in given.as_object().unwrap() {
        assert_eq!((&made[field], &read[field]), (value, value), "{field}");
    }
    assert_eq!((&read["secret"], &read["disabled_reason"]), (&Value::Null, &json!("by request")), "{}", read.text());
}

// covers: B11
#[tokio::test]
async fn what_is_wrong_is_told_and_breaks_nothing() {
    let server = open().start().await;
    let api = server.api();
    hook(&api, "person.created").await;
    let url = "https://partner.example/";
    let misspelt = api.post("/v1/listeners", json!({"url": url, "hooks": ["person.craeted"]})).await.expect_status(422);
    assert_eq!((&misspelt["code"], &misspelt["field"]), (&json!("unknown_hook"), &json!("hooks[0]")));
    assert!(misspelt.text_at("remedy").contains("\"person.created\""), "{}", misspelt.text());
    for (fields, status, code, field) in [
        (json!({"hooks": ["person.created"]}), 422, "missing_field", "url"),
        (json!({"url": url}), 422, "missing_field", "hooks"),
        (json!({"url": url, "hooks": []}), 422, "invalid_field", "hooks"),
        (json!({"url": "notaurl", "hooks": ["person.created"]}), 422, "invalid_field", "url"),
        (json!({"url": "ftp://x.example/", "hooks": ["person.created"]}), 422, "invalid_field", "url"),
        (json!({"url": url, "hooks": ["person.created"], "concurency": 1}), 422, "unknown_field", "concurency"),
        (json!({"url": url, "hooks": ["person.created"], "concurrency": 0}), 422, "invalid_field", "concurrency"),
        (json!({"url": url, "hooks": ["person.created"], "timeout": "soon"}), 422, "invalid_field", "timeout"),
        (
            json!({"url": url, "hooks": ["person.created"], "schedule": ["0s", "x"]}),
            422,
            "invalid_field",
            "schedule[1]",
        ),
        (json!({"url": url, "hooks": ["person.created"], "secret": "whsec_short"}), 422, "invalid_field", "secret"),
    ] {
        let refused = api.post("/v1/listeners", fields.clone()).await.expect_status(status);
        assert_eq!(
            (&refused["code"], &refused["field"]),
            (&json!(code), &json!(field)),
            "{fields}: {}",
            refused.text()
        );
        assert!(refused.header("content-type").is_some_and(|kind| kind.starts_with("application/problem+json")));
    }
    let near = api.post("/v1/listeners", json!({"url": url, "hooks": ["person.created"], "concurency": 1})).await;
    assert!(near.text_at("remedy").contains("\"concurrency\""), "{}", near.text());
    for path in [
        "/v1/hooks/nothing",
        "/v1/listeners/lst_nothing",
        "/v1/deliveries/dlv_nothing",
        "/v1/events/evt_nothing",
        "/v1/nothing",
        "/v1/listeners/%00",
        "/v1/deliveries/dlv_9.9/attempts",
    ] {
        let missing = api.get(path).await;
        assert!(missing.status == 404 || missing.status == 400, "{path}: {} {}", missing.status, missing.text());
    }
    for body in ["", "{", "[]", "5", "null", "\u{0}", r#"{"name":"person.created","data":}"#] {
        let refused = api.request(http::Method::POST, "/v1/events").body(body, "application/json").await;
        assert!((400..500).contains(&refused.status), "{body:?}: {} {}", refused.status, refused.text());
    }
    assert!(!server.stderr().contains("panicked"), "{}", server.stderr());
}
