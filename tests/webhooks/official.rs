//! The official Standard Webhooks libraries (npm, PyPI, the crate) verify our requests.

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use tidings_testkit::{Answer, Receiver, verify_with_official_clients};

use crate::kit::{SOON, crate_accepts, hook, listener, nothing_pending, open};

/// JSON that parsing and serializing again would easily change.
const TRICKY: [&str; 14] = [
    "{}",
    "[]",
    "null",
    "\"\"",
    "0.10",
    "-0",
    "1E5",
    "123456789012345678901234567890",
    r#"{"b":1,"a":2,"b":3}"#,
    r#"{ "a" : [ 1 , 2.50 ] ,  "z":{} }"#,
    r#""\u00e6 æ \ud83d\ude00 😀 \/ / \u0000 \"""#,
    r#"{"Ærøskøbing":"東京 🚀","\u0061":"\u202eltr   "}"#,
    r#""</script>&<>""#,
    r#"[[[[[[[[[[[[[[[[1]]]]]]]]]]]]]]]]"#,
];

// covers: I04
#[tokio::test]
async fn json_arrives_byte_for_byte_and_verifies() {
    let receiver = Receiver::start();
    let server = open().start().await;
    let api = server.api();
    hook(&api, "e").await;
    let owner = listener(&api, json!({"url": receiver.url("/in"), "hooks": ["e"]})).await;
    for (number, data) in TRICKY.iter().enumerate() {
        let body = format!(r#"{{"name":"e","id":"tricky-{number}","data":{data}}}"#);
        api.request(http::Method::POST, "/v1/events").body(body, "application/json").await.expect_status(202);
    }
    let received = receiver.wait_for(TRICKY.len(), |_| true, SOON).await;
    for (number, data) in TRICKY.iter().enumerate() {
        let id = format!("tricky-{number}");
        let request = received.iter().find(|request| request.header("webhook-id") == Some(&id)).unwrap();
        assert!(request.text().ends_with(&format!(r#","data":{data}}}"#)), "{data} became {}", request.text());
        assert!(crate_accepts(request, &request.body, &owner.secret), "{}", request.text());
    }
    verify_with_official_clients(&received, &owner.secret);
}

// covers: I04
#[tokio::test]
async fn binary_and_text_arrive_whole_and_verify() {
    let receiver = Receiver::start();
    let server = open().start().await;
    let api = server.api();
    hook(&api, "e").await;
    let owner = listener(&api, json!({"url": receiver.url("/in"), "hooks": ["e"]})).await;
    let bytes: Vec<u8> = (0..=255).collect();
    let png = json!({"data_base64": STANDARD.encode(&bytes), "content_type": "image/png"});
    let untyped = json!({"data_base64": STANDARD.encode(&bytes)});
    let text = json!({"data_base64": STANDARD.encode("Grüße,\n\t\"you\" 😀\u{1}"),
        "content_type": "text/plain; charset=utf-8"});
    let not_utf8 = json!({"data_base64": STANDARD.encode([0xff, 0xfe]), "content_type": "text/plain"});
    let json_text = json!({"data_base64": STANDARD.encode(r#" {"n": 1.50} "#), "content_type": "application/json"});
    let nothing = json!({"data_base64": "", "content_type": "application/x-empty"});
    let cases: Vec<(Value, &str, Value)> = vec![
        (png.clone(), "data_base64", png["data_base64"].clone()),
        (untyped.clone(), "data_base64", untyped["data_base64"].clone()),
        (text, "data", json!("Grüße,\n\t\"you\" 😀\u{1}")),
        (not_utf8.clone(), "data_base64", not_utf8["data_base64"].clone()),
        (json_text, "data", json!({"n": 1.5})),
        (nothing, "data_base64", json!("")),
    ];
    for (number, (given, ..)) in cases.iter().enumerate() {
        let mut body = given.clone();
        body["name"] = json!("e");
        body["id"] = json!(format!("{number}"));
        api.post("/v1/events", body).await.expect_status(202);
    }
    let received = receiver.wait_for(cases.len(), |_| true, SOON).await;
    for (number, (given, field, expected)) in cases.iter().enumerate() {
        let id = number.to_string();
        let request = received.iter().find(|request| request.header("webhook-id") == Some(&id)).unwrap();
        let body = request.json();
        assert_eq!(&body[field], expected, "{body}");
        let kind = &given["content_type"];
        if *kind != "application/json" {
            let shown = if kind.is_null() { &json!("application/octet-stream") } else { kind };
            assert_eq!(&body["content_type"], shown, "{body}");
        }
        assert!(crate_accepts(request, &request.body, &owner.secret), "{body}");
    }
    verify_with_official_clients(&received, &owner.secret);
}

// covers: K05
#[tokio::test]
async fn what_was_tampered_with_does_not_verify() {
    let receiver = Receiver::start();
    let server = open().start().await;
    let api = server.api();
    hook(&api, "e").await;
    let owner = listener(&api, json!({"url": receiver.url("/in"), "hooks": ["e"]})).await;
    let other = listener(&api, json!({"url": receiver.url("/other"), "hooks": ["e"]})).await;
    api.post("/v1/events", json!({"name": "e", "data": {"to": "Ada", "amount": 10}})).await.expect_status(202);
    nothing_pending(&api).await;
    let request = receiver.received_on("/in").remove(0);
    assert!(crate_accepts(&request, &request.body, &owner.secret));
    let tampered = request.text().replace("10", "99");
    assert!(!crate_accepts(&request, tampered.as_bytes(), &owner.secret), "another body");
    assert!(!crate_accepts(&request, &request.body, &other.secret), "somebody else's secret");
    for (header, value) in [("webhook-id", "evt_other"), ("webhook-timestamp", "1763719000")] {
        let mut moved = request.clone();
        moved.headers.insert(header, value.parse().unwrap());
        assert!(!crate_accepts(&moved, &moved.body, &owner.secret), "another {header}");
    }
    // The other libraries say the same; testkit panics when one of them refuses.
    let mut changed = request.clone();
    changed.body = tampered.into();
    let secret = owner.secret.clone();
    let judged = std::thread::spawn(move || verify_with_official_clients(&[changed], &secret)).join();
    assert!(judged.is_err(), "an official library took a body that was changed");
}

// covers: P01
#[tokio::test]
async fn each_attempt_has_a_fresh_timestamp_and_the_same_id() {
    let receiver = Receiver::start();
    receiver.respond_sequence("/in", vec![Answer::status(500), Answer::status(500), Answer::status(204)]);
    let server = open().start().await;
    let api = server.api();
    hook(&api, "e").await;
    // More than a second even with the jitter of a fifth, so that the second in the timestamp must be another.
    let schedule = json!(["0s", "1300ms", "1300ms"]);
    let owner = listener(&api, json!({"url": receiver.url("/in"), "hooks": ["e"], "schedule": schedule})).await;
    let id = crate::kit::publish(&api, "e", json!({"n": 1})).await;
    let received = receiver.wait_for(3, |_| true, SOON).await;
    nothing_pending(&api).await;
    let header = |name: &str| received.iter().map(|r| r.header(name).unwrap().to_owned()).collect::<Vec<_>>();
    assert!(header("webhook-id").iter().all(|seen| *seen == id), "{:?}", header("webhook-id"));
    let times: Vec<i64> = header("webhook-timestamp").iter().map(|time| time.parse().unwrap()).collect();
    assert!(times[0] < times[1] && times[1] < times[2], "{times:?}");
    let signatures = header("webhook-signature");
    assert!(signatures[0] != signatures[1] && signatures[1] != signatures[2], "{signatures:?}");
    assert!(received.iter().all(|request| request.body == received[0].body), "the body changed between attempts");
    let gaps: Vec<Duration> = received.windows(2).map(|pair| pair[1].at - pair[0].at).collect();
    assert!(gaps.iter().all(|gap| *gap >= Duration::from_millis(1_000)), "earlier than the schedule: {gaps:?}");
    verify_with_official_clients(&received, &owner.secret);
}

/// A delivery has the fields that the hook declared when the event was published, even if the hook has changed before a
/// retry.
// covers: P01
#[tokio::test]
async fn a_retry_sends_what_the_first_attempt_sent() {
    let receiver = Receiver::start();
    receiver.respond_sequence("/in", vec![Answer::status(500), Answer::status(204)]);
    let mut server = open().start().await;
    let api = server.api();
    api.post("/v1/hooks", json!({"name": "e", "fields": ["name"]})).await.expect_status(201);
    let owner = listener(&api, json!({"url": receiver.url("/in"), "hooks": ["e"], "schedule": ["0s", "2s"]})).await;
    crate::kit::publish(&api, "e", json!({"name": "Joe", "secret": "x"})).await;
    receiver.wait_for(1, |_| true, SOON).await;
    api.patch("/v1/hooks/e", json!({"fields": ["name", "secret"]})).await.expect_status(200);
    // Nor does it matter that it has to be read again.
    server.restart().await;
    let received = receiver.wait_for(2, |_| true, SOON).await;
    assert_eq!(received[1].json()["data"], json!({"name": "Joe"}));
    assert!(received.iter().all(|request| request.body == received[0].body), "{}", received[1].text());
    verify_with_official_clients(&received, &owner.secret);
}

/// A listener's own headers are sent, and cannot replace ours.
// covers: I01, I02, K03
#[tokio::test]
async fn own_headers_come_along_and_replace_none_of_ours() {
    let receiver = Receiver::start();
    let server = open().start().await;
    let api = server.api();
    hook(&api, "e").await;
    let url = receiver.url("/in");
    for name in [
        "Host",
        "content-length",
        "Transfer-Encoding",
        "Connection",
        "Webhook-Signature",
        "svix-id",
        "proxy-authorization",
    ] {
        let refused =
            api.post("/v1/listeners", json!({"url": url, "hooks": ["e"], "headers": {(name): "value-of-it"}})).await;
        let refused = refused.expect_status(422);
        assert!(refused["field"].as_str().is_some_and(|field| field.starts_with("headers")), "{}", refused.text());
        assert!(!refused.text().contains("value-of-it"), "a value was repeated: {}", refused.text());
    }
    for (name, value) in
        [("x-a", "1\r\nx-b: 2"), ("x\r\ny", "1"), ("x y", "1"), ("x-a", "a\u{0}"), ("", "1"), ("x-ø", "1")]
    {
        api.post("/v1/listeners", json!({"url": url, "hooks": ["e"], "headers": {(name): value}}))
            .await
            .expect_status(422);
    }
    let headers = json!({"Authorization": "Bearer of-the-partner", "X-Team": "a"});
    let owner = listener(&api, json!({"url": url, "hooks": ["e"], "headers": headers})).await;
    crate::kit::publish(&api, "e", json!({})).await;
    let request = receiver.wait_for(1, |_| true, SOON).await.remove(0);
    assert_eq!((request.header("authorization"), request.header("x-team")), (Some("Bearer of-the-partner"), Some("a")));
    assert!(request.header("accept-encoding").is_none(), "{:?}", request.headers);
    assert!(crate_accepts(&request, &request.body, &owner.secret));
    // What was shown can be sent back: a hidden value stays what it is.
    let path = format!("/v1/listeners/{}", owner.id);
    let shown = api.get(&path).await.expect_status(200);
    assert_eq!(shown["headers"], json!({"Authorization": "***", "X-Team": "***"}), "{}", shown.text());
    api.patch(&path, json!({"headers": {"Authorization": "***", "X-New": "b"}})).await.expect_status(200);
    let id = crate::kit::publish(&api, "e", json!({})).await;
    let request = receiver.wait_for(1, |request| request.header("webhook-id") == Some(&id), SOON).await.remove(0);
    assert_eq!((request.header("authorization"), request.header("x-new")), (Some("Bearer of-the-partner"), Some("b")));
    assert_eq!(request.header("x-team"), None, "{:?}", request.headers);
}
