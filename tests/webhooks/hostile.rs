//! Receivers with broken answers: each attempt records what was wrong, and the server is not harmed.

use std::time::Duration;

use serde_json::{Value, json};
use tidings_testkit::{Answer, RawReceiver, Receiver, Server, eventually, read_request};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use crate::kit::{SOON, attempts, hook, listener, only_settled, open, publish};

/// The one attempt of a delivery to `url`, in a hook of its own.
async fn attempt(server: &Server, url: &str, name: &str) -> Value {
    let api = server.api();
    hook(&api, name).await;
    listener(&api, json!({"url": url, "hooks": [name], "schedule": ["0s"], "timeout": "700ms"})).await;
    let delivery = only_settled(&api, &publish(&api, name, json!({"n": 1})).await).await;
    let mut made = attempts(&api, &delivery).await;
    assert_eq!(made.len(), 1, "{made:?}");
    made.remove(0)
}

/// Sends bytes after the request, and keeps the connection open.
async fn say(mut stream: TcpStream, bytes: &'static [u8]) {
    read_request(&mut stream).await;
    stream.write_all(bytes).await.ok();
    std::future::pending::<()>().await;
}

/// Sends the same bytes again and again until the server closes the connection.
async fn flood(mut stream: TcpStream, head: &'static [u8], bytes: &[u8]) {
    read_request(&mut stream).await;
    stream.write_all(head).await.ok();
    while stream.write_all(bytes).await.is_ok() {}
}

// covers: R01, R02, R03
#[tokio::test]
async fn silence_and_dripping_cost_one_timeout() {
    let receiver = Receiver::start();
    receiver.respond("/silent", Answer::hang());
    let drip = Answer::status(200).body(vec![b'x'; 4_000]).drip(1, Duration::from_millis(50));
    receiver.respond("/body", drip);
    let head = RawReceiver::start(|mut stream| async move {
        read_request(&mut stream).await;
        for byte in b"HTTP/1.1 200 OK\r\nx-filler: ".iter().chain([b'x'; 1_000].iter()) {
            if stream.write_all(&[*byte]).await.is_err() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    });
    let server = open().start().await;
    for (url, name) in [(receiver.url("/silent"), "silent"), (receiver.url("/body"), "body"), (head.url("/"), "head")] {
        let made = attempt(&server, &url, name).await;
        assert_eq!(made["outcome"], "timeout", "{name}: {made}");
        let took = made["duration_ms"].as_u64().unwrap();
        assert!((690..5_000).contains(&took), "{name}: {took} ms for a timeout of 700 ms");
    }
}

// covers: R06, R07, R08
#[tokio::test]
async fn nonsense_is_recorded_for_what_it_is() {
    let server = open().start().await;
    let receiver = Receiver::start();
    receiver.respond("/reset", Answer::reset());
    receiver.respond("/cut", Answer::status(200).body(vec![b'x'; 1_000]).cut_body_after(10));
    assert_eq!(attempt(&server, &receiver.url("/reset"), "reset").await["outcome"], "protocol");
    assert_eq!(attempt(&server, &receiver.url("/cut"), "cut").await["outcome"], "protocol");
    let cases: [(&str, &'static [u8], &[&str]); 6] = [
        ("status-line", b"NONSENSE\r\n\r\n", &["protocol"]),
        ("status", b"HTTP/1.1 999999 OK\r\n\r\n", &["protocol"]),
        ("length", b"HTTP/1.1 200 OK\r\ncontent-length: nine\r\n\r\n", &["protocol"]),
        ("header", b"HTTP/1.1 200 OK\r\nno colon here\r\n\r\n", &["protocol"]),
        ("old", b"HTTP/1.0 500 Oh\r\ncontent-length: 2\r\n\r\nno", &["http_status"]),
        ("bytes", b"HTTP/1.1 500 Oh\r\nx-odd: \xff\xfe\r\ncontent-length: 0\r\n\r\n", &["http_status", "protocol"]),
    ];
    for (name, bytes, outcomes) in cases {
        let receiver = RawReceiver::start(move |stream| say(stream, bytes));
        let made = attempt(&server, &receiver.url("/"), name).await;
        assert!(outcomes.contains(&made["outcome"].as_str().unwrap()), "{name}: {made}");
    }
    let closed = RawReceiver::start(|stream| async move { drop(stream) });
    assert_eq!(attempt(&server, &closed.url("/"), "closed").await["outcome"], "protocol");
    // And one that isn't there at all.
    let nobody = format!("127.0.0.1:{}", tidings_testkit::free_port());
    assert_eq!(attempt(&server, &format!("http://{nobody}/"), "nobody").await["outcome"], "connect");
    // The server still works.
    assert_eq!(attempt(&server, &receiver.url("/fine"), "fine").await["outcome"], "delivered");
}

// covers: R04, R05, R06, R08
#[tokio::test]
async fn floods_are_cut_off_and_memory_stays_flat() {
    const ATTEMPTS: usize = 12;
    let server = open().alone().start().await;
    let api = server.api();
    let chunk = b"4000\r\n".iter().copied().chain([b'x'; 0x4000]).chain(*b"\r\n").collect::<Vec<u8>>();
    let chunk: &'static [u8] = chunk.leak();
    let body = RawReceiver::start(move |stream| {
        flood(stream, b"HTTP/1.1 500 Oh\r\ntransfer-encoding: chunked\r\n\r\n", chunk)
    });
    let headers = RawReceiver::start(|stream| {
        flood(stream, b"HTTP/1.1 200 OK\r\n", b"x-a: yyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyy\r\n")
    });
    let hints = RawReceiver::start(|stream| flood(stream, b"", b"HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n"));
    let endless = attempt(&server, &body.url("/"), "warm").await;
    assert_eq!((&endless["outcome"], &endless["status"]), (&json!("http_status"), &json!(500)), "{endless}");
    let kept = endless["response_body"].as_str().unwrap().len();
    assert!((1..=16 * 1024).contains(&kept), "{kept} bytes of an endless body were kept");
    let outcome = attempt(&server, &headers.url("/"), "headers").await;
    assert!(["too_large", "protocol"].contains(&outcome["outcome"].as_str().unwrap()), "{outcome}");
    let outcome = attempt(&server, &hints.url("/"), "hints").await;
    assert!(["too_large", "protocol", "timeout"].contains(&outcome["outcome"].as_str().unwrap()), "{outcome}");

    let before = server.rss_kib();
    hook(&api, "flood").await;
    for url in [body.url("/"), headers.url("/"), hints.url("/")] {
        listener(
            &api,
            json!({"url": url, "hooks": ["flood"], "schedule": ["0s"], "timeout": "700ms", "concurrency": 20}),
        )
        .await;
    }
    for number in 0..ATTEMPTS {
        publish(&api, "flood", json!({"n": number})).await;
    }
    crate::kit::nothing_pending(&api).await;
    let after = server.rss_kib();
    println!("resident memory: {before} KiB before, {after} KiB after {} floods", 3 * ATTEMPTS);
    assert!(after < before + 48 * 1024, "memory grew from {before} to {after} KiB");
    eventually(SOON, || async { (api.get("/readyz").await.status == 200).then_some(()) }).await;
}
