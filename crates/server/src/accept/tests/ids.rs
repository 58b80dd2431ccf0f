//! Every answer bears its request's id, whoever answers and whoever has read the request.

use std::collections::HashSet;

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
