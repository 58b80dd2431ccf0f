//! Connections to the server process: limits, probes, the end, and log lines about other protocols and failed proofs.

use std::net::SocketAddr;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;
use tidings_testkit::{Api, Server, dial, eventually, server};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const SOON: Duration = Duration::from_secs(30);

/// Sends bytes and returns all that is answered.
async fn asked(addr: SocketAddr, sent: &[u8]) -> String {
    let mut stream = dial(addr).await;
    stream.write_all(sent).await.unwrap_or_else(|error| panic!("nothing can be sent: {error}"));
    let mut answer = Vec::new();
    // Closed or reset: either way the connection has ended.
    assert!(tokio::time::timeout(SOON, stream.read_to_end(&mut answer)).await.is_ok(), "still open");
    String::from_utf8_lossy(&answer).into_owned()
}

fn upgrade(server: &Server) -> Vec<u8> {
    format!(
        "GET /app/{}?protocol=7 HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: \
        websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
        server.credentials.key
    )
    .into_bytes()
}

/// Waits until the log has a line with these `words`, and calls `cause` again and again meanwhile.
async fn logged(server: &Server, words: &[&str], cause: impl AsyncFn()) {
    eventually(SOON, || async {
        cause().await;
        let log = server.stderr();
        log.lines().any(|line| words.iter().all(|word| line.contains(word))).then_some(())
    })
    .await;
}

// covers: G062
#[tokio::test]
async fn a_full_server_says_so_in_each_protocol_and_serves_probes_and_the_operator() {
    let server = server().alone().env("TIDINGS__MAX_CONNECTIONS", "3").start().await;
    let mut sessions = Vec::new();
    // The connection of the start's readiness check may still be open.
    let end = tokio::time::Instant::now() + SOON;
    while sessions.len() < 3 {
        assert!(tokio::time::Instant::now() < end, "there is no room for {}", sessions.len() + 1);
        let mut stream = dial(server.addr).await;
        stream.write_all(&upgrade(&server)).await.expect("the request is not taken");
        let (mut told, mut byte) = (String::new(), [0]);
        while !told.contains("pusher:connection_established") && stream.read_exact(&mut byte).await.is_ok() {
            told.push(char::from(byte[0]));
        }
        sessions.extend(told.contains("pusher:connection_established").then_some(stream));
    }
    let told = asked(server.addr, &upgrade(&server)).await;
    assert!(told.starts_with("HTTP/1.1 101") && told.contains(r#""code":4100"#), "{told}");
    let refused = server.api().get("/v1/hooks").await;
    assert_eq!((refused.status, &refused.json["code"]), (503, &json!("overloaded")));
    for path in ["/healthz", "/readyz", "/metrics", "/", "/up/"] {
        server.api().get(path).await.expect_status(200);
    }
    server.operator().get("/v1/hooks").await.expect_status(200);
    let metrics = server.metrics().await;
    assert!(metrics.contains(r#"tidings_connections_refused_total{reason="max_connections"}"#), "{metrics}");
    logged(&server, &["connection refused: limit reached", "max_connections"], async || ()).await;
}

// covers: G115
#[tokio::test]
async fn machines_may_have_an_address_of_their_own() {
    let server = server().alone().env("TIDINGS__MACHINES__LISTEN", "127.0.0.1:0").start().await;
    let log = server.stderr();
    let line = log.lines().find(|line| line.contains("an address of their own")).unwrap_or_else(|| panic!("{log}"));
    let address = line.split("address=").nth(1).and_then(|rest| rest.split_whitespace().next()).expect(line);
    let machines = Api::new(&format!("http://{address}"), "");
    assert!(machines.get("/metrics").await.expect_status(200).text().contains("tidings_"));
    assert_eq!(machines.get("/readyz").await.expect_status(200).json["store"], "sqlite");
    machines.get("/healthz").await.expect_status(200);
    machines.get("/v1/hooks").await.expect_status(404);
    server.api().get("/metrics").await.expect_status(404);
    assert_eq!(server.api().get("/readyz").await.expect_status(200).json, json!({"ready": true}));
}

// covers: G092, G309
#[tokio::test]
async fn it_is_not_ready_for_a_while_before_it_stops_to_listen() {
    let mut server = server().alone().env("TIDINGS__SHUTDOWN_DELAY", "10m").start().await;
    let api = server.api();
    for path in ["/", "/ready", "/up", "/accept-traffic"] {
        api.get(path).await.expect_status(200);
    }
    let pid = i32::try_from(server.pid()).ok().and_then(Pid::from_raw).expect("no process id");
    kill_process(pid, Signal::TERM).expect("the signal cannot be sent");
    eventually(SOON, || async { (api.get("/readyz").await.status == 503).then_some(()) }).await;
    for path in ["/", "/ready", "/up", "/accept-traffic"] {
        api.get(path).await.expect_status(503);
    }
    api.get("/healthz").await.expect_status(200);
    api.post("/v1/events", json!({"name": "e", "channels": ["c"], "data": 1})).await.expect_status(202);
    assert!(asked(server.addr, b"GET /healthz HTTP/1.0\r\n\r\n").await.ends_with("ok"));
    // The second signal ends the process at once.
    server.terminate().await.expect_code(130);
}

// covers: G093
#[tokio::test]
async fn clients_that_ignore_the_close_do_not_hold_up_the_end() {
    let mut server = server().alone().env("TIDINGS__SHUTDOWN_GRACE", "10m").start().await;
    let mut deaf = Vec::new();
    for _ in 0..5 {
        let mut stream = dial(server.addr).await;
        stream.write_all(&upgrade(&server)).await.expect("the request is not taken");
        let mut head = [0; 12];
        stream.read_exact(&mut head).await.expect("no answer");
        assert_eq!(&head, b"HTTP/1.1 101");
        deaf.push(stream);
    }
    // Within the test's timeout, and not ten minutes later.
    server.terminate().await.expect_code(0);
}

// covers: G223
#[tokio::test]
async fn what_is_no_http_is_told_with_the_remedy() {
    let plain = server().alone().start().await;
    for (sent, words) in [
        (&b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03"[..], ["protocol=\"TLS\"", "cert and key"]),
        (b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\n", ["protocol=\"the PROXY protocol\"", "trusted_proxies"]),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", ["protocol=\"HTTP/2\"", "HTTP/1.1"]),
    ] {
        logged(&plain, &words, async || drop(asked(plain.addr, sent).await)).await;
    }
    let encrypted = server().alone().tls().start().await;
    let sent = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n";
    assert!(asked(encrypted.addr, sent).await.contains("https://"));
    logged(&encrypted, &["protocol=\"no TLS\"", "https://"], async || drop(asked(encrypted.addr, sent).await)).await;
}

// covers: G064
#[tokio::test]
async fn a_proxy_that_is_not_listed_is_told_once() {
    let server = server().alone().start().await;
    for _ in 0..5 {
        asked(server.addr, b"GET / HTTP/1.0\r\nX-Forwarded-For: 8.8.8.8\r\n\r\n").await;
    }
    let log = server.stderr();
    assert_eq!(log.matches("trusted_proxies").count(), 1, "{log}");
}

// covers: G233
#[tokio::test]
async fn what_proves_nothing_is_counted_and_told_through_each_door() {
    let server = server().alone().start().await;
    let guess = Api::new(&server.url, "a-guess");
    guess.get("/v1/hooks").await.expect_status(401);
    guess.get("/v1/apps").await.expect_status(401);
    let open = Api::new(&server.url, "");
    let signed =
        "auth_key=KEY&auth_timestamp=1&auth_version=1.0&auth_signature=x".replace("KEY", &server.credentials.key);
    open.get(&format!("/apps/1/channels?{signed}")).await.expect_status(401);
    let token = "eyJhbGciOiJIUzI1NiJ9.e30.AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";
    open.get(&format!("/v1/stream?app={}&channels=private-a&token={token}", server.credentials.key))
        .await
        .expect_status(401);
    open.get("/v1/stream?app=nobodys&channels=a").await.expect_status(404);
    let metrics = server.metrics().await;
    for (reason, count) in [("api_key", 2), ("signature", 1), ("token", 1), ("app_key", 1)] {
        let line = format!("tidings_failed_proofs_total{{reason=\"{reason}\"}} {count}\n");
        assert!(metrics.contains(&line), "{line} is not in {metrics}");
    }
    let words = ["authentication failed", "client=127.0.0.1", "reason=\"api_key\""];
    logged(&server, &words, async || drop(guess.get("/v1/hooks").await)).await;
    assert!(!server.stderr().contains("a-guess"), "the key is in the log");
}

/// The heads of requests to all doors, and the status that refuses a long body.
fn refused_by_doors(server: &Server) -> Vec<(String, u16)> {
    let host = |path: &str| format!("POST {path} HTTP/1.1\r\nHost: x\r\n");
    let app = &server.credentials.app_id;
    let key = |key: &str| format!("Authorization: Bearer {key}\r\n");
    vec![
        (host("/v1/events") + &key("wrong"), 401),
        (host("/v1/events") + &key(&server.credentials.api_key), 413),
        (host("/v1/nothing") + &key(&server.credentials.api_key), 404),
        (host(&format!("/apps/{app}/events")), 401),
        (host("/apps/none/events"), 404),
        (host(&format!("/a/{app}/pusher/auth")), 413),
        (host("/nothing"), 404),
    ]
}

/// The status and the head of an answer; the body is read too.
async fn answer(stream: &mut TcpStream) -> std::io::Result<(u16, String)> {
    let read = async {
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            head.push(char::from(stream.read_u8().await?));
        }
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse().ok());
        stream.read_exact(&mut vec![0; length.unwrap_or(0)]).await?;
        Ok((head.get(9..12).and_then(|status| status.parse().ok()).unwrap_or(0), head))
    };
    tokio::time::timeout(SOON, read).await?
}

// covers: G065
#[tokio::test]
async fn each_doors_answer_to_a_refused_body_arrives() {
    let server = server().alone().start().await;
    let (short, long) = (" ".repeat(20_000), " ".repeat(300_000));
    let by_length = |body: &str| format!("Content-Length: {}\r\n\r\n{body}", body.len());
    let in_chunks = |body: &str| format!("Transfer-Encoding: chunked\r\n\r\n{:x}\r\n{body}\r\n0\r\n\r\n", body.len());
    for (head, refused) in refused_by_doors(&server) {
        for line in ["", "Connection: close\r\n", "Expect: 100-continue\r\n"] {
            for body in [by_length(&long), in_chunks(&long), by_length(&short)] {
                let what = format!("{head}{line}{}", &body[..30]);
                let mut stream = dial(server.addr).await;
                // Everything is sent before anything is read, as simple clients do.
                let request = format!("{head}{line}{body}");
                stream.write_all(request.as_bytes()).await.unwrap_or_else(|error| panic!("{what}: {error}"));
                let (mut status, mut head) = answer(&mut stream).await.expect(&what);
                if status == 100 {
                    (status, head) = answer(&mut stream).await.expect(&what);
                }
                let is_long = body.len() > long.len();
                assert!(if is_long { status == refused } else { (400..500).contains(&status) }, "{what}: {head}");
                if head.contains("connection: close") {
                    assert!(!line.is_empty(), "{what}: the connection goes on, if its client wants it to");
                    let mut rest = String::new();
                    tokio::time::timeout(SOON, stream.read_to_string(&mut rest))
                        .await
                        .expect("still open")
                        .expect(&what);
                    assert_eq!(rest, "", "{what}");
                } else {
                    stream.write_all(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
                    assert_eq!(answer(&mut stream).await.expect(&what).0, 200, "{what}");
                }
            }
        }
    }
}
