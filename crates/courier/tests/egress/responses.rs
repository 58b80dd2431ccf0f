//! Responses are passed on as they are, and connection fields of requests are ours: statuses, redirects, headers.

use std::time::Duration;

use http::header::{HeaderName, HeaderValue};
use http::{Method, StatusCode};

use super::kit::{AMPLE, Client, request};
use super::receiver::Receiver;

// covers: R13
#[tokio::test]
async fn every_status_passes_through() {
    let client = Client::allowing(&["127.0.0.1/32"]);
    for status in [200, 201, 202, 204, 206, 299, 300, 304, 400, 401, 404, 410, 418, 429, 500, 502, 503, 504, 599, 999] {
        let receiver =
            Receiver::answering(format!("HTTP/1.1 {status} X\r\nRetry-After: 7\r\nContent-Length: 0\r\n\r\n")).await;
        let response = client.post(&receiver.url()).await.unwrap();
        assert_eq!(response.status.as_u16(), status);
        assert_eq!(response.headers["retry-after"], "7");
        assert!(response.body.is_empty() && !response.truncated);
    }
}

// covers: R13, R08
#[tokio::test]
async fn interim_responses_are_not_the_answer() {
    let client = Client::allowing(&["127.0.0.1/32"]);
    let interim =
        "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 102 Processing\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n";
    let receiver = Receiver::answering(format!("{interim}HTTP/1.1 201 Created\r\nContent-Length: 2\r\n\r\nok")).await;
    let response = client.post(&receiver.url()).await.unwrap();
    assert_eq!(response.status, 201);
    assert_eq!(response.body, "ok");
    assert!(!response.headers.contains_key("link"));
}

// covers: R13
#[tokio::test]
async fn switching_protocols_unasked_is_only_a_status() {
    let receiver = Receiver::start(|mut conn| async move {
        conn.read_request().await;
        conn.send("HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\nxxxx").await;
        conn.closed().await;
    })
    .await;
    let client = Client::allowing(&["127.0.0.1/32"]);
    let response = client.post(&receiver.url()).await.unwrap();
    assert_eq!(response.status, StatusCode::SWITCHING_PROTOCOLS);
    drop(response);
    receiver.ended(1).await;
}

// covers: S11
#[tokio::test]
async fn redirects_are_never_followed() {
    let target = Receiver::answering("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await;
    let client = Client::allowing(&["127.0.0.1/32"]);
    for status in [301, 302, 303, 307, 308] {
        for location in [
            target.url(),
            "http://169.254.169.254/latest/meta-data/".to_owned(),
            "//[::1]/".to_owned(),
            "https://example.com/".to_owned(),
        ] {
            let head = format!("HTTP/1.1 {status} Moved\r\nLocation: {location}\r\nContent-Length: 0\r\n\r\n");
            let receiver = Receiver::answering(head).await;
            let before = client.log.dialled().len();
            let response = client.post(&receiver.url()).await.unwrap();
            assert_eq!(response.status.as_u16(), status);
            assert_eq!(response.headers["location"].to_str().unwrap(), location);
            assert_eq!(client.log.dialled()[before..], [receiver.addr]);
            assert_eq!(receiver.requests().len(), 1);
        }
    }
    assert_eq!(target.accepted(), 0);
}

// covers: R05
#[tokio::test]
async fn the_request_is_what_the_caller_gave_without_what_is_ours() {
    let receiver = Receiver::answering("HTTP/1.1 204 No Content\r\n\r\n").await;
    let client = Client::allowing(&["127.0.0.1/32"]);
    let mut request = request(&format!("{}hook?x=1&y=%20#fragment", receiver.url()));
    let fields = [
        ("webhook-id", "msg_1"),
        ("authorization", "Bearer t"),
        ("x-utf8", "bl\u{e5}b\u{e6}r"),
        ("host", "evil.test"),
        ("content-length", "3"),
        ("transfer-encoding", "chunked"),
        ("connection", "upgrade"),
        ("keep-alive", "timeout=5"),
        ("te", "trailers"),
        ("trailer", "x"),
        ("upgrade", "h2c"),
        ("expect", "100-continue"),
        ("accept-encoding", "gzip"),
        ("proxy-authorization", "Basic eA=="),
        ("proxy-connection", "keep-alive"),
    ];
    for (name, value) in fields {
        let value = HeaderValue::from_bytes(value.as_bytes()).unwrap();
        request.headers.insert(HeaderName::from_static(name), value);
    }
    let body = request.body.clone();
    client.egress.send(request, AMPLE).await.unwrap();

    let seen = receiver.requests().remove(0);
    assert!(seen.head.starts_with("POST /hook?x=1&y=%20 HTTP/1.1\r\n"), "{}", seen.head);
    assert_eq!(seen.header("webhook-id"), Some("msg_1"));
    assert_eq!(seen.header("authorization"), Some("Bearer t"));
    assert_eq!(seen.header("x-utf8"), Some("bl\u{e5}b\u{e6}r"));
    assert_eq!(seen.header("host"), Some(receiver.addr.to_string().as_str()));
    assert_eq!(seen.header("content-length"), Some(body.len().to_string().as_str()));
    assert!(seen.header("user-agent").unwrap().starts_with("Tidings/"));
    for (name, _) in &fields[5..] {
        assert_eq!(seen.header(name), None, "{name}");
    }
    assert_eq!(seen.body, body, "the signed bytes are the sent bytes");
}

#[tokio::test]
async fn the_callers_user_agent_is_kept_and_methods_pass() {
    let receiver = Receiver::answering("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await;
    let client = Client::allowing(&["127.0.0.1/32"]);
    for method in [Method::GET, Method::PUT, Method::DELETE, Method::PATCH, Method::HEAD] {
        let mut request = request(&receiver.url());
        request.method = method.clone();
        request.headers.insert("user-agent", HeaderValue::from_static("mine/1"));
        let response = client.egress.send(request, AMPLE).await.unwrap();
        assert_eq!(response.status, 200);
        assert!(response.elapsed < AMPLE && response.elapsed > Duration::ZERO);
    }
    for (seen, method) in receiver.requests().iter().zip(["GET", "PUT", "DELETE", "PATCH", "HEAD"]) {
        assert!(seen.head.starts_with(method), "{}", seen.head);
        assert_eq!(seen.header("user-agent"), Some("mine/1"));
    }
    let mut connect = request(&receiver.url());
    connect.method = Method::CONNECT;
    let error = client.egress.send(connect, AMPLE).await.expect_err("CONNECT");
    assert_eq!(error.code(), "invalid_url");
}
