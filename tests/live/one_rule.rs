//! The same rules for every door: reserved names, idempotency keys, and strings that a database cannot hold.

use std::collections::BTreeSet;

use http::Method;
use serde_json::{Value, json};
use tidings_testkit::{Api, PusherApp, Reply, Server, token};

use crate::kit::{APPS, configured, everywhere, heard_nothing, opened};

/// Event names that are reserved.
const RESERVED: [&str; 5] = ["pusher:error", "pusher:", "pusher_internal:member_added", "tidings.test", "tidings.x"];

/// Publishes an event by every API: the name of each, and its answer.
async fn every_way(api: &Api, app: &PusherApp, name: &str) -> Vec<(&'static str, Reply)> {
    let data = json!({"n": 1});
    let one = json!({"name": name, "channel": "news", "data": "1"});
    let query = [("channel", "news"), ("data", "1"), ("name", name)];
    let in_query = app.signed(&Method::POST, "/events", &query, b"");
    let old = app.signed(&Method::POST, "/channels/news/events", &[("name", name)], b"1");
    vec![
        ("API", api.post("/v1/events", json!({"name": name, "channels": ["news"], "data": data})).await),
        ("API, with a key", api.post("/v1/events", json!({"name": name})).header("idempotency-key", name).await),
        ("Pusher", app.post("/events", &one).await),
        ("Pusher, a batch", app.post("/batch_events", &json!({"batch": [one]})).await),
        ("Pusher, in the query", app.api.post(&in_query, ()).body(Vec::new(), "application/json").await),
        ("Pusher, of old", app.api.post(&old, ()).body(b"1".to_vec(), "application/json").await),
    ]
}

// covers: G191
#[tokio::test]
async fn reserved_names_are_refused_by_every_door() {
    let server = configured("", "").start().await;
    let (api, app) = (APPS[0].api(&server), APPS[0].pusher(&server));
    api.post("/v1/hooks", json!({"name": "h"})).await.expect_status(201);
    let listener = json!({"url": "https://partner.example/", "hooks": ["h"]});
    let listener = api.post("/v1/listeners", listener).await.expect_status(201).text_at("id");
    let test = format!("/v1/listeners/{listener}/test");
    everywhere(&server, &APPS[0].api_key(), &format!("/v1/listeners/{listener}"), 200).await;
    let mut session = app.connect().await;
    for channel in ["news", "private-room"] {
        session.subscribe(channel).await;
    }
    for name in RESERVED {
        let mut answers = every_way(&api, &app, name).await;
        answers.push(("a hook", api.post("/v1/hooks", json!({"name": name})).await));
        if name != "tidings.test" {
            answers.push(("a listener's test", api.post(&test, json!({"name": name})).await));
        }
        for (door, answer) in answers {
            // The one sends problem details, the other a text.
            let expected = if door.starts_with("Pusher") { 400 } else { 422 };
            assert_eq!(answer.status, expected, "{door} and {name:?}: {}", answer.text());
            assert!(answer.text().contains("reserved"), "{door} and {name:?}: {}", answer.text());
        }
        heard_nothing(&mut session, name).await;
    }
    // What only looks like it is an application's.
    for name in ["pusher", "pusherish:x", "tidingsx", "my.pusher:x"] {
        for (door, answer) in every_way(&api, &app, name).await {
            assert!((200..300).contains(&answer.status), "{door} and {name:?}: {}", answer.text());
        }
    }
    assert_eq!(api.get("/v1/hooks").await.expect_status(200)["data"].as_array().unwrap().len(), 1);
}

/// A request with an idempotency key: its answer, which tells whether it was the first, a repeat, or refused.
async fn keyed(app: &PusherApp, path: &str, params: &[(&str, &str)], body: &Value, key: &str) -> Reply {
    let body = if body.is_null() { Vec::new() } else { body.to_string().into_bytes() };
    let request = app.api.post(&app.signed(&Method::POST, path, params, &body), ());
    request.body(body, "application/json").header("idempotency-key", key).await
}

// covers: G192
#[tokio::test]
async fn a_repeat_is_the_same_in_all_that_made_the_event_through_every_door() {
    let server = configured("", "").start().await;
    let (api, app) = (APPS[0].api(&server), APPS[0].pusher(&server));
    let mut session = app.connect().await;
    session.subscribe("a").await;
    session.subscribe("b").await;
    let event = |data: &str| json!({"name": "e", "channel": "a", "data": data});
    let none = Value::Null;
    let old = ("/channels/a/events", json!("1"));
    let batch = |data: &str| json!({"batch": [event(data), event(data)]});
    // By key: a request, how many events it makes, and others that are not the same.
    type Made<'a> = (&'a str, Vec<(&'a str, &'a str)>, Value);
    let query = |channel, data| vec![("channel", channel), ("data", data), ("name", "e")];
    let table: Vec<(Made<'_>, usize, Vec<Made<'_>>)> = vec![
        (("/events", vec![], event("1")), 1, vec![("/events", vec![], event("2"))]),
        (("/batch_events", vec![], batch("1")), 2, vec![("/batch_events", vec![], batch("2"))]),
        (
            ("/events", query("a", "1"), none.clone()),
            1,
            vec![
                ("/events", query("a", "2"), none.clone()),
                ("/events", query("b", "1"), none.clone()),
                ("/events", vec![], event("1")),
            ],
        ),
        (
            (old.0, vec![("name", "e")], old.1.clone()),
            1,
            vec![
                (old.0, vec![("name", "f")], old.1.clone()),
                (old.0, vec![("name", "e")], json!("2")),
                ("/channels/b/events", vec![("name", "e")], old.1.clone()),
            ],
        ),
    ];
    for (n, ((path, params, body), events, others)) in table.iter().enumerate() {
        let key = format!("k{n}");
        for _ in 0..2 {
            let answer = keyed(&app, path, params, body, &key).await;
            assert!((200..300).contains(&answer.status), "{path} {params:?}: {}", answer.text());
        }
        for (path, params, body) in others {
            let answer = keyed(&app, path, params, body, &key).await;
            assert_eq!(answer.status, 409, "{path} {params:?} {body}: {}", answer.text());
        }
        session.settle().await;
        let heard = session.waiting().filter(|frame| frame.event == "e" || frame.event == "f").count();
        assert_eq!(heard, *events, "{path} {params:?}");
        for _ in 0..heard {
            session.expect("e", crate::kit::SOON).await;
        }
    }
    // The same for the API, whose events are all in the body.
    let publish = async |data: u32| {
        let event = json!({"name": "e", "channels": ["a"], "data": data});
        api.post("/v1/events", event).header("idempotency-key", "k").await
    };
    let first = publish(1).await.expect_status(202).text_at("id");
    assert_eq!(publish(1).await.expect_status(202).text_at("id"), first);
    publish(2).await.expect_status(409);
}

/// Requests of the API with a NUL in a string.
fn with_nul(listener: &str) -> Vec<(Method, String, Value)> {
    let nul = "a\u{0}b";
    let post = |path: &str, body: Value| (Method::POST, path.to_owned(), body);
    let mut all: Vec<(Method, String, Value)> = [
        "/v1/events/%00",
        "/v1/events?name=%00",
        "/v1/events?channel=a%00",
        "/v1/events?since=%00",
        "/v1/events?cursor=%00",
        "/v1/hooks/%00",
        "/v1/hooks?cursor=%00",
        "/v1/listeners/%00",
        "/v1/listeners?owner=%00",
        "/v1/listeners?hook=%00",
        "/v1/deliveries/%00",
        "/v1/deliveries/%00/attempts",
        "/v1/deliveries?event=%00",
        "/v1/deliveries?listener=%00",
        "/v1/channels/%00",
        "/v1/channels?prefix=%00",
        "/v1/%00",
        "/a/%00/v1/events",
    ]
    .map(|path| (Method::GET, path.to_owned(), Value::Null))
    .into();
    for path in ["/v1/hooks/%00", "/v1/listeners/%00"] {
        all.push((Method::DELETE, path.to_owned(), Value::Null));
        all.push((Method::PATCH, path.to_owned(), json!({"description": "x"})));
    }
    for field in ["name", "id", "key", "except", "op", "time", "not_before"] {
        let mut event = json!({"name": "h"});
        event[field] = json!(nul);
        all.push(post("/v1/events", event));
    }
    all.push(post("/v1/events", json!({"name": "h", "channels": [nul]})));
    all.push(post("/v1/events", json!({"name": "h", "data_base64": "AA==", "content_type": nul})));
    for (field, value) in [
        ("name", json!(nul)),
        ("description", json!(nul)),
        ("fields", json!([nul])),
        ("fields", json!([{"name": "a", "type": nul}])),
        ("fields_for", json!(nul)),
        ("defaults", json!({"timeout": nul})),
    ] {
        let mut hook = json!({"name": "other"});
        hook[field] = value;
        all.push(post("/v1/hooks", hook));
    }
    for (field, value) in [
        ("url", json!(format!("https://partner.example/{nul}"))),
        ("hooks", json!([nul])),
        ("description", json!(nul)),
        ("owner", json!(nul)),
        ("secret", json!(nul)),
        ("order", json!(nul)),
        ("headers", json!({"x-a": nul})),
        ("headers", json!({nul: "x"})),
    ] {
        let mut made = json!({"url": "https://partner.example/", "hooks": ["h"]});
        made[field] = value.clone();
        all.push(post("/v1/listeners", made));
        all.push((Method::PATCH, format!("/v1/listeners/{listener}"), json!({field: value})));
    }
    all.push((Method::PATCH, "/v1/hooks/h".to_owned(), json!({"description": nul})));
    all.push(post(&format!("/v1/listeners/{listener}/test"), json!({"name": nul})));
    all.push(post("/v1/tokens", json!({"sub": nul})));
    all.push(post("/v1/tokens", json!({"channels": [nul]})));
    all
}

// covers: G201
#[tokio::test]
async fn a_text_that_no_database_holds_is_refused_where_it_enters() {
    let server = configured("", "").start().await;
    let (api, app) = (APPS[0].api(&server), APPS[0].pusher(&server));
    api.post("/v1/hooks", json!({"name": "h"})).await.expect_status(201);
    let made = json!({"url": "https://partner.example/", "hooks": ["h"]});
    let listener = api.post("/v1/listeners", made).await.expect_status(201).text_at("id");
    everywhere(&server, &APPS[0].api_key(), &format!("/v1/listeners/{listener}"), 200).await;
    let mut statuses = BTreeSet::new();
    for (method, path, body) in with_nul(&listener) {
        let what = format!("{method} {path} {body}");
        let request = api.request(method, &path);
        let request =
            if body.is_null() { request } else { request.body(body.to_string().into_bytes(), "application/json") };
        let answer = request.await;
        assert!((400..500).contains(&answer.status), "{what}: {} {}", answer.status, answer.text());
        assert!(answer["remedy"].is_string(), "{what}: {}", answer.text());
        statuses.insert(answer.status);
    }
    assert_eq!(statuses, BTreeSet::from([400, 404, 422]));
    through_pusher(&server, &app).await;
    assert!(!server.stderr().contains("the store failed"), "{}", server.stderr());
    // None of it has left anything behind.
    assert_eq!(api.get("/v1/hooks").await.expect_status(200)["data"].as_array().unwrap().len(), 1);
    assert_eq!(api.get("/v1/listeners").await.expect_status(200)["data"].as_array().unwrap().len(), 1);
    assert!(api.get("/v1/events").await.expect_status(200)["data"].as_array().unwrap().is_empty());
}

/// The same through Pusher's door: in names, channels and users, in bodies, paths, queries, frames and tokens.
async fn through_pusher(server: &Server, app: &PusherApp) {
    let event = |field: &str| {
        let mut event = json!({"name": "e", "channel": "a", "data": "1"});
        event[field] = json!("a\u{0}");
        event
    };
    for field in ["name", "channel", "socket_id"] {
        let one = app.post("/events", &event(field)).header("idempotency-key", &format!("nul-{field}")).await;
        let batch = app.post("/batch_events", &json!({"batch": [event(field)]})).await;
        for answer in [one, batch] {
            assert_eq!(answer.status, 400, "{field}: {}", answer.text());
        }
    }
    for path in ["/channels/a%00", "/channels/a%00/users", "/channels/a%00/stats"] {
        assert_eq!(app.get(path, &[]).await.status, 400, "{path}");
    }
    assert_eq!(app.post("/users/a%00/terminate_connections", &json!({})).await.status, 400);
    let mut session = app.connect().await;
    let data = json!({"user_id": "u\u{0}"}).to_string();
    let auth = app.auth(&session.socket_id, "presence-a", Some(&data));
    session.ask_to_join("presence-a", &auth, Some(&data)).await;
    session.expect("pusher:subscription_error", crate::kit::SOON).await;
    session.subscribe("private-a").await;
    session.send(json!({"event": "client-a\u{0}", "channel": "private-a", "data": {}})).await;
    session.expect("pusher:error", crate::kit::SOON).await;
    // A stream's user is the token's, who may be anybody but this.
    for (sub, is_fine) in [("u\u{0}".to_owned(), false), ("u".repeat(256), false), ("u".repeat(255), true)] {
        let claims = json!({"sub": sub, "channels": ["presence-b"]});
        let token = token(&APPS[0].token_secret(), &claims);
        let request = APPS[0].stream(server, "presence-b", &format!("&token={token}"));
        if is_fine {
            drop(opened(request).await);
        } else {
            let refused = request.stream().await.unwrap_err();
            assert_eq!(refused.status, 401, "{}", refused.text());
        }
    }
}
