//! Apps: which key opens which app, and that no app's data is seen or changed from another.

use axum::body::Body;
use http::Request;
use serde_json::json;

use crate::kit::{KEY, OPERATOR, OTHER_KEY, SHUT_KEY, door, text};

// covers: T01
#[tokio::test]
async fn the_path_names_the_app_before_the_key_does() {
    let door = door().await;
    door.hook("only.in.one").await;
    for (key, path, status, code) in [
        (KEY, "/v1/hooks/only.in.one", 200, ""),
        (KEY, "/a/one/v1/hooks/only.in.one/", 200, ""),
        (OPERATOR, "/v1/hooks/only.in.one", 200, ""),
        (OPERATOR, "/a/one/v1/hooks/only.in.one", 200, ""),
        (OPERATOR, "/a/two/v1/hooks/only.in.one", 404, "not_found"),
        (OTHER_KEY, "/v1/hooks/only.in.one", 404, "not_found"),
        (OTHER_KEY, "/a/one/v1/hooks/only.in.one", 403, "forbidden"),
        (KEY, "/a/two/v1/hooks", 403, "forbidden"),
        (KEY, "/a/nobody/v1/hooks", 404, "unknown_app"),
        (OPERATOR, "/a/nobody/v1/hooks", 404, "unknown_app"),
        (SHUT_KEY, "/v1/hooks", 404, "not_found"),
        (OPERATOR, "/a/shut/v1/hooks", 404, "not_found"),
        ("key-of-nobody", "/v1/hooks", 401, "unauthorized"),
        ("key-of-nobody", "/a/nobody/v1/hooks", 401, "unauthorized"),
        ("", "/v1/hooks", 401, "unauthorized"),
    ] {
        let answer = door.call(key, "GET", path, "").await;
        assert_eq!(answer.status.as_u16(), status, "{key} {path}: {}", answer.text);
        if status >= 400 {
            answer.refused(status, code);
        }
    }
}

#[tokio::test]
async fn the_host_names_the_app_where_the_path_does_not() {
    let door = door().await;
    door.hook("only.in.one").await;
    for (key, host, path, status, code) in [
        (KEY, "One.Example:8000", "/v1/hooks/only.in.one", 200, ""),
        (OPERATOR, "one.example", "/v1/hooks/only.in.one", 200, ""),
        (OPERATOR, "two.example", "/v1/hooks/only.in.one", 404, "not_found"),
        (OPERATOR, "two.example", "/a/one/v1/hooks/only.in.one", 200, ""),
        (KEY, "nobody.example", "/v1/hooks/only.in.one", 200, ""),
        (KEY, "two.example", "/v1/hooks/only.in.one", 403, "forbidden"),
        (KEY, "two.example", "/v1/stream?app=public-one&channels=private-a", 200, ""),
        ("", "two.example", "/v1/stream?channels=news", 200, ""),
        ("", "two.example", "/v1/stream?app=public-one&channels=kept:a", 200, ""),
        ("", "two.example", "/a/one/v1/stream?channels=news", 401, "unauthorized"),
        ("", "nobody.example", "/v1/stream?channels=news", 401, "unauthorized"),
        ("", "shut.example", "/v1/stream?channels=news", 404, "not_found"),
    ] {
        let mut request = Request::get(path).header("host", host);
        if !key.is_empty() {
            request = request.header("authorization", format!("Bearer {key}"));
        }
        let request = request.body(Body::empty()).unwrap();
        if status == 200 && path.contains("/stream") {
            assert_eq!(door.stream(request).await.0.status, 200, "{key} {host} {path}");
            continue;
        }
        let answer = door.send(request).await;
        assert_eq!(answer.status.as_u16(), status, "{key} {host} {path}: {}", answer.text);
        if status >= 400 {
            answer.refused(status, code);
        }
    }
}

// covers: K05
#[tokio::test]
async fn a_request_needs_a_bearer_key() {
    let door = door().await;
    for (header, status) in [
        (None, 401),
        (Some(KEY.to_owned()), 401),
        (Some(format!("Basic {KEY}")), 401),
        (Some("Bearer".to_owned()), 401),
        (Some(format!("bearer {KEY}")), 200),
        (Some(format!("Bearer  {KEY} ")), 200),
    ] {
        let mut request = Request::get("/v1/hooks");
        if let Some(header) = &header {
            request = request.header("authorization", header);
        }
        let answer = door.send(request.body(Body::empty()).unwrap()).await;
        assert_eq!(answer.status.as_u16(), status, "{header:?}");
        if status == 401 {
            answer.refused(401, "unauthorized");
            assert_eq!(answer.header("www-authenticate"), Some("Bearer realm=\"tidings\""));
        }
    }
}

// covers: T01, T03
#[tokio::test]
async fn nothing_of_one_app_is_seen_or_changed_from_another() {
    let door = door().await;
    door.hook("h").await;
    let listener = door.listener(json!({"url": "http://127.0.0.1:1/", "hooks": ["h"], "schedule": ["0s"]})).await;
    door.post("/v1/events", json!({"name": "h", "id": "e", "data": "of one"})).await.ok(202);
    let delivery = text(&door.all("/v1/deliveries", 5).await[0]["id"]);
    door.delivery_in(&delivery, "undelivered").await;
    let before = door.get(&format!("/v1/listeners/{listener}")).await.text;
    // The other app has a hook and an event of the same names: its own.
    for (path, body) in [("/v1/hooks", r#"{"name":"h"}"#), ("/v1/events", r#"{"name":"h","id":"e","data":"of two"}"#)] {
        assert!(door.call(OTHER_KEY, "POST", path, body).await.status.is_success());
    }
    assert_eq!(door.call(OTHER_KEY, "GET", "/v1/events/e", "").await.ok(200)["data"], "of two");
    assert_eq!(door.get("/v1/events/e").await.ok(200)["data"], "of one");
    for (method, path, body) in [
        ("GET", format!("/v1/listeners/{listener}"), ""),
        ("PATCH", format!("/v1/listeners/{listener}"), r#"{"url":"https://evil.example/"}"#),
        ("DELETE", format!("/v1/listeners/{listener}"), ""),
        ("POST", format!("/v1/listeners/{listener}/rotate_secret"), "{}"),
        ("POST", format!("/v1/listeners/{listener}/test"), "{}"),
        ("GET", format!("/v1/deliveries/{delivery}"), ""),
        ("GET", format!("/v1/deliveries/{delivery}/attempts"), ""),
        ("POST", format!("/v1/deliveries/{delivery}/retry"), "{}"),
    ] {
        let own_missing = path.replace(&listener, "lst_nothing").replace(&delivery, "dlv_00000000000000000000000000");
        let foreign = door.call(OTHER_KEY, method, &path, body).await;
        let missing = door.call(OTHER_KEY, method, &own_missing, body).await;
        foreign.refused(404, "not_found");
        let unnamed = |text: &str| {
            text.replace(&listener, "X")
                .replace(&delivery, "X")
                .replace("lst_nothing", "X")
                .replace("dlv_00000000000000000000000000", "X")
        };
        assert_eq!(unnamed(&foreign.text), unnamed(&missing.text), "what is another's looks like what is not there");
        door.call(OTHER_KEY, method, &format!("/a/one{path}"), body).await.refused(403, "forbidden");
    }
    for path in ["/v1/listeners", "/v1/deliveries", "/v1/deliveries?event=e"] {
        assert_eq!(door.call(OTHER_KEY, "GET", path, "").await.ok(200), json!({"data": [], "next": null}), "{path}");
    }
    let by_id = door.call(OTHER_KEY, "GET", &format!("/v1/deliveries?listener={listener}"), "").await;
    assert_eq!(by_id.refused(422, "invalid_field")["field"], "listener");
    assert_eq!(door.get(&format!("/v1/listeners/{listener}")).await.text, before);
}

// covers: T01
#[tokio::test]
async fn a_cursor_of_another_app_shows_only_own_records() {
    let door = door().await;
    for n in 0..3 {
        door.hook(&format!("h{n}")).await;
        door.post("/v1/events", json!({"name": format!("h{n}")})).await.ok(202);
    }
    door.call(OTHER_KEY, "POST", "/v1/hooks", r#"{"name":"own"}"#).await.ok(201);
    for path in ["/v1/hooks", "/v1/events"] {
        let next = text(&door.get(&format!("{path}?limit=1")).await.ok(200)["next"]);
        let page = door.call(OTHER_KEY, "GET", &format!("{path}?cursor={next}"), "").await.ok(200);
        assert!(page["data"].as_array().unwrap().iter().all(|record| record["name"] == "own"), "{page}");
    }
}
