//! Every answer bears its request's id, whoever answers and whoever has read the request.

use std::collections::HashSet;

use tracing::level_filters::LevelFilter;
use tracing_subscriber::layer::{Context, SubscriberExt as _};

use super::*;

/// The id in an answer's head, which has one.
fn id_of(answer: &str) -> &str {
    let (head, _) = answer.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no head: {answer}"));
    let mut lines = head.lines().filter_map(|line| line.strip_prefix("x-request-id: "));
    match (lines.next(), lines.next()) {
        (Some(id), None) => id,
        found => panic!("not one id but {found:?}: {answer}"),
    }
}

fn is_made(id: &str) -> bool {
    id.len() == 32 && id.bytes().all(|byte| byte.is_ascii_hexdigit())
}

// covers: G416, G417
#[tokio::test]
async fn each_reader_of_requests_and_each_refusal_gives_an_id() {
    let server = start(settings()).await;
    // More lines go where the first one ends.
    for (status, request) in [
        (200, "POST /say HTTP/1.1\r\nHost: x\nContent-Length: 2\n\n{}"),
        (204, "POST /nothing HTTP/1.1\r\nHost: x\nContent-Length: 2\n\n{}"),
        (404, "POST /nowhere HTTP/1.1\r\nHost: x\nContent-Length: 2\n\n{}"),
        (401, "POST /refuse HTTP/1.1\r\nHost: x\nContent-Length: 2\n\n{}"),
        (413, "POST /begin HTTP/1.1\r\nHost: x\nContent-Length: 2\n\n{}"),
        (400, "POST /say HTTP/1.1\r\nHost: x\nHost: y\nContent-Length: 2\n\n{}"),
        (200, "POST /say HTTP/1.1\r\nHost: x\nTransfer-Encoding: chunked\n\n2\n{}\n0\n\n"),
        (200, "GET /healthz HTTP/1.1\r\nHost: x\n\n"),
        (404, "GET /nowhere HTTP/1.1\r\nHost: x\n\n"),
        (405, "DELETE /healthz HTTP/1.1\r\nHost: x\n\n"),
        (400, "GET /healthz HTTP/1.1\r\nX: y\n\n"),
        (200, "HEAD /healthz HTTP/1.0\r\nX: y\n\n"),
        (101, "GET /echo HTTP/1.1\r\nHost: x\nConnection: Upgrade\nUpgrade: echo\n\n"),
    ] {
        let of = async |lines: &str| {
            let request = request.replacen("\r\n", &format!("\n{lines}"), 1).replace('\n', "\r\n");
            let mut stream = dial(server.addr).await;
            stream.write_all(request.as_bytes()).await.unwrap();
            let head = read_until(&mut stream, "\r\n\r\n").await;
            assert!(head.split(' ').nth(1) == Some(&status.to_string()), "{request}: {head}");
            id_of(&head).to_owned()
        };
        assert_eq!(of("X-Request-ID: their-own/1\n").await, "their-own/1", "{request}");
        let mut made = HashSet::new();
        for lines in [
            "",
            "",
            "X-Request-Id: one\nX-Request-Id: two\n",
            "X-Request-Id: one,two\n",
            "X-Request-Id: \"one\"\n",
            "X-Request-Id: \n",
        ] {
            let id = of(lines).await;
            assert!(is_made(&id), "{request} {lines}: {id}");
            made.insert(id);
        }
        assert_eq!(made.len(), 6, "{request}: no two are the same");
    }
}

// covers: G416
#[tokio::test]
async fn answers_without_a_reader_of_requests_bear_an_id_too() {
    let dir = tempfile::tempdir().unwrap();
    let files = files(dir.path(), "push.example");
    let server = start_with(ConnectionSettings { max: 1, ..settings() }, Some(Tls::new(files.clone()).unwrap())).await;
    let mut session = connect(server.addr, &files.cert, "push.example", &[]).await.unwrap();
    leave_http(&mut session).await;
    for (own, request) in [
        (None, WHO.to_vec()),
        (Some("mine"), b"GET /who HTTP/1.1\r\nX-Request-Id: mine\r\nHost: x\r\n\r\n".to_vec()),
        (Some("mine"), b"GET /healthz HTTP/1.1\r\nX-Request-Id: mine\r\nHost: x\r\n\r\n".to_vec()),
        (None, b"nonsense\r\n\r\n".to_vec()),
    ] {
        let mut stream = connect(server.addr, &files.cert, "push.example", &[]).await.unwrap();
        stream.write_all(&request).await.unwrap();
        let answer = read_to_end(&mut stream).await;
        assert!(own.map_or_else(|| is_made(id_of(&answer)), |own| id_of(&answer) == own), "{answer}");
    }
    drop(session);
    let plain =
        eventually(SOON, async || Some(asked(server.addr, WHO).await).filter(|answer| !answer.is_empty())).await;
    assert!(plain.starts_with("HTTP/1.1 400") && is_made(id_of(&plain)), "{plain}");
}

/// Which spans are made, and with which fields.
#[derive(Clone, Default)]
struct Spans(Arc<parking_lot::Mutex<Vec<String>>>);

impl<S: tracing::Subscriber> tracing_subscriber::Layer<S> for Spans {
    fn on_new_span(&self, attributes: &tracing::span::Attributes<'_>, _: &tracing::Id, _: Context<'_, S>) {
        self.0.lock().push(format!("{} {:?}", attributes.metadata().name(), attributes.values()));
    }
}

/// What a hundred publishes make, when so much is listened to.
async fn spans_at(level: LevelFilter) -> Vec<String> {
    let spans = Spans::default();
    let _default = tracing::subscriber::set_default(tracing_subscriber::registry().with(spans.clone()).with(level));
    let server = start(settings()).await;
    let mut stream = dial(server.addr).await;
    for n in 0..100 {
        let line = format!("POST /say?auth_signature=secret HTTP/1.1\r\nHost: x\r\nX-Request-Id: me-{n}\r\n");
        stream.write_all(format!("{line}Content-Length: 4\r\n\r\nbody").as_bytes()).await.unwrap();
        read_until(&mut stream, "[ body]").await;
    }
    drop(stream);
    std::mem::take(&mut *spans.0.lock())
}

// covers: G418, G419
#[tokio::test]
async fn a_request_is_one_span_where_somebody_listens_without_its_query() {
    assert_eq!(spans_at(LevelFilter::INFO).await, [""; 0]);
    let spans = spans_at(LevelFilter::DEBUG).await;
    assert_eq!(spans.len(), 100, "{spans:?}");
    for (n, span) in spans.iter().enumerate() {
        let parts = ["request ", &format!("me-{n}"), "POST", "/say"];
        assert!(parts.iter().all(|part| span.contains(part)), "{span}");
        assert!(!span.contains("secret") && !span.contains("body"), "{span}");
    }
}
