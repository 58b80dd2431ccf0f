//! Request ids: in every answer, and in the log from a request to the attempt that it led to.

use std::collections::HashSet;
use std::net::SocketAddr;

use serde_json::{Value, json};
use tidings_testkit::{Cluster, Receiver, Request, ServerBuilder, dial, eventually, tidings};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::kit::{APPS, SOON, configured, opened};

/// The id in the head of an answer to these bytes, and the status.
async fn raw(addr: SocketAddr, request: &str) -> (u16, String) {
    let mut stream = dial(addr).await;
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.unwrap_or_else(|e| panic!("{e} after {}", String::from_utf8_lossy(&head))));
    }
    let head = String::from_utf8(head).unwrap().to_ascii_lowercase();
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
    let id = head.lines().find_map(|line| line.strip_prefix("x-request-id: "));
    (status.unwrap_or_else(|| panic!("no status: {head}")), id.unwrap_or_else(|| panic!("no id: {head}")).to_owned())
}

// covers: G416, G417
#[tokio::test]
async fn every_answer_bears_its_requests_id() {
    let server = configured("", "").start().await;
    let (api, app) = (APPS[0].api(&server), APPS[0].pusher(&server));
    let event = |name: &str, data: &str| api.post("/v1/events", json!({"name": name, "data": data}));
    let requests: [(u16, Request); 11] = [
        (200, api.get("/healthz")),
        (200, api.get("/metrics")),
        (404, api.get("/nowhere")),
        (405, api.delete("/v1/events")),
        (401, api.with_key("guessed").get("/v1/hooks")),
        (413, event("e", &"x".repeat(300_000))),
        (202, event("e", "1")),
        (422, event("a name", "1")),
        (200, app.trigger(&["a"], "e", "1")),
        (401, app.api.post("/apps/1/events", json!({}))),
        (401, api.without_key().get("/v1/stream?channels=a")),
    ];
    let mut made = HashSet::new();
    for (status, request) in requests {
        let reply = request.clone().header("x-request-id", "their/own=1").await.expect_status(status);
        assert_eq!(reply.header("x-request-id"), Some("their/own=1"), "{request}");
        let reply = request.clone().header("x-request-id", "not \"one\"").await.expect_status(status);
        let id = reply.header("x-request-id").unwrap_or_else(|| panic!("{request}: no id")).to_owned();
        assert!(id.len() == 32 && made.insert(id), "{request}");
    }
    let upgrade = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
        Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
    for (status, line, more) in [
        (101, "GET /app/key-one?protocol=7", upgrade),
        (101, "GET /app/nobody?protocol=7", upgrade),
        (200, "GET /v1/stream?app=key-one&channels=a", ""),
        (204, "OPTIONS /v1/stream?app=key-one", "Origin: https://a.example\r\n"),
    ] {
        let own = format!("{line} HTTP/1.1\r\nHost: x\r\n{more}X-Request-Id: mine\r\n\r\n");
        assert_eq!(raw(server.addr, &own).await, (status, "mine".to_owned()), "{line}");
        let (found, id) = raw(server.addr, &format!("{line} HTTP/1.1\r\nHost: x\r\n{more}\r\n")).await;
        assert!(found == status && id.len() == 32 && made.insert(id), "{line}");
    }
    let refused = tidings(&server).args(["listener", "get", "none"]).run().await.expect_code(1);
    assert!(refused.stderr.contains("\n  request id: "), "{}", refused.stderr);
}

// covers: G418, G419
#[tokio::test]
async fn a_line_about_a_request_bears_its_id_at_the_default_level() {
    for (format, found) in [("text", " request_id=\"refused-1\""), ("json", "\"request_id\":\"refused-1\"}")] {
        let server = configured("", "").args(["--log", format]).start().await;
        let app = APPS[0].pusher(&server);
        let unsigned = app.api.post("/apps/1/events?auth_key=key-one", json!({})).header("x-request-id", "refused-1");
        unsigned.await.expect_status(401);
        app.trigger(&["a"], "e", "1").header("x-request-id", "fine-1").await.expect_status(200);
        let log = server.stderr();
        let lines: Vec<_> = log.lines().filter(|line| line.contains("Pusher HTTP API request rejected")).collect();
        assert!(lines.len() == 1 && lines[0].ends_with(found), "{log}");
        assert!(format == "text" || serde_json::from_str::<Value>(lines[0]).is_ok(), "{log}");
        assert!(!log.contains("fine-1"), "{log}");
        assert!(!log.contains("request{") && !log.contains("\"span\""), "spans are for `debug`: {log}");
    }
}

/// The lines of the log with this message, and all their spans by name.
fn lines(log: &str, message: &str) -> Vec<(Value, Value)> {
    let read = |line: &str| serde_json::from_str::<Value>(line).unwrap_or_else(|e| panic!("{e}: {line}"));
    let mut found = Vec::new();
    for line in log.lines().map(read).filter(|line| line["fields"]["message"] == message) {
        let spans = line["spans"].as_array().cloned().unwrap_or_default();
        let named = spans.into_iter().map(|span| (span["name"].as_str().unwrap().to_owned(), span));
        found.push((line["fields"].clone(), Value::Object(named.collect())));
    }
    found
}

/// Publishes, joins, and looks for both in the log of this server. What is secret in it is not to be there.
async fn assert_told(server: ServerBuilder) -> String {
    const OWN: &str = "Bearer the-receivers-own-password";
    let receiver = Receiver::start();
    let server = server.env("TIDINGS_LOG", "debug").args(["--log", "json"]).alone().start().await;
    let (api, app) = (APPS[0].api(&server), APPS[0].pusher(&server));
    api.post("/v1/hooks", json!({"name": "paid"})).await.expect_status(201);
    let listener = json!({"url": receiver.url("/in"), "hooks": ["paid"], "headers": {"Authorization": OWN}});
    let listener = api.post("/v1/listeners", listener).await.expect_status(201);
    let mut session = app.connect().await;
    session.subscribe("private-a").await;
    let user = json!({"user_id": "u1", "user_info": {"name": "name-of-the-user"}}).to_string();
    let proofs = [app.auth(&session.socket_id, "private-a", None), app.user_auth(&session.socket_id, &user)];
    let signed = app.signed(&http::Method::POST, "/events", &[], b"{}");
    let trigger = json!({"name": "paid", "channels": ["private-a"], "data": "the-data-of-pushers-event"});
    let trigger = app.post("/events", &trigger).header("x-request-id", "pushers-1");
    trigger.await.expect_status(200);
    let event = json!({"name": "paid", "channels": ["private-a"], "data": {"card": "the-data-of-the-event"}});
    let told = api.post("/v1/events", event).header("x-request-id", "mine-1").await.expect_status(202);
    let id = told.text_at("id");
    let of_event = |request: &tidings_testkit::Received| request.header("webhook-id") == Some(id.as_str());
    let delivered = receiver.wait_for(1, of_event, SOON).await.remove(0);
    let delivery = eventually(SOON, || async {
        let list = api.get(&format!("/v1/deliveries?event={id}")).await.expect_status(200);
        (list["data"][0]["state"] == "delivered").then(|| list["data"][0]["id"].clone())
    })
    .await;
    let token = api.post("/v1/tokens", json!({"sub": "u1", "channels": ["private-a"]})).await.text_at("token");
    let stream = opened(APPS[0].stream(&server, "private-a", &format!("&token={token}"))).await;
    drop(stream);
    let log = server.stderr();

    let of = |message: &str| {
        let is_its = |(_, spans): &(Value, Value)| spans["request"]["request_id"] == "mine-1";
        let mut found: Vec<_> = lines(&log, message).into_iter().filter(is_its).collect();
        assert_eq!(found.len(), 1, "{message}: {log}");
        found.remove(0)
    };
    let (fields, spans) = of("published");
    assert_eq!(fields["deliveries"], 1);
    assert_eq!((&spans["request"]["method"], &spans["request"]["path"]), (&json!("POST"), &json!("/v1/events")));
    let publish = json!({"app": "1", "event": id, "event_name": "paid"});
    for (field, value) in publish.as_object().unwrap() {
        assert_eq!(spans["publish"][field], *value, "{spans}");
    }
    let (_, spans) = of("committed");
    assert_eq!(spans["publish"]["event"], id);
    assert!(spans["commit"]["jobs"].as_u64().is_some_and(|jobs| jobs >= 1), "{spans}");
    assert_eq!(of("request finished").0["status"], 202);
    assert_eq!(lines(&log, "published").iter().filter(|(_, s)| s["request"]["request_id"] == "pushers-1").count(), 1);

    let attempts = lines(&log, "attempt ended");
    let mut attempts = attempts.iter().filter(|(_, spans)| spans["attempt"]["event"] == id);
    let (fields, spans) = attempts.next().unwrap_or_else(|| panic!("no attempt: {log}"));
    assert_eq!((&fields["outcome"], &fields["status"]), (&json!("delivered"), &json!(204)));
    let attempt = json!({"app": "1", "delivery": delivery, "listener": listener["id"], "attempt": 1, "deliveries": 1});
    for (field, value) in attempt.as_object().unwrap() {
        assert_eq!(spans["attempt"][field], *value, "{spans}");
    }
    let joins = lines(&log, "join handled");
    let join = joins.iter().find(|(_, spans)| spans["join"]["session"] == session.socket_id);
    let (_, spans) = join.unwrap_or_else(|| panic!("no join: {log}"));
    assert_eq!((&spans["join"]["channel"], &spans["join"]["app"]), (&json!("private-a"), &json!("1")));

    let signature = delivered.header("webhook-signature").unwrap().trim_start_matches("v1,").to_owned();
    let (_, query) = signed.split_once("auth_signature=").unwrap();
    let mut hidden = vec![signature, query.split('&').next().unwrap().to_owned(), token, listener.text_at("secret")];
    hidden.extend(proofs.iter().map(|proof| proof.split_once(':').unwrap().1.to_owned()));
    hidden.extend([APPS[0].secret(), APPS[0].api_key(), APPS[0].token_secret()]);
    hidden.extend([OWN, "the-data-of-", "name-of-the-user", "auth_signature"].map(str::to_owned));
    for secret in hidden {
        assert!(secret.len() > 10 && !log.contains(&secret), "{secret}: {log}");
    }
    log
}

// covers: G418
#[tokio::test]
async fn one_publish_is_found_in_the_log_by_its_ids() {
    assert_told(configured("", "")).await;
}

// covers: G418
#[tokio::test]
async fn one_publish_is_found_in_the_log_of_a_node_among_several() {
    let cluster = Cluster::new().await;
    let log = assert_told(configured(&cluster.lines(), "")).await;
    let called = lines(&log, "Redis has answered");
    let of = |operation: &str| called.iter().find(|(_, spans)| spans["broker_call"]["operation"] == operation);
    let (_, spans) = of("publish").unwrap_or_else(|| panic!("no call: {log}"));
    assert!(spans["publish"]["event"].is_string() && spans["request"]["request_id"].is_string(), "{spans}");
    let call = &spans["broker_call"];
    assert_eq!((&call["app"], &call["channel"]), (&json!("1"), &json!("private-a")));
    assert!(call["node"].as_str().is_some_and(|node| node.len() == 16), "{call}");
    assert!(of("ops").is_some(), "{log}");
}
