//! Real connections to the accept loop: limits, the end, TLS, and leaving HTTP.

mod bodies;
mod ids;
mod streams;

use std::convert::Infallible;
use std::net::SocketAddr;

use axum::body::{Body, Bytes};
use axum::response::Response;
use axum::routing::{get, post};
use http::{HeaderMap, Request, StatusCode, header};
use hyper::body::Frame;
use tidings_live::{ClientAddr, FailedProof, upgrade};
use tidings_testkit::{dial, eventually};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::{Notify, mpsc, oneshot};
use tokio::task::JoinHandle;

use super::*;
use crate::tls::tests::{connect, files};

const SOON: Duration = Duration::from_secs(10);
const GET: &[u8] = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n";
const WHO: &[u8] = b"GET /who HTTP/1.1\r\nHost: x\r\nConnection: close\r\nX-Forwarded-For: 198.51.100.7\r\n\r\n";
const ECHO: &[u8] = b"GET /echo HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n";

struct Running {
    addr: SocketAddr,
    /// Notified when a request has arrived.
    arrived: Arc<Notify>,
    /// Lets one request be answered.
    answer: Arc<Notify>,
    /// Sends further pieces of the answer of `/stream`; dropped, it ends the answer.
    stream: mpsc::Sender<&'static [u8]>,
    stop: oneshot::Sender<()>,
    ended: JoinHandle<()>,
}

fn settings() -> ConnectionSettings {
    ConnectionSettings { shutdown_grace: Duration::from_secs(1), ..ConnectionSettings::default() }
}

async fn start(settings: ConnectionSettings) -> Running {
    start_with(settings, None).await
}

async fn start_with(settings: ConnectionSettings, tls: Option<Tls>) -> Running {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    let (arrived, answer) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let (on_arrival, may_answer) = (Arc::clone(&arrived), Arc::clone(&answer));
    let waits = move || async move {
        on_arrival.notify_one();
        may_answer.notified().await;
        "done"
    };
    let (stream, parts) = mpsc::channel(1);
    let parts = Arc::new(parking_lot::Mutex::new(Some(parts)));
    let streamed = async move || Response::new(Body::new(Answer(parts.lock().take().unwrap())));
    let router = Router::new()
        .route("/wait", post(waits.clone()))
        .route("/", get(waits))
        .route("/stream", get(streamed.clone()).post(streamed))
        .route("/who", get(who))
        .route("/healthz", get("fine"))
        .route("/host", get(host))
        .route("/prove", get(prove))
        .route("/say", post(say))
        .route("/nothing", post(StatusCode::NO_CONTENT))
        .route("/echo", get(echo))
        .merge(bodies::router())
        .merge(streams::router());
    let (stop, stopped) = oneshot::channel();
    let shutdown = async move {
        stopped.await.ok();
    };
    let parts = Parts {
        tls,
        operator_key: Some("the-operators-key".into()),
        ..Parts::of(router, settings, Supervisor::default())
    };
    let parts = Parts { no_room: Arc::new(no_room), ..parts };
    let accept = Accept::new(parts);
    let ended = tokio::spawn(async move {
        accept.run(listener, shutdown).await;
        accept.end().await;
    });
    Running { addr, arrived, answer, stream, stop, ended }
}

/// An answer that goes on as long as its sender lives.
struct Answer(mpsc::Receiver<&'static [u8]>);

impl hyper::body::Body for Answer {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: std::pin::Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.0.poll_recv(cx).map(|part| part.map(|part| Ok(Frame::data(Bytes::from_static(part)))))
    }
}

/// Answers with the client's address.
async fn who(request: axum::extract::Request) -> String {
    request.extensions().get::<ClientAddr>().unwrap().0.to_string()
}

/// Answers with the refusal of a session.
fn no_room(request: &Request<()>) -> Option<Vec<u8>> {
    (request.uri().path() == "/echo").then(|| b"no room for an echo".to_vec())
}

/// Answers with the host and path of the request.
async fn host(request: axum::extract::Request) -> String {
    format!("{} {}", request.headers()["host"].to_str().unwrap(), request.uri())
}

/// A handler that accepts no key.
async fn prove() -> Response {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::UNAUTHORIZED;
    response.extensions_mut().insert(FailedProof::ApiKey);
    response
}

/// Answers with the body and a header of the request.
async fn say(headers: HeaderMap, said: String) -> String {
    format!("[{} {said}]", headers.get("x-a").map_or("", |value| value.to_str().unwrap()))
}

/// Leaves HTTP, and echoes what it receives.
async fn echo(mut request: axum::extract::Request) -> (StatusCode, HeaderMap) {
    let on = upgrade::take(request.extensions_mut()).unwrap();
    tokio::spawn(async move {
        let (mut socket, early) = upgrade::upgraded(on).await.unwrap();
        socket.write_all(&early).await.unwrap();
        let (mut from, mut to) = tokio::io::split(socket);
        tokio::io::copy(&mut from, &mut to).await.ok();
    });
    let headers = [(header::CONNECTION, "upgrade"), (header::UPGRADE, "echo")];
    (StatusCode::SWITCHING_PROTOCOLS, headers.into_iter().map(|(name, value)| (name, value.parse().unwrap())).collect())
}

async fn read_to_end(mut stream: impl AsyncRead + Unpin) -> String {
    let mut text = Vec::new();
    tokio::time::timeout(SOON, stream.read_to_end(&mut text)).await.expect("still open").ok();
    String::from_utf8_lossy(&text).into_owned()
}

/// Reads until `end` has come.
async fn read_until(stream: &mut (impl AsyncRead + Unpin), end: &str) -> String {
    let mut text = String::new();
    while !text.ends_with(end) {
        let mut byte = [0];
        tokio::time::timeout(SOON, stream.read_exact(&mut byte)).await.expect("nothing comes").expect(&text);
        text.push(char::from(byte[0]));
    }
    text
}

async fn asked(addr: SocketAddr, request: &[u8]) -> String {
    let mut stream = dial(addr).await;
    stream.write_all(request).await.unwrap();
    read_to_end(stream).await
}

/// Leaves HTTP with something sent along, and asserts that it comes back.
async fn leave_http(stream: &mut (impl AsyncRead + AsyncWrite + Unpin)) {
    stream.write_all(&[ECHO, b"early"].concat()).await.unwrap();
    let answer = read_until(stream, "early").await;
    assert!(answer.starts_with("HTTP/1.1 101") && answer.ends_with("\r\n\r\nearly"), "{answer}");
    stream.write_all(b"late").await.unwrap();
    read_until(stream, "late").await;
}

#[tokio::test]
async fn a_request_under_way_is_answered_after_the_stop() {
    let server = start(ConnectionSettings { shutdown_grace: SOON, ..settings() }).await;
    let mut stream = dial(server.addr).await;
    stream.write_all(GET).await.unwrap();
    server.arrived.notified().await;
    server.stop.send(()).unwrap();
    server.answer.notify_one();
    let answer = read_to_end(stream).await;
    assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with("done"), "{answer}");
    server.ended.await.unwrap();
}

#[tokio::test]
async fn a_request_that_does_not_end_does_not_hold_up_the_stop() {
    let server = start(ConnectionSettings { shutdown_grace: Duration::from_millis(50), ..settings() }).await;
    let mut stream = dial(server.addr).await;
    stream.write_all(GET).await.unwrap();
    server.arrived.notified().await;
    server.stop.send(()).unwrap();
    tokio::time::timeout(SOON, server.ended).await.expect("still running").unwrap();
    assert_eq!(read_to_end(stream).await, "", "it is cut off");
}

#[tokio::test]
async fn a_request_that_takes_too_long_is_told_so() {
    let server = start(ConnectionSettings { request_timeout: Duration::from_millis(50), ..settings() }).await;
    let answer = asked(server.addr, b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 503") && answer.contains("urn:tidings:problem:overloaded"), "{answer}");
}

#[tokio::test]
async fn an_answer_that_has_begun_may_take_longer_than_any_timeout() {
    let short = Duration::from_millis(50);
    let server = start(ConnectionSettings { request_timeout: short, header_timeout: short, ..settings() }).await;
    let mut stream = dial(server.addr).await;
    stream.write_all(b"GET /stream HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
    let mut session = dial(server.addr).await;
    leave_http(&mut session).await;
    // A later request has run into both timeouts while this one still goes on.
    let late = asked(server.addr, b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await;
    assert!(late.starts_with("HTTP/1.1 503"), "{late}");
    assert_eq!(asked(server.addr, b"GET / HTTP/1.1\r\n").await, "");
    server.stream.send(b"at last").await.unwrap();
    read_until(&mut stream, "at last\r\n").await;
    session.write_all(b"still here").await.unwrap();
    read_until(&mut session, "still here").await;
}

const PROBE: &[u8] = b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n";

/// Asserts that requests, sessions and silent connections are refused, but probes and the operator are served.
async fn assert_full(addr: SocketAddr) {
    let answer = asked(addr, WHO).await;
    assert!(answer.starts_with("HTTP/1.1 503") && answer.contains("urn:tidings:problem:overloaded"), "{answer}");
    assert!(answer.contains("retry-after: 1\r\n") && answer.contains("connection: close\r\n"), "{answer}");
    assert!(asked(addr, &said("x")).await.starts_with("HTTP/1.1 503"));
    assert_eq!(asked(addr, ECHO).await, "no room for an echo");
    assert!(asked(addr, b"nonsense\r\n\r\n").await.starts_with("HTTP/1.1 503"));
    let probe = asked(addr, PROBE).await;
    assert!(probe.starts_with("HTTP/1.1 200") && probe.ends_with("fine"), "{probe}");
    let by = |key: &str| {
        let line = format!("Authorization: Bearer {key}\r\nContent-Length: 5\r\n\r\nworks");
        format!("POST /say HTTP/1.1\r\nHost: x\r\n{line}").into_bytes()
    };
    let served = asked(addr, &by("the-operators-key")).await;
    assert!(served.starts_with("HTTP/1.1 200") && served.ends_with("[ works]"), "{served}");
    assert!(asked(addr, &by("the-operators-kez")).await.starts_with("HTTP/1.1 503"));
}

// covers: G062
#[tokio::test]
async fn beyond_the_limit_all_are_answered_and_probes_and_the_operator_served() {
    let server = start(ConnectionSettings { max: 2, ..settings() }).await;
    let mut session = dial(server.addr).await;
    leave_http(&mut session).await;
    let mut idle = dial(server.addr).await;
    idle.write_all(&said("x")).await.unwrap();
    read_until(&mut idle, "[1 x]").await;
    assert_full(server.addr).await;
    // Many silent connections do not keep others from being answered.
    let mut silent = Vec::new();
    for _ in 0..200 {
        silent.push(dial(server.addr).await);
    }
    assert_full(server.addr).await;
    assert!(read_to_end(silent.remove(0)).await.starts_with("HTTP/1.1 503"));
    session.write_all(b"still here").await.unwrap();
    read_until(&mut session, "still here").await;
    // A connection that ends makes room for the next.
    drop(session);
    eventually(SOON, async || asked(server.addr, WHO).await.starts_with("HTTP/1.1 200").then_some(())).await;
}

#[tokio::test]
async fn beyond_the_limit_encrypted_connections_are_answered_too() {
    let dir = tempfile::tempdir().unwrap();
    let files = files(dir.path(), "push.example");
    let server = start_with(ConnectionSettings { max: 1, ..settings() }, Some(Tls::new(files.clone()).unwrap())).await;
    let connected = async || connect(server.addr, &files.cert, "push.example", &[]).await.unwrap();
    let mut session = connected().await;
    leave_http(&mut session).await;
    for (request, answer) in [(WHO, "HTTP/1.1 503"), (ECHO, "no room"), (PROBE, "HTTP/1.1 200")] {
        let mut stream = connected().await;
        stream.write_all(request).await.unwrap();
        let found = read_to_end(&mut stream).await;
        assert!(found.starts_with(answer), "{found}");
    }
}

#[tokio::test]
async fn sessions_are_not_ended_by_the_stop() {
    let server = start(settings()).await;
    let mut session = dial(server.addr).await;
    leave_http(&mut session).await;
    server.stop.send(()).unwrap();
    tokio::time::timeout(SOON, server.ended).await.expect("it waits for the session").unwrap();
    session.write_all(b"still here").await.unwrap();
    read_until(&mut session, "still here").await;
}

#[tokio::test]
async fn an_address_that_has_enough_is_refused() {
    let server = start(ConnectionSettings { max_per_ip: Some(1), ..settings() }).await;
    let mut session = dial(server.addr).await;
    leave_http(&mut session).await;
    assert_full(server.addr).await;
    drop(session);
    eventually(SOON, async || asked(server.addr, WHO).await.starts_with("HTTP/1.1 200").then_some(())).await;
}

#[tokio::test]
async fn a_trusted_proxy_is_not_counted_and_names_the_client() {
    let server = start(ConnectionSettings { max_per_ip: Some(1), ..settings() }).await;
    let untrusted = asked(server.addr, WHO).await;
    assert!(untrusted.ends_with("\r\n127.0.0.1"), "{untrusted}");
    let trusted_proxies = vec!["127.0.0.0/8".parse().unwrap()];
    let server = start(ConnectionSettings { max_per_ip: Some(1), trusted_proxies, ..settings() }).await;
    let mut session = dial(server.addr).await;
    leave_http(&mut session).await;
    let trusted = asked(server.addr, WHO).await;
    assert!(trusted.ends_with("\r\n198.51.100.7"), "{trusted}");
}

#[tokio::test]
async fn encrypted_connections_are_served_like_plain_ones() {
    let dir = tempfile::tempdir().unwrap();
    let files = files(dir.path(), "push.example");
    let tls = Tls::new(files.clone()).unwrap();
    let server = start_with(ConnectionSettings { max: 1, ..settings() }, Some(tls)).await;
    let mut session = connect(server.addr, &files.cert, "push.example", &[b"http/1.1"]).await.unwrap();
    leave_http(&mut session).await;
    drop(session);
    let mut stream = connect(server.addr, &files.cert, "push.example", &[]).await.unwrap();
    stream.write_all(WHO).await.unwrap();
    let answer = read_to_end(&mut stream).await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    drop(stream);
    // Plain HTTP is refused.
    let answer = asked(server.addr, WHO).await;
    assert!(answer.starts_with("HTTP/1.1 400") && answer.contains("https://"), "{answer}");
}

#[tokio::test]
async fn a_handshake_that_does_not_come_ends_and_frees_its_place() {
    let dir = tempfile::tempdir().unwrap();
    let files = files(dir.path(), "push.example");
    let tls = Tls::new(files.clone()).unwrap();
    let short = Duration::from_millis(100);
    let server = start_with(ConnectionSettings { max: 1, header_timeout: short, ..settings() }, Some(tls)).await;
    let silent = dial(server.addr).await;
    assert_eq!(read_to_end(silent).await, "");
    let half = dial(server.addr).await;
    server.stop.send(()).unwrap();
    tokio::time::timeout(SOON, server.ended).await.expect("it waits for the handshake").unwrap();
    drop(half);
}

fn said(body: &str) -> Vec<u8> {
    format!("POST /say HTTP/1.1\r\nHost: x\r\nX-A: 1\r\nContent-Length: {}\r\n\r\n{body}", body.len()).into_bytes()
}

#[tokio::test]
async fn a_connection_goes_from_plain_requests_to_any_others() {
    let server = start(settings()).await;
    let mut stream = dial(server.addr).await;
    // Two requests at once, then one in two parts, then bodies of other kinds, then an upgrade.
    stream.write_all(&[said("one"), said("two")].concat()).await.unwrap();
    let first = read_until(&mut stream, "[1 one]").await;
    assert!(first.starts_with("HTTP/1.1 200 OK\r\n") && first.contains("\r\ndate: "), "{first}");
    assert!(first.contains("content-length: 7\r\n") && first.contains("content-type: text/plain"), "{first}");
    read_until(&mut stream, "[1 two]").await;
    stream.write_all(b"POST /nothing HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n").await.unwrap();
    let nothing = read_until(&mut stream, "\r\n\r\n").await;
    assert!(nothing.starts_with("HTTP/1.1 204 ") && !nothing.contains("content-length"), "{nothing}");
    let whole = said("three");
    let (head, body) = whole.split_at(whole.len() - 5);
    stream.write_all(head).await.unwrap();
    tokio::time::sleep(Duration::from_millis(20)).await;
    stream.write_all(body).await.unwrap();
    read_until(&mut stream, "[1 three]").await;
    stream
        .write_all(b"POST /say HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nfour\r\n0\r\n\r\n")
        .await
        .unwrap();
    read_until(&mut stream, "[ four]").await;
    stream.write_all(&said("five")).await.unwrap();
    read_until(&mut stream, "[1 five]").await;
    leave_http(&mut stream).await;
}

#[tokio::test]
async fn a_long_body_and_one_that_comes_late_are_read_too() {
    let server = start(ConnectionSettings { header_timeout: Duration::from_millis(100), ..settings() }).await;
    let long = "x".repeat(200_000);
    let mut stream = dial(server.addr).await;
    stream.write_all(&said(&long)).await.unwrap();
    read_until(&mut stream, &format!("[1 {long}]")).await;
    // Only heads have this timeout.
    let whole = said("late");
    let mut stream = dial(server.addr).await;
    stream.write_all(&whole[..whole.len() - 2]).await.unwrap();
    tokio::time::sleep(Duration::from_millis(300)).await;
    stream.write_all(&whole[whole.len() - 2..]).await.unwrap();
    read_until(&mut stream, "[1 late]").await;
    assert_eq!(asked(server.addr, b"POST /say HTTP/1.1\r\n").await, "", "a head is");
}

#[tokio::test]
async fn a_plain_request_under_way_is_answered_after_the_stop() {
    let server = start(ConnectionSettings { shutdown_grace: SOON, ..settings() }).await;
    let mut stream = dial(server.addr).await;
    stream.write_all(b"POST /wait HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n").await.unwrap();
    server.arrived.notified().await;
    server.stop.send(()).unwrap();
    server.answer.notify_one();
    let answer = read_to_end(stream).await;
    assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with("done"), "{answer}");
    server.ended.await.unwrap();
}

/// Sends a request in two parts with the stop in between, and returns the answer.
async fn stopped_within(before: &[u8], first: &[u8], rest: &[u8]) -> String {
    let server = start(ConnectionSettings { shutdown_grace: SOON, ..settings() }).await;
    let mut stream = dial(server.addr).await;
    stream.write_all(before).await.unwrap();
    if !before.is_empty() {
        read_until(&mut stream, "]").await;
    }
    stream.write_all(first).await.unwrap();
    // On loopback, bytes that were sent on one connection arrive before those sent on another later.
    assert!(asked(server.addr, WHO).await.starts_with("HTTP/1.1 200"));
    tokio::time::sleep(Duration::from_millis(20)).await;
    server.stop.send(()).unwrap();
    eventually(SOON, async || std::net::TcpStream::connect(server.addr).is_err().then_some(())).await;
    stream.write_all(rest).await.unwrap();
    let answer = read_to_end(stream).await;
    tokio::time::timeout(SOON, server.ended).await.expect("still running").unwrap();
    answer
}

// covers: G091
#[tokio::test]
async fn whatever_has_begun_at_the_stop_is_answered() {
    let by_length = said("answered");
    let chunked =
        b"POST /say HTTP/1.1\r\nHost: x\r\nX-A: 1\r\nTransfer-Encoding: chunked\r\n\r\n8\r\nanswered\r\n0\r\n\r\n";
    let after_chunked = b"POST /say HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n";
    for before in [&b""[..], &said("x"), after_chunked] {
        for whole in [&by_length[..], chunked] {
            let body = whole.windows(4).position(|bytes| bytes == b"\r\n\r\n").unwrap() + 4;
            for at in [1, 7, body - 2, body, body + 3, whole.len() - 1] {
                let (first, rest) = whole.split_at(at);
                let answer = stopped_within(before, first, rest).await;
                assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with("[1 answered]"), "at {at}: {answer}");
                assert!(answer.contains("connection: close\r\n"), "{answer}");
            }
        }
    }
}

#[tokio::test]
async fn connections_that_wait_to_be_accepted_at_the_stop_are_served() {
    let server = start(ConnectionSettings { shutdown_grace: SOON, ..settings() }).await;
    let mut all = Vec::new();
    server.stop.send(()).unwrap();
    // Nothing has been awaited since, so the loop has seen neither the stop nor these connections.
    for _ in 0..20 {
        let stream = std::net::TcpStream::connect(server.addr).unwrap();
        stream.set_nonblocking(true).unwrap();
        all.push(tokio::net::TcpStream::from_std(stream).unwrap());
    }
    for mut stream in all {
        stream.write_all(WHO).await.unwrap();
        let answer = read_to_end(stream).await;
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    }
    tokio::time::timeout(SOON, server.ended).await.expect("still running").unwrap();
}

// covers: G221
#[tokio::test]
async fn both_readers_agree_on_the_host() {
    let server = start(settings()).await;
    for (target, hosts, expected) in [
        ("/host", "Host: a.example\r\n", Some("a.example /host")),
        ("http://b.example/host?x", "Host: a.example\r\n", Some("b.example /host?x")),
        ("/host", "", None),
        ("/host", "Host: a.example\r\nHost: a.example\r\n", None),
        ("/host", "Host: a.example\r\nHost: b.example\r\n", None),
        ("/host", "Host: a.example/x\r\n", None),
    ] {
        let get = format!("GET {target} HTTP/1.1\r\n{hosts}Connection: close\r\n\r\n");
        let answer = asked(server.addr, get.as_bytes()).await;
        match expected {
            Some(host) => assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with(host), "{get} {answer}"),
            None => assert!(answer.starts_with("HTTP/1.1 400") && answer.contains("\"Host\""), "{get} {answer}"),
        }
        let post = format!("POST /nothing HTTP/1.1\r\n{hosts}Content-Length: 0\r\n\r\n");
        let mut stream = dial(server.addr).await;
        stream.write_all(post.as_bytes()).await.unwrap();
        let answer = read_until(&mut stream, "\r\n\r\n").await;
        let status = if expected.is_some() { "HTTP/1.1 204" } else { "HTTP/1.1 400" };
        assert!(answer.starts_with(status), "{post} {answer}");
    }
}

// covers: G224
#[tokio::test]
async fn any_line_may_end_the_connection() {
    let server = start(settings()).await;
    for lines in ["close", "close\r\nConnection: keep-alive", "keep-alive\r\nConnection: close", "x, Close"] {
        for request in [
            format!("GET /who HTTP/1.1\r\nHost: x\r\nConnection: {lines}\r\n\r\n"),
            format!("POST /nothing HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\nConnection: {lines}\r\n\r\n"),
        ] {
            let answer = asked(server.addr, request.as_bytes()).await;
            assert!(answer.starts_with("HTTP/1.1 20"), "{request} {answer}");
        }
    }
}

// covers: G232
#[tokio::test]
async fn who_guesses_is_slowed_and_others_and_other_requests_are_not() {
    let trusted_proxies = vec!["127.0.0.0/8".parse().unwrap()];
    let server = start(ConnectionSettings { trusted_proxies, ..settings() }).await;
    let ask = async |client: &str, path: &str| {
        let head = format!("GET {path} HTTP/1.1\r\nHost: x\r\nX-Forwarded-For: {client}\r\n");
        asked(server.addr, format!("{head}Authorization: Bearer guess\r\nConnection: close\r\n\r\n").as_bytes()).await
    };
    let mut refused = 0;
    for _ in 0..21 {
        assert!(ask("8.8.8.8", "/prove").await.starts_with("HTTP/1.1 401"));
    }
    let mut all = tokio::task::JoinSet::new();
    for _ in 0..40 {
        let addr = server.addr;
        all.spawn(async move {
            let head = "GET /prove HTTP/1.1\r\nHost: x\r\nX-Forwarded-For: 8.8.8.8\r\n";
            asked(addr, format!("{head}Authorization: Bearer guess\r\nConnection: close\r\n\r\n").as_bytes()).await
        });
    }
    // Meanwhile other addresses are served as usual.
    assert!(ask("8.8.4.4", "/prove").await.starts_with("HTTP/1.1 401"));
    assert!(ask("8.8.4.4", "/who").await.ends_with("8.8.4.4"));
    for _ in 0..50 {
        assert!(ask("192.168.1.1", "/prove").await.starts_with("HTTP/1.1 401"), "nobody knows who is behind that");
    }
    while let Some(answer) = all.join_next().await {
        refused += usize::from(answer.unwrap().starts_with("HTTP/1.1 429"));
    }
    assert!((1..=24).contains(&refused), "{refused}");
    assert!(ask("8.8.8.8", "/who").await.ends_with("8.8.8.8"), "it is slow, and not locked out");
}
