//! Listeners: made, shown, changed, listed, tested, disabled, deleted.

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::{Value, json};
use tidings_model::app::AppLimits;
use tidings_testkit::Receiver;

use crate::kit::{SOON, door, door_with, text};

#[tokio::test]
async fn a_listener_is_shown_as_it_was_made() {
    let door = door().await;
    door.hook("h").await;
    let answer = door.post("/v1/listeners", json!({"url": "https://partner.example/in", "hooks": ["h"]})).await;
    assert_eq!(answer.header("cache-control"), Some("no-store"));
    let mut made = answer.ok(201);
    let (id, secret) = (text(&made["id"]), text(&made["secret"]));
    assert!(id.starts_with("lst_") && secret.starts_with("whsec_"), "{made}");
    made.as_object_mut().unwrap().remove("secret");
    let bare = json!({
        "id": id, "url": "https://partner.example/in", "hooks": ["h"], "match": {}, "headers": {}, "rate": null,
        "concurrency": null, "order": "none", "timeout": null, "schedule": null, "enabled": true, "owner": null,
        "description": "", "disabled_reason": null, "disabled_at": null, "failing_since": null,
        "created_at": "2026-11-21T09:56:40.000Z", "updated_at": "2026-11-21T09:56:40.000Z",
    });
    assert_eq!(made, bare);
    assert_eq!(door.get(&format!("/v1/listeners/{id}/")).await.ok(200), bare);
    assert_eq!(door.get("/a/one/v1/listeners/").await.ok(200), json!({"data": [bare], "next": null}));

    let full = json!({
        "url": "https://partner.example/?q=1", "hooks": ["h", "x.*", "*"],
        "match": {"n": 12345678901234567890_u64, "name": {"starts_with": "J", "first": "Jo"}},
        "rate": 7, "concurrency": 3, "order": "key", "timeout": "2500ms", "schedule": ["0s", "90s"], "enabled": false,
        "owner": "c7", "description": "für\nÅdne", "headers": {"X-Token": "t"},
    });
    let made = door.post("/v1/listeners", full.clone()).await.ok(201);
    for (field, value) in full.as_object().unwrap().iter().filter(|(field, _)| *field != "headers") {
        assert_eq!(&made[field], value, "{field}");
    }
    assert_eq!(made["headers"], json!({"X-Token": "***"}));
    assert_eq!((&made["disabled_reason"], &made["disabled_at"]), (&json!("by request"), &made["created_at"]));
    assert_eq!(made["warnings"].as_array().unwrap().len(), 1, "{made}");
}

// covers: G172, G173, G174
#[tokio::test]
async fn a_match_that_would_never_hold_is_refused_or_warned_of() {
    let door = door().await;
    door.post("/v1/hooks", json!({"name": "person", "fields": ["name", "age"]})).await.ok(201);
    let listener = |filter: Value| json!({"url": "https://a.example/", "hooks": ["person"], "match": filter});
    for (filter, field, remedy) in [
        (json!({"name": ["Joe", "Ann"]}), "match.name", "{\"in\": [\"Joe\",\"Ann\"]}"),
        (json!({"name": {"startswith": "J"}}), "match.name.startswith", "{\"starts_with\": \"J\"}"),
        (json!({"age": {"gte": 18, "lt": 65}}), "match.age", "{\"all\": [{\"gte\": 18}, {\"lt\": 65}]}"),
        (json!({"age": {"$gt": 18}}), "match.age.$gt", "\".$gt\""),
    ] {
        let refused = door.post("/v1/listeners", listener(filter)).await.refused(422, "invalid_field");
        assert_eq!(refused["field"], field, "{refused}");
        assert!(text(&refused["remedy"]).contains(remedy), "{refused}");
    }
    let made = door.post("/v1/listeners", listener(json!({"nmae": "Joe"}))).await.ok(201);
    let warnings = text(&made["warnings"][0]);
    assert!(warnings.contains("match.nmae") && warnings.contains("did you mean \"name\""), "{made}");
    let path = format!("/v1/listeners/{}", text(&made["id"]));
    let mended = door.patch(&path, json!({"match": {"name": {"in": ["Joe", "Ann"]}}})).await.ok(200);
    assert_eq!(mended["warnings"], Value::Null, "{mended}");
    door.post("/v1/hooks", json!({"name": "order", "fields": ["total"]})).await.ok(201);
    let moved = door.patch(&path, json!({"hooks": ["order"]})).await.ok(200);
    assert!(text(&moved["warnings"][0]).contains("match.name"), "the hooks are others: {moved}");
}

// covers: G013
#[tokio::test]
async fn an_apps_matches_and_texts_have_a_budget() {
    let door = door_with(AppLimits { matches: 1 << 20, catalogue: 1 << 20, ..AppLimits::default() }).await;
    door.hook("h").await;
    // 60 KiB each, of 1 MiB.
    let likes: serde_json::Map<_, _> = (0..2).map(|n| (format!("f{n}"), json!({"like": r"^\w+@\w+$"}))).collect();
    let listener = |filter: Value| json!({"url": "https://a.example/", "hooks": ["h"], "match": filter});
    let mut made = Vec::new();
    let refused = loop {
        let answer = door.post("/v1/listeners", listener(Value::Object(likes.clone()))).await;
        if answer.status != 201 {
            break answer.refused(422, "limit_reached");
        }
        made.push(text(&answer.ok(201)["id"]));
        assert!(made.len() < 50, "there is no end");
    };
    assert!(made.len() > 3, "{made:?}");
    assert_eq!(refused["field"], "match", "{refused}");
    assert!(text(&refused["detail"]).contains("KiB are used"), "{refused}");
    assert!(text(&refused["remedy"]).contains("apps.limits.matches"), "{refused}");
    // A listener without a match is none of that; nor is a change of anything else; and what goes makes room.
    door.post("/v1/listeners", listener(json!({}))).await.ok(201);
    let path = format!("/v1/listeners/{}", made[0]);
    door.patch(&path, json!({"description": "changed"})).await.ok(200);
    door.patch(&path, json!({"match": {"a": 1}})).await.ok(200);
    door.post("/v1/listeners", listener(Value::Object(likes))).await.ok(201);

    let big = json!({"type": "object", "description": "x".repeat(60_000)});
    let mut hooks = 0;
    let refused = loop {
        let answer = door.post("/v1/hooks", json!({"name": format!("big.{hooks}"), "schema": big})).await;
        if answer.status != 201 {
            break answer.refused(422, "limit_reached");
        }
        hooks += 1;
        assert!(hooks < 50, "there is no end");
    };
    assert!(text(&refused["remedy"]).contains("apps.limits.catalogue"), "{refused}");
}

#[tokio::test]
async fn a_change_keeps_what_is_absent_and_resets_what_is_null() {
    let door = door().await;
    door.hook("h").await;
    let given = json!({"url": "https://a.example/", "hooks": ["h"], "match": {"a": 1}, "rate": 1, "concurrency": 1,
        "order": "fifo", "timeout": "1s", "schedule": ["0s"], "owner": "o", "description": "d",
        "headers": {"X-A": "1", "X-B": "2"}});
    let path = format!("/v1/listeners/{}", door.listener(given.clone()).await);
    let before = door.get(&path).await.ok(200);
    assert_eq!(door.patch(&path, json!({})).await.ok(200), before);
    let changed = door.patch(&path, json!({"url": "https://b.example/", "headers": {"x-a": "***"}})).await.ok(200);
    assert_eq!((&changed["url"], &changed["headers"]), (&json!("https://b.example/"), &json!({"x-a": "***"})));
    let nothing = json!({"match": null, "rate": null, "concurrency": null, "order": null, "timeout": null,
        "schedule": null, "owner": null, "description": null, "headers": null, "enabled": null});
    let reset = door.patch(&path, nothing).await.ok(200);
    for (field, value) in json!({"match": {}, "rate": null, "concurrency": null, "order": "none", "timeout": null,
        "schedule": null, "owner": null, "description": "", "headers": {}, "enabled": true})
    .as_object()
    .unwrap()
    {
        assert_eq!(&reset[field], value, "{field}");
    }
}

#[tokio::test]
async fn one_that_is_disabled_by_request_says_so_until_it_is_enabled() {
    let door = door().await;
    door.hook("h").await;
    let path = format!("/v1/listeners/{}", door.listener(json!({"url": "https://a.example/", "hooks": ["h"]})).await);
    let off = door.patch(&path, json!({"enabled": false})).await.ok(200);
    assert_eq!((&off["enabled"], &off["disabled_reason"]), (&json!(false), &json!("by request")));
    door.clock.advance(Duration::from_secs(60));
    let still = door.patch(&path, json!({"enabled": false})).await.ok(200);
    assert_eq!(still["disabled_at"], off["disabled_at"]);
    let test = door.post(&format!("{path}/test"), json!({})).await.refused(409, "conflict");
    assert!(text(&test["remedy"]).contains("\"enabled\":true"), "{test}");
    let on = door.patch(&path, json!({"enabled": true})).await.ok(200);
    assert_eq!(
        (&on["enabled"], &on["disabled_reason"], &on["disabled_at"]),
        (&json!(true), &Value::Null, &Value::Null)
    );
}

#[tokio::test]
async fn listeners_are_paged_without_loss_or_repeat_while_others_come_and_go() {
    let door = door().await;
    door.hook("h").await;
    let mut made = Vec::new();
    for n in 0..120 {
        made.push(door.listener(json!({"url": format!("https://p{n}.example/"), "hooks": ["h"]})).await);
    }
    let mut seen = Vec::new();
    let mut path = "/v1/listeners?limit=7".to_owned();
    loop {
        let page = door.get(&path).await.ok(200);
        seen.extend(page["data"].as_array().unwrap().iter().map(|listener| text(&listener["id"])));
        let Some(next) = page["next"].as_str() else { break };
        path = format!("/v1/listeners?limit=7&cursor={next}");
        // The last one that was shown goes: the next page begins behind it all the same.
        door.delete(&format!("/v1/listeners/{}", seen.last().unwrap())).await.ok(204);
    }
    assert_eq!(seen, made);
    assert_eq!(seen.iter().collect::<BTreeSet<_>>().len(), 120);
}

#[tokio::test]
async fn listeners_are_found_by_hook_owner_and_state() {
    let door = door().await;
    door.hook("a.b").await;
    let make = |hooks: Value, more: Value| {
        let mut fields = json!({"url": "https://p.example/", "hooks": hooks});
        fields.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        door.listener(fields)
    };
    let exact = make(json!(["a.b"]), json!({"owner": "x"})).await;
    let pattern = make(json!(["a.*"]), json!({"owner": "x", "enabled": false})).await;
    let ours = make(json!(["tidings.test"]), json!({})).await;
    let ids = async |query: &str| -> Vec<String> {
        let all = door.all(&format!("/v1/listeners{query}"), 1).await;
        all.iter().map(|listener| text(&listener["id"])).collect()
    };
    assert_eq!(ids("?hook=a.b").await, [exact.clone(), pattern.clone()]);
    assert_eq!(ids("?hook=tidings.test").await, [ours]);
    assert_eq!(ids("?owner=x&enabled=true").await, [exact]);
    assert_eq!(ids("?enabled=false").await, [pattern]);
    assert!(ids("?owner=nobody").await.is_empty());
}

// covers: D02, S16
#[tokio::test]
async fn a_test_is_one_request_to_one_listener_and_limited() {
    let receiver = Receiver::start();
    let door = door().await;
    door.hook("h").await;
    let id = door.listener(json!({"url": receiver.url("/in"), "hooks": ["h"], "match": {"never": true}})).await;
    door.listener(json!({"url": receiver.url("/other"), "hooks": ["*", "tidings.test"]})).await;
    let path = format!("/v1/listeners/{id}/test");
    let sent = door.call(crate::kit::KEY, "POST", &path, "").await.ok(202);
    let delivery = door.delivery_in(&text(&sent["delivery"]), "delivered").await;
    assert_eq!((&delivery["event"], &delivery["listener"]), (&sent["id"], &json!(id)));
    assert_eq!(delivery["name"], "tidings.test");
    let named = door.post(&path, json!({"name": "h", "data": {"big": 1}})).await.ok(202);
    door.delivery_in(&text(&named["delivery"]), "delivered").await;
    let got = receiver.received_on("/in");
    assert_eq!((got.len(), receiver.total()), (2, 2));
    assert_eq!((&got[0].json()["type"], &got[1].json()["data"]), (&json!("tidings.test"), &json!({"big": 1})));
    for _ in 2..10 {
        door.post(&path, json!({})).await.ok(202);
    }
    let refused = door.post(&path, json!({})).await;
    refused.refused(429, "rate_limited");
    assert_eq!(refused.header("retry-after"), Some("7"));
    door.clock.advance(Duration::from_secs(7));
    door.post(&path, json!({})).await.ok(202);
    receiver.wait_for(11, |_| true, SOON).await;
    assert_eq!(receiver.received_on("/other").len(), 0);
}

// covers: I05
#[tokio::test]
async fn a_url_is_shown_as_it_is_called() {
    let door = door().await;
    door.hook("h").await;
    for (given, shown) in [
        ("https://bücher.example/", "https://xn--bcher-kva.example/"),
        ("https://аррӏе.example/a#frag", "https://xn--80ak6aa92e.example/a"),
        ("HTTPS://Partner.Example:443/a/../b", "https://partner.example/b"),
        ("https://partner.example", "https://partner.example/"),
    ] {
        let made = door.post("/v1/listeners", json!({"url": given, "hooks": ["h"]})).await.ok(201);
        assert_eq!(made["url"], shown, "{given}");
    }
}
