//! Requests that Pusher's HTTP API refuses: with a status that Pusher's libraries know, and a reason.

use http::Method;
use serde_json::{Value, json};
use tidings_model::clock::{Clock, SystemClock};
use tidings_testkit::{Api, PusherApp};

use crate::kit::{APPS, SOON, configured, still_serves};

// covers: A06
#[tokio::test]
async fn a_request_that_is_not_signed_right_is_refused() {
    let server = configured("", "").start().await;
    let app = APPS[0].pusher(&server);
    let mut witness = app.connect().await;
    witness.subscribe("a").await;
    let api = Api::new(&server.url, "");
    let body = json!({"name": "forged", "channels": ["a"], "data": "{}"}).to_string();
    let now = SystemClock::new().wall_ms() / 1000;
    let post = |app: &PusherApp, time: i64| app.signed_at(time, &Method::POST, "/events", &[], body.as_bytes());
    let right = post(&app, now);
    let with = |secret: &str| PusherApp { secret: secret.to_owned(), ..app.clone() };
    let other = APPS[1].pusher(&server);
    let foreign = PusherApp { id: app.id.clone(), ..other.clone() };
    let unknown_key = PusherApp { key: "nobody".to_owned(), ..app.clone() };
    let cases: [(&str, String); 10] = [
        ("no signature", "/apps/1/events".to_owned()),
        ("another secret", post(&with("guessed"), now)),
        ("another app's key and secret", post(&foreign, now)),
        ("a key of nobody", post(&unknown_key, now)),
        ("too old", post(&app, now - 700)),
        ("from the future", post(&app, now + 700)),
        ("signed as GET", app.signed_at(now, &Method::GET, "/events", &[], body.as_bytes())),
        ("signed for another path", right.replace("/apps/1/events", "/apps/1/batch_events")),
        ("signed without the body", app.signed_at(now, &Method::POST, "/events", &[], b"")),
        ("another body", app.signed_at(now, &Method::POST, "/events", &[], b"{}")),
    ];
    for (what, path) in cases {
        let reply = api.post(&path, ()).body(body.clone(), "application/json").await;
        assert_eq!(reply.status, 401, "{what}: {}", reply.text());
        assert!(!reply.text().contains(&app.secret), "the secret is told: {}", reply.text());
    }
    let upper = right.replace("auth_version=1.0", "auth_version=2.0");
    assert_eq!(api.post(&upper, ()).body(body.clone(), "application/json").await.status, 401);
    let nobody = PusherApp { id: "99".to_owned(), ..app.clone() };
    let reply = nobody.post("/events", &json!({})).await;
    assert!([401, 404].contains(&reply.status), "{}: {}", reply.status, reply.text());
    // Whoever runs the server sees what should have been signed, and no secret.
    let log = server.stderr();
    assert!(log.contains("Pusher HTTP API request rejected"), "{log}");
    assert!(log.contains("client=127.0.0.1"), "{log}");
    assert!(!log.contains(&app.secret) && !log.contains(&other.secret), "{log}");
    api.post(&right, ()).body(body, "application/json").await.expect_status(200);
    witness.expect("forged", SOON).await;
    crate::kit::heard_nothing(&mut witness, "forged").await;
}

// covers: A06
#[tokio::test]
async fn a_request_that_means_nothing_is_refused_with_pushers_texts() {
    let server = configured("", "").start().await;
    let app = APPS[0].pusher(&server);
    let event = |change: Value| {
        let mut event = json!({"name": "e", "channels": ["a"], "data": "{}"});
        event.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
        event
    };
    let many: Vec<_> = (0..101).map(|n| format!("c{n}")).collect();
    let one = json!({"name": "e", "channel": "a", "data": "{}"});
    let large = "x".repeat(10 * 1024 + 1);
    let posts: [(&str, Value, u16, &str); 17] = [
        ("/events", json!([]), 400, ""),
        ("/events", json!({}), 400, ""),
        ("/events", json!({"channels": ["a"], "data": "{}"}), 400, "name"),
        ("/events", json!({"name": "e", "data": "{}"}), 400, "channel"),
        ("/events", json!({"name": "e", "channels": ["a"]}), 400, "data"),
        ("/events", event(json!({"channels": []})), 400, ""),
        ("/events", event(json!({"channels": [1]})), 400, ""),
        ("/events", event(json!({"channels": ["a b"]})), 400, "channel"),
        ("/events", event(json!({"channels": ["x".repeat(201)]})), 400, "channel"),
        ("/events", event(json!({"channels": many})), 400, "100"),
        ("/events", event(json!({"name": 1})), 400, ""),
        ("/events", event(json!({"name": "x".repeat(201)})), 400, "name"),
        ("/events", event(json!({"socket_id": "not an id"})), 400, "socket"),
        (
            "/events",
            event(json!({"data": large})),
            413,
            "The data content of this event exceeds the allowed maximum (10240 bytes)",
        ),
        ("/batch_events", json!({"batch": vec![one.clone(); 11]}), 400, "Batch too large"),
        ("/batch_events", json!({"batch": "x"}), 400, ""),
        ("/batch_events", json!({"batch": [one, {"name": "e"}]}), 400, ""),
    ];
    for (path, body, status, text) in posts {
        let reply = app.post(path, &body).await;
        let shown: String = body.to_string().chars().take(120).collect();
        assert_eq!(reply.status, status, "{path} {shown}: {}", reply.text());
        assert!(reply.text().to_lowercase().contains(&text.to_lowercase()), "{path} {shown}: {}", reply.text());
    }
    let deep = format!("{{\"name\":{}1{}}}", "[".repeat(100_000), "]".repeat(100_000));
    for bytes in [b"{".to_vec(), b"\xff\xfe".to_vec(), Vec::new(), deep.into_bytes()] {
        let reply = app.post_bytes("/events", bytes).await;
        assert!([400, 413].contains(&reply.status), "{}: {}", reply.status, reply.text());
    }
    let gets = [
        ("/channels", "user_count", 400),
        ("/channels/a", "user_count", 400),
        ("/channels/a/users", "", 400),
        // What is escaped in a path may be signed either way, and this is signed as sent.
        ("/channels/a%20b", "", 400),
        ("/nothing", "", 404),
    ];
    for (path, info, status) in gets {
        let reply = app.get(path, &[("info", info)]).await;
        assert_eq!(reply.status, status, "{path}: {}", reply.text());
    }
    still_serves(&app).await;
    assert!(!server.stderr().contains("panicked"), "{}", server.stderr());
}

// covers: A06
#[tokio::test]
async fn a_body_that_never_ends_is_cut_off() {
    let server = configured("", "").start().await;
    let app = APPS[0].pusher(&server);
    let body = vec![b' '; 20 << 20];
    let reply = app.post_bytes("/events", body).send().await;
    // The answer may be lost where the server closes while the client still writes.
    if let Ok(reply) = reply {
        assert_eq!(reply.status, 413, "{}", reply.text());
    }
    still_serves(&app).await;
}
