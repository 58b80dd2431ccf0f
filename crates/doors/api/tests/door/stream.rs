//! Event streams: over a real broker and real shards, read as a browser would.

use axum::body::Body;
use http::Request;
use serde_json::{Value, json};
use std::time::Duration;
use tidings_live::CloseReason;
use tidings_model::secret::SecretString;
use tidings_model::token::{Claims, TokenKeys};
use tokio::time::Instant;

use crate::kit::{Answer, Door, KEY, NOW, OPERATOR, OTHER_KEY, SOON, TOKEN_SECRET, door, logs, text};

/// Publishes. When a test moves the clock while the shard's inbox holds a message, the message looks old enough for an
/// overload; so this tries again as the response says.
async fn publish(door: &Door, channels: &[&str], id: &str) {
    let event = json!({"name": "said", "data": {"id": id}, "channels": channels, "id": id});
    let deadline = Instant::now() + SOON;
    loop {
        let answer = door.post("/v1/events", event.clone()).await;
        if answer.status != 503 || Instant::now() > deadline {
            answer.ok(202);
            return;
        }
        tokio::task::yield_now().await;
    }
}

fn token(sub: Option<&str>, channels: &[&str], exp: i64) -> String {
    let claims = Claims {
        sub: sub.map(str::to_owned),
        channels: channels.iter().map(|&channel| channel.to_owned()).collect(),
        exp: Some(exp),
        ..Claims::default()
    };
    TokenKeys::new(SecretString::from(TOKEN_SECRET), Vec::new()).issue(&claims, NOW).unwrap()
}

fn request(query: &str) -> http::request::Builder {
    Request::get(format!("/v1/stream?{query}"))
}

#[tokio::test]
async fn an_event_reaches_a_stream() {
    let door = door().await;
    let (head, mut stream) =
        door.stream(request("app=public-one&channels=kept:a,news").body(Body::empty()).unwrap()).await;
    assert_eq!(head.status, 200);
    for (name, value) in [
        ("content-type", "text/event-stream"),
        ("cache-control", "no-store"),
        ("x-accel-buffering", "no"),
        ("vary", "origin"),
    ] {
        assert_eq!(head.headers[name], value);
    }
    let open = stream.next().await;
    let opened: Value = serde_json::from_str(&open.data).unwrap();
    assert_eq!((open.name.as_str(), &opened["channels"]), ("tidings.open", &json!(["kept:a", "news"])));
    stream.reaches(|id| id.ends_with(":0,-")).await;
    publish(&door, &["kept:a"], "e1").await;
    publish(&door, &["news", "other"], "e2").await;
    let (id, message) = stream.message().await;
    assert!(id.ends_with(":1,-"), "{id}");
    let expected = json!({
        "id": "e1", "channel": "kept:a", "name": "said", "data": {"id": "e1"}, "time": "2026-11-21T09:56:40.000Z",
    });
    assert_eq!(message, expected);
    let (same, message) = stream.message().await;
    assert_eq!((same, &message["id"], &message["channel"]), (id, &json!("e2"), &json!("news")));
    // Whoever caused an event can be left out of it.
    let session = text(&opened["session"]);
    let event = json!({"name": "said", "data": 1, "channels": ["news"], "except": session});
    door.post("/v1/events", event).await.ok(202);
    publish(&door, &["news"], "e3").await;
    assert_eq!(stream.message().await.1["id"], "e3");
}

#[tokio::test]
async fn a_stream_that_comes_back_gets_what_it_missed() {
    let door = door().await;
    let mut stream = door.listen("channels=kept:a,news,kept:b").await;
    let at = stream.reaches(|id| id.ends_with(":0")).await;
    publish(&door, &["kept:a"], "a1").await;
    let (at_a1, _) = stream.message().await;
    drop(stream);
    publish(&door, &["kept:b", "news", "kept:a"], "both").await;
    for place in ["last_event_id", "Last-Event-ID"] {
        let again = match place {
            "last_event_id" => request(&format!("app=public-one&channels=kept:a,news,kept:b&last_event_id={at_a1}")),
            header => request("app=public-one&channels=kept:a,news,kept:b").header(header, &at_a1),
        };
        let (_, mut stream) = door.stream(again.body(Body::empty()).unwrap()).await;
        stream.next().await;
        let mut missed = vec![stream.message().await, stream.message().await];
        assert!(missed[1].0.contains(":2,-,") && missed[1].0.ends_with(":1"), "{missed:?}");
        missed.sort_by_key(|(_, message)| text(&message["channel"]));
        for ((_, message), channel) in missed.iter().zip(["kept:a", "kept:b"]) {
            assert_eq!((&message["id"], &message["channel"]), (&json!("both"), &json!(channel)));
        }
    }
    // Of the three that are kept the first is gone.
    for n in 0..3 {
        publish(&door, &["kept:a"], &format!("more{n}")).await;
    }
    let mut stream = door.listen(&format!("channels=kept:a,news,kept:b&last_event_id={at}")).await;
    let (mut lost, mut found) = (Vec::new(), Vec::new());
    for _ in 0..2 {
        let event = stream.next().await;
        if event.name == "tidings.lost" { lost.push(event.data) } else { found.push(event.data) }
    }
    assert_eq!(lost, [r#"{"channel":"kept:a"}"#]);
    assert!(found[0].contains("kept:b"), "{found:?}");
    publish(&door, &["kept:a"], "live").await;
    assert_eq!(stream.message().await.1["id"], "live");
}

/// A refusal's status and field.
async fn refused(door: &Door, query: String) -> (u16, String, Answer) {
    let answer = door.send(request(&format!("app=public-one&{query}")).body(Body::empty()).unwrap()).await;
    assert_eq!(answer.header("content-type"), Some("application/problem+json"), "{query}: {}", answer.text);
    (answer.status.as_u16(), text(&answer.json()["field"]), answer)
}

// covers: T01
#[tokio::test]
async fn a_channel_is_for_whom_it_is_for() {
    let door = door().await;
    let channels = ["private-a", "$b", "presence-c", "shut:d", "shut:$e"];
    let proof = token(Some("u1"), &channels, NOW + 60_000);
    for channel in channels {
        let listed = channels.join(",");
        let (status, field, _) = refused(&door, format!("channels={channel}")).await;
        assert_eq!((status, field.as_str()), (401, "token"), "{channel}");
        let other = token(Some("u1"), &["private-other"], NOW + 60_000);
        let (status, field, _) = refused(&door, format!("channels=news,{channel}&token={other}")).await;
        assert_eq!((status, field.as_str()), (403, "channels"), "{channel}");
        door.listen(&format!("channels={listed}&token={proof}")).await;
    }
    // Users have theirs by who they are, and no list of channels makes anybody another.
    let of_u2 = token(Some("u2"), &["#u1", "x#u1,u3"], NOW + 60_000);
    for channel in ["%23u1", "%23server-to-user-u1", "x%23u1%2Cu3"] {
        door.listen(&format!("channel={channel}&token={proof}")).await;
        assert_eq!(refused(&door, format!("channel={channel}&token={of_u2}")).await.0, 403, "{channel}");
        assert_eq!(refused(&door, format!("channel={channel}")).await.0, 401, "{channel}");
    }
    let (status, field, answer) =
        refused(&door, format!("channels=news&token={}", token(None, &[], NOW - 60_000))).await;
    assert_eq!((status, field.as_str()), (401, "token"));
    answer.refused(401, "token_expired");
    let other_app =
        TokenKeys::new(SecretString::from("another secret"), Vec::new()).issue(&Claims::default(), NOW).unwrap();
    assert_eq!(refused(&door, format!("channels=news&token={other_app}")).await.0, 401);
    // The app's servers hear everything.
    for key in [KEY, OPERATOR] {
        let all = request("channels=private-a,presence-c,news&channel=%23u1")
            .header("authorization", format!("Bearer {key}"));
        let (head, mut stream) = door.stream(all.body(Body::empty()).unwrap()).await;
        assert_eq!((head.status.as_u16(), stream.next().await.name.as_str()), (200, "tidings.open"));
        stream.joined().await;
        publish(&door, &["#u1"], "e").await;
        assert_eq!(stream.message().await.1["channel"], "#u1");
    }
    let written = logs();
    for token in [&proof, &of_u2, &other_app] {
        assert!(!written.contains(token), "a token is in the log");
    }
}

#[tokio::test]
async fn an_app_is_meant_by_its_key() {
    let door = door().await;
    let send = |request: http::request::Builder| door.send(request.body(Body::empty()).unwrap());
    send(request("channels=a")).await.refused(401, "unauthorized");
    send(request("channels=a&app=nobody")).await.refused(404, "unknown_app");
    send(request("channels=a&app=public-shut")).await.refused(404, "not_found");
    send(request("channels=a").header("authorization", "Bearer wrong")).await.refused(401, "unauthorized");
    let with_key = |query: &str| request(query).header("authorization", format!("Bearer {OTHER_KEY}"));
    send(with_key("channels=a&app=public-one")).await.refused(403, "forbidden");
    send(Request::get("/a/two/v1/stream?channels=a&app=public-one")).await.refused(404, "unknown_app");
    send(Request::get("/a/one/v1/stream?channels=a")).await.refused(401, "unauthorized");
    let (head, _) =
        door.stream(Request::get("/a/one/v1/stream/?channels=a&app=public-one").body(Body::empty()).unwrap()).await;
    assert_eq!(head.status, 200);
    // What is said in a channel of one app is not heard in the other's of the same name.
    let (_, mut stream) = door.stream(with_key("channels=a").body(Body::empty()).unwrap()).await;
    stream.next().await;
    stream.joined().await;
    publish(&door, &["a"], "of-one").await;
    door.call(
        OTHER_KEY,
        "POST",
        "/v1/events",
        json!({"name": "n", "data": 1, "channels": ["a"], "id": "of-two"}).to_string(),
    )
    .await
    .ok(202);
    assert_eq!(stream.message().await.1["id"], "of-two");
}

#[tokio::test]
async fn what_cannot_be_asked_for_is_named() {
    let door = door().await;
    let many = (0..101).map(|n| format!("kept:{n}")).collect::<Vec<_>>().join(",");
    for (query, field) in [
        ("", "channels"),
        ("channels=", "channels"),
        ("channels=a,a", "channels"),
        ("channels=a&chanels=1", "chanels"),
        ("channels=a&last_event_id=x", "last_event_id"),
        ("channels=a&last_event_id=e:1,-", "last_event_id"),
        (&format!("channels={many}"), "channels"),
        ("channels=a&token=x", "token"),
    ] {
        let answer = door.send(request(&format!("app=public-one&{query}")).body(Body::empty()).unwrap()).await;
        assert_eq!((answer.status.is_client_error(), &answer.json()["field"]), (true, &json!(field)), "{query}");
        assert!(answer.json()["remedy"].is_string(), "{query}");
    }
}

// covers: G308
#[tokio::test]
async fn pages_of_other_origins_stay_outside() {
    let door = door().await;
    let from = |method: &str, origin: &str| {
        let request = Request::builder().method(method).uri("/v1/stream?app=public-one&channels=a");
        request.header("origin", origin.to_owned()).body(Body::empty()).unwrap()
    };
    for origin in ["https://page.example", "https://a.pages.example"] {
        let (head, _) = door.stream(from("GET", origin)).await;
        let header = |name: &str| head.headers[name].to_str().unwrap();
        assert_eq!((head.status.as_u16(), header("access-control-allow-origin")), (200, origin));
        assert_eq!((header("access-control-allow-credentials"), header("vary")), ("true", "origin"));
        let preflight = door.send(from("OPTIONS", origin)).await;
        assert_eq!((preflight.status.as_u16(), preflight.header("access-control-allow-origin")), (204, Some(origin)));
        assert_eq!(preflight.header("access-control-allow-credentials"), Some("true"));
        assert_eq!(preflight.header("access-control-allow-methods"), Some("GET"));
        assert!(preflight.header("access-control-allow-headers").unwrap().contains("last-event-id"));
    }
    for method in ["GET", "OPTIONS"] {
        for origin in ["https://evil.example", "http://page.example", "null"] {
            let answer = door.send(from(method, origin)).await;
            assert_eq!(answer.refused(403, "forbidden")["field"], "Origin");
            assert_eq!(answer.header("access-control-allow-origin"), None);
        }
    }
    // A page may read why it was refused.
    let mut refused = from("GET", "https://page.example");
    *refused.uri_mut() = "/v1/stream?app=public-one&channels=private-a".parse().unwrap();
    let answer = door.send(refused).await;
    answer.refused(401, "unauthorized");
    assert_eq!(answer.header("access-control-allow-origin"), Some("https://page.example"));
}

#[tokio::test]
async fn a_stream_ends_with_its_token() {
    let door = door().await;
    let mut stream =
        door.listen(&format!("channels=private-a&token={}", token(None, &["private-a"], NOW + 60_000))).await;
    door.clock.advance(Duration::from_secs(61));
    // Something wakes the shard, which then sees what time it is.
    publish(&door, &["private-a"], "e").await;
    let mut event = stream.next().await;
    if event.name == "message" {
        event = stream.next().await;
    }
    assert_eq!((event.name.as_str(), event.data.as_str()), ("tidings.close", r#"{"reason":"token_expired"}"#));
    assert_eq!(stream.rest().await, "");
}

// covers: G088
#[tokio::test]
async fn who_comes_while_the_server_stops_is_sent_away_so_that_it_comes_back() {
    let door = door().await;
    door.node.live().stop(Duration::ZERO, CloseReason::Restarting).await;
    let request = request("app=public-one&channels=a").header("origin", "https://page.example");
    let (head, mut stream) = door.stream(request.body(Body::empty()).unwrap()).await;
    // Anything but 200 would be the last that an EventSource asks.
    assert_eq!((head.status.as_u16(), head.headers["content-type"].to_str().unwrap()), (200, "text/event-stream"));
    assert_eq!(head.headers["access-control-allow-origin"], "https://page.example");
    let expected = "retry: 1000\nevent: tidings.close\ndata: {\"reason\":\"going_away\"}\n\n";
    assert_eq!(stream.rest().await, expected);
}
