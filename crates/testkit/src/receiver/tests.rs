//! The receiver against a client of our own.

use std::time::Duration;

use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::*;
use crate::Api;

const SOON: Duration = Duration::from_secs(5);

#[tokio::test]
async fn requests_are_remembered_as_they_came() {
    let receiver = Receiver::start();
    let api = Api::new(&receiver.url(""), "");
    let reply = api.post("/in?a=1", json!({"n": 1})).header("x-first", "1").header("webhook-id", "evt_1").await;
    assert_eq!(reply.status, 204);
    api.get("/other").await;
    let got = receiver.wait_for(1, |r| r.path == "/in", SOON).await;
    assert_eq!(got.len(), 1);
    assert_eq!((got[0].query.as_str(), got[0].text().as_str()), ("a=1", "{\"n\":1}"));
    let names: Vec<_> = got[0].headers.keys().map(|name| name.as_str()).collect();
    let place = |name| names.iter().position(|n| *n == name);
    assert!(place("x-first") < place("webhook-id"), "{names:?}");
    assert_eq!((receiver.total(), receiver.connections()), (2, 1));
    assert_eq!(receiver.received_on("/other")[0].number, 2);
}

#[tokio::test]
async fn answers_follow_the_script() {
    let receiver = Receiver::start();
    let api = Api::new(&receiver.url(""), "");
    receiver.respond_sequence(
        "/a",
        vec![Answer::status(500), Answer::status(429).header("retry-after", "1"), Answer::default()],
    );
    let mut statuses = Vec::new();
    for _ in 0..4 {
        statuses.push(api.get("/a").await.status);
    }
    assert_eq!(statuses, [500, 429, 204, 204]);
    receiver.respond("/a", Answer::status(200).body("changed"));
    assert_eq!(api.get("/a").await.text(), "changed");
    receiver.answer_with("/b", |request| Answer::status(200).body(request.body.clone()));
    assert_eq!(api.post("/b", json!([1])).await.text(), "[1]");
    receiver.respond_otherwise(Answer::status(404));
    assert_eq!(api.get("/c").await.status, 404);
}

#[tokio::test]
async fn connections_break_as_the_script_says() {
    let receiver = Receiver::start();
    receiver.respond("/reset", Answer::reset());
    receiver.respond("/cut", Answer::status(200).body("0123456789").cut_body_after(4));
    let mut stream = crate::dial(receiver.addr()).await;
    stream.write_all(b"GET /reset HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    let error = stream.read(&mut [0; 100]).await.unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
    let mut stream = crate::dial(receiver.addr()).await;
    stream.write_all(b"GET /cut HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).await.unwrap();
    assert!(text.contains("content-length: 10"), "{text}");
    assert!(text.ends_with("\r\n\r\n0123"), "{text}");
}

#[tokio::test]
async fn a_hanging_answer_counts_as_under_way_until_the_client_leaves() {
    let receiver = Receiver::start();
    receiver.respond("/hang", Answer::hang());
    let api = Api::new(&receiver.url(""), "");
    let calls: Vec<_> = (0..3).map(|_| tokio::spawn(api.get("/hang").within(Duration::from_secs(60)).send())).collect();
    receiver.wait_for(3, |_| true, SOON).await;
    assert_eq!((receiver.under_way("/hang"), receiver.most_at_once("/hang")), (3, 3));
    calls.iter().for_each(|call| call.abort());
    crate::eventually(SOON, || async { (receiver.under_way("/hang") == 0).then_some(()) }).await;
    assert_eq!(receiver.most_at_once_in_all(), 3);
}

#[tokio::test]
async fn a_dripping_body_comes_in_steps() {
    let receiver = Receiver::start();
    receiver.respond("/drip", Answer::status(200).body("abcdef").drip(2, Duration::from_millis(20)));
    let start = Instant::now();
    assert_eq!(Api::new(&receiver.url(""), "").get("/drip").await.text(), "abcdef");
    assert!(start.elapsed() >= Duration::from_millis(40));
}

#[tokio::test]
async fn it_goes_down_and_comes_back_at_the_same_address() {
    let receiver = Receiver::start();
    let api = Api::new(&receiver.url(""), "");
    api.get("/").await;
    receiver.go_down().await;
    assert!(api.get("/").send().await.is_err());
    receiver.come_back();
    assert_eq!(api.get("/").await.status, 204);
}

#[tokio::test]
async fn only_the_last_requests_are_kept() {
    let receiver = Receiver::start();
    receiver.keep(2);
    let api = Api::new(&receiver.url(""), "");
    for n in 0..5 {
        api.get(&format!("/{n}")).await;
    }
    let paths: Vec<_> = receiver.received().into_iter().map(|r| r.path).collect();
    assert_eq!((receiver.total(), paths), (5, vec!["/3".to_owned(), "/4".to_owned()]));
}

#[tokio::test]
#[should_panic(expected = "0 of 1 requests")]
async fn a_wait_in_vain_says_what_came() {
    let receiver = Receiver::start();
    Api::new(&receiver.url(""), "").get("/elsewhere").await;
    receiver.wait_for(1, |r| r.path == "/here", Duration::from_millis(50)).await;
}
