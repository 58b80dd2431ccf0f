//! Hooks: made, shown, changed, listed, deleted.

use serde_json::{Value, json};
use std::time::Duration;

use crate::kit::{KEY, door};

#[tokio::test]
async fn a_hook_is_shown_as_it_was_made() {
    let door = door().await;
    let made = door.post("/v1/hooks", json!({"name": "person.created"})).await.ok(201);
    let bare = json!({
        "name": "person.created", "description": "", "fields": null, "fields_for": "all", "schema": null,
        "defaults": {"timeout": null, "schedule": null},
        "created_at": "2026-11-21T09:56:40.000Z", "updated_at": "2026-11-21T09:56:40.000Z",
    });
    assert_eq!(made, bare);
    let full = json!({
        "name": "a/b.c%d", "description": "für\nalle", "fields": ["n", {"name": "at", "type": "integer"}],
        "fields_for": "webhooks", "schema": {"type": "object"},
        "defaults": {"timeout": "15s", "schedule": ["0s", "90s"]},
    });
    door.post("/v1/hooks", full.clone()).await.ok(201);
    let shown = door.get("/v1/hooks/a%2Fb.c%25d").await.ok(200);
    for (field, value) in full.as_object().unwrap() {
        assert_eq!(&shown[field], value, "{field}");
    }
    assert_eq!(door.get("/v1/hooks/person.created/").await.ok(200), bare);
    assert_eq!(door.get("/a/one/v1/hooks/person.created").await.ok(200), bare);
}

#[tokio::test]
async fn a_change_keeps_what_is_absent_and_resets_what_is_null() {
    let door = door().await;
    let body = json!({"name": "h", "description": "d", "fields": [], "schema": true,
        "defaults": {"timeout": "5s", "schedule": ["0s"]}});
    door.post("/v1/hooks", body.clone()).await.ok(201);
    door.clock.advance(Duration::from_secs(60));
    let same = door.patch("/v1/hooks/h", json!({"name": "h"})).await.ok(200);
    for (field, value) in body.as_object().unwrap() {
        assert_eq!(&same[field], value, "{field}");
    }
    assert_ne!(same["updated_at"], same["created_at"]);
    let changed = door.patch("/v1/hooks/h", json!({"defaults": {"timeout": "9s"}, "fields": ["a"]})).await.ok(200);
    assert_eq!(changed["defaults"], json!({"timeout": "9s", "schedule": null}), "given as a whole");
    assert_eq!((&changed["fields"], &changed["description"]), (&json!(["a"]), &json!("d")));
    let changed = door.patch("/v1/hooks/h", json!({"fields_for": "webhooks"})).await.ok(200);
    assert_eq!((&changed["fields"], &changed["fields_for"]), (&json!(["a"]), &json!("webhooks")));
    let nothing = json!({"description": null, "fields": null, "fields_for": null, "schema": null, "defaults": null});
    let reset = door.patch("/v1/hooks/h", nothing).await.ok(200);
    assert_eq!(reset["fields_for"], "all");
    assert_eq!(reset["defaults"], json!({"timeout": null, "schedule": null}));
    assert_eq!((&reset["description"], &reset["fields"], &reset["schema"]), (&json!(""), &Value::Null, &Value::Null));
}

#[tokio::test]
async fn a_hook_that_is_named_stays() {
    let door = door().await;
    door.hook("h").await;
    let id = door.listener(json!({"url": "https://partner.example/", "hooks": ["h"]})).await;
    let refused = door.delete("/v1/hooks/h").await.refused(409, "in_use");
    assert_eq!(refused["detail"], "a listener names this hook");
    assert_eq!(door.delete(&format!("/v1/listeners/{id}")).await.ok(204), Value::Null);
    assert_eq!(door.delete("/v1/hooks/h").await.ok(204), Value::Null);
    door.get("/v1/hooks/h").await.refused(404, "not_found");
    door.delete("/v1/hooks/h").await.refused(404, "not_found");
}

// covers: G015
#[tokio::test]
async fn a_schema_is_kept_as_it_came() {
    let door = door().await;
    let schema = r#"{"maximum": 1e400, "b":18446744073709551617,  "a":[ ]}"#;
    let made = door.call(KEY, "POST", "/v1/hooks", format!(r#"{{"name":"h","schema":{schema}}}"#)).await;
    assert_eq!(made.status, 201, "{}", made.text);
    let shown = door.get("/v1/hooks/h").await.text;
    assert!(shown.contains(&format!("\"schema\":{schema},")), "{shown}");
}

#[tokio::test]
async fn hooks_are_listed_by_name_page_by_page() {
    let door = door().await;
    for n in 0..53 {
        door.hook(&format!("h{n:02}")).await;
    }
    let names: Vec<Value> = door.all("/v1/hooks", 10).await.iter().map(|hook| hook["name"].clone()).collect();
    let wanted: Vec<Value> = (0..53).map(|n| json!(format!("h{n:02}"))).collect();
    assert_eq!(names, wanted);
    assert_eq!(door.get("/v1/hooks").await.ok(200)["data"].as_array().unwrap().len(), 50);
    for n in 53..60 {
        door.hook(&format!("h{n:02}")).await;
    }
    let full = door.post("/v1/hooks", json!({"name": "more"})).await.refused(422, "limit_reached");
    assert!(full["remedy"].as_str().unwrap().contains("apps.limits.hooks"));
}
