//! Request bodies that their handlers do not read, and the answers.

use super::*;

/// More than the kernel buffers for a connection whose other side does not read; less than the server reads to keep the
/// connection.
const LONG: usize = 1_000_000;
/// More than the server reads to keep the connection.
const TOO_LONG: usize = 6_000_000;

pub(super) fn router() -> Router {
    Router::new().route("/refuse", post(refuse)).route("/begin", post(begin))
}

async fn refuse() -> (StatusCode, &'static str) {
    (StatusCode::UNAUTHORIZED, "refused")
}

/// Reads only the first piece of a body.
async fn begin(body: Body) -> (StatusCode, &'static str) {
    let mut body = body;
    assert!(http_body_util::BodyExt::frame(&mut body).await.is_some());
    (StatusCode::PAYLOAD_TOO_LARGE, "refused")
}

fn by_length(path: &str, lines: &str, length: usize) -> Vec<u8> {
    let head = format!("POST {path} HTTP/1.1\r\nHost: x\r\n{lines}Content-Length: {length}\r\n\r\n");
    [head.as_bytes(), &vec![b'x'; length]].concat()
}

fn in_chunks(path: &str, lines: &str, length: usize) -> Vec<u8> {
    let mut request =
        format!("POST {path} HTTP/1.1\r\nHost: x\r\n{lines}Transfer-Encoding: chunked\r\n\r\n").into_bytes();
    for _ in 0..length / 1_000 {
        request.extend_from_slice(b"3e8\r\n");
        request.extend_from_slice(&[b'x'; 1_000]);
        request.extend_from_slice(b"\r\n");
    }
    request.extend_from_slice(b"0\r\n\r\n");
    request
}

/// Sends everything before it reads anything, as simple clients do.
async fn sent(addr: SocketAddr, request: &[u8]) -> tokio::net::TcpStream {
    let mut stream = dial(addr).await;
    tokio::time::timeout(SOON, stream.write_all(request)).await.expect("nobody reads it").expect("reset");
    stream
}

// covers: G065
#[tokio::test]
async fn a_refused_body_is_read_and_the_connection_goes_on() {
    let server = start(settings()).await;
    for path in ["/refuse", "/begin"] {
        for (reader, request) in [
            ("plain", by_length(path, "", 60_000)),
            ("hyper", by_length(path, "", LONG)),
            ("hyper, in chunks", in_chunks(path, "", LONG)),
        ] {
            let mut stream = sent(server.addr, &request).await;
            let answer = read_until(&mut stream, "refused").await;
            assert!(answer.starts_with("HTTP/1.1 4") && !answer.contains("connection:"), "{path} {reader}: {answer}");
            stream.write_all(&said("again")).await.unwrap();
            read_until(&mut stream, "[1 again]").await;
        }
    }
}

// covers: G065
#[tokio::test]
async fn a_refused_body_is_read_before_the_connection_ends() {
    let server = start(settings()).await;
    let close = "Connection: close\r\n";
    for path in ["/refuse", "/begin"] {
        for (what, request) in [
            ("short", by_length(path, close, 60_000)),
            ("long", by_length(path, close, LONG)),
            ("long, in chunks", in_chunks(path, close, LONG)),
            ("too long", by_length(path, close, TOO_LONG)),
            ("too long, in chunks", in_chunks(path, close, TOO_LONG)),
            ("too long to be kept", by_length(path, "", TOO_LONG)),
            ("too long to be kept, in chunks", in_chunks(path, "", TOO_LONG)),
        ] {
            let answer = read_to_end(sent(server.addr, &request).await).await;
            assert!(answer.starts_with("HTTP/1.1 4") && answer.ends_with("refused"), "{path} {what}: {answer}");
            assert!(answer.contains("connection: close\r\n"), "{path} {what}: {answer}");
        }
    }
}

// covers: G065
#[tokio::test]
async fn a_client_that_waits_to_be_asked_for_its_body_is_not_asked_for_a_refused_one() {
    let server = start(settings()).await;
    let expect = "Expect: 100-continue\r\n";
    let request = by_length("/refuse", expect, LONG);
    let head = request.len() - LONG;
    // One client waits for `100 Continue`, another does not.
    for length in [head, request.len()] {
        let mut stream = sent(server.addr, &request[..length]).await;
        let answer = read_until(&mut stream, "refused").await;
        assert!(answer.starts_with("HTTP/1.1 401") && answer.contains("connection: close\r\n"), "{answer}");
        drop(stream);
    }
    // After `100 Continue` the client sends everything.
    for (path, end) in [("/begin", "refused"), ("/say", "]")] {
        let request = by_length(path, expect, LONG);
        let head = request.len() - LONG;
        let mut stream = sent(server.addr, &request[..head]).await;
        assert_eq!(read_until(&mut stream, "\r\n\r\n").await, "HTTP/1.1 100 Continue\r\n\r\n");
        stream.write_all(&request[head..]).await.unwrap();
        let answer = read_until(&mut stream, end).await;
        assert!(answer.starts_with("HTTP/1.1 ") && !answer.contains("connection:"), "{}", &answer[..100]);
    }
}

// covers: G065
#[tokio::test]
async fn a_refused_body_that_does_not_come_is_not_waited_for() {
    let server = start(settings()).await;
    let request = by_length("/refuse", "", LONG);
    let mut stream = sent(server.addr, &request[..300_000]).await;
    let answer = read_until(&mut stream, "refused").await;
    assert!(answer.starts_with("HTTP/1.1 401") && answer.contains("connection: close\r\n"), "{answer}");
    assert_eq!(read_to_end(stream).await, "");
}

// covers: G065
#[tokio::test]
async fn a_refused_body_without_an_end_is_cut_off() {
    let server = start(settings()).await;
    let mut stream = dial(server.addr).await;
    stream.write_all(b"POST /refuse HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n").await.unwrap();
    let chunk = [b"10000\r\n", &[b'x'; 1 << 16][..], b"\r\n"].concat();
    let endless = async { while stream.write_all(&chunk).await.is_ok() {} };
    tokio::time::timeout(SOON, endless).await.expect("it is read for ever");
}
