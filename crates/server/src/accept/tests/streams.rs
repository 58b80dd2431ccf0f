//! Streamed answers, and connections that handlers take: the same with each reader of requests.

use tidings_live::ConnHandle;

use super::*;

/// A request without a body, and one with a body for each reader.
fn asks(path: &str) -> [(&'static str, String); 3] {
    let head = |method: &str| format!("{method} {path} HTTP/1.1\r\nHost: x\r\n");
    [
        ("get", head("GET") + "\r\n"),
        ("plain", head("POST") + "Content-Length: 2\r\n\r\n{}"),
        ("hyper", head("POST") + "Transfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n"),
    ]
}

pub(super) fn router() -> Router {
    Router::new().route("/take", get(take).post(take)).route("/broken", get(broken).post(broken))
}

/// Takes the connection, sends the request's body and then echoes what it receives.
async fn take(handle: axum::Extension<ConnHandle>, body: String) -> &'static str {
    let mut socket = handle.take().unwrap();
    tokio::spawn(async move {
        socket.write_all(format!("HTTP/1.1 200 OK\r\n\r\n<{body}>").as_bytes()).await.unwrap();
        let (mut from, mut to) = tokio::io::split(socket);
        tokio::io::copy(&mut from, &mut to).await.ok();
    });
    // This answer is never sent: the handler has taken the connection.
    "an answer"
}

/// Breaks off after its first piece.
async fn broken() -> Response {
    let parts = [Ok(Frame::data(Bytes::from_static(b"first"))), Err(io::Error::other("broken"))];
    let mut parts = parts.into_iter();
    Response::new(Body::new(Pieces(Box::new(move || parts.next()))))
}

/// A body that a handler makes piece by piece.
struct Pieces(Box<dyn FnMut() -> Option<Piece> + Send>);

type Piece = Result<Frame<Bytes>, io::Error>;

impl hyper::body::Body for Pieces {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: std::pin::Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Piece>> {
        std::task::Poll::Ready(self.0())
    }
}

// covers: G066
#[tokio::test]
async fn a_stream_is_passed_on_piece_by_piece_and_the_connection_goes_on() {
    for (reader, request) in asks("/stream") {
        let server = start(settings()).await;
        let mut stream = dial(server.addr).await;
        stream.write_all(request.as_bytes()).await.unwrap();
        let head = read_until(&mut stream, "\r\n\r\n").await;
        assert!(head.starts_with("HTTP/1.1 200 OK\r\n") && head.contains("\r\ndate: "), "{reader}: {head}");
        assert!(
            head.contains("transfer-encoding: chunked\r\n") && !head.contains("content-length"),
            "{reader}: {head}"
        );
        for piece in ["one", "two"] {
            server.stream.send(piece.as_bytes()).await.unwrap();
            assert_eq!(read_until(&mut stream, "\r\n").await, "3\r\n", "{reader}");
            assert_eq!(read_until(&mut stream, "\r\n").await, format!("{piece}\r\n"), "{reader}");
        }
        // A piece without bytes does not end the body.
        server.stream.send(b"").await.unwrap();
        // A request that arrives meanwhile is answered afterwards.
        stream.write_all(&said("next")).await.unwrap();
        server.stream.send(b"last").await.unwrap();
        drop(server.stream);
        let rest = read_until(&mut stream, "[1 next]").await;
        assert!(rest.starts_with("4\r\nlast\r\n0\r\n\r\nHTTP/1.1 200 OK"), "{reader}: {rest}");
    }
}

#[tokio::test]
async fn a_stream_ends_when_its_client_is_gone() {
    for (reader, request) in asks("/stream") {
        let server = start(settings()).await;
        let mut stream = dial(server.addr).await;
        stream.write_all(request.as_bytes()).await.unwrap();
        read_until(&mut stream, "\r\n\r\n").await;
        drop(stream);
        // The server stops producing the answer.
        tokio::time::timeout(SOON, server.stream.closed()).await.expect(reader);
    }
}

#[tokio::test]
async fn a_stream_ends_with_its_sender_or_with_the_grace() {
    for (reader, request) in asks("/stream") {
        for ends_itself in [true, false] {
            let grace = if ends_itself { SOON } else { Duration::from_millis(50) };
            let server = start(ConnectionSettings { shutdown_grace: grace, ..settings() }).await;
            let mut stream = dial(server.addr).await;
            stream.write_all(request.as_bytes()).await.unwrap();
            server.stream.send(b"first").await.unwrap();
            read_until(&mut stream, "first\r\n").await;
            server.stop.send(()).unwrap();
            if ends_itself {
                drop(server.stream);
            }
            tokio::time::timeout(SOON, server.ended).await.expect("still running").unwrap();
            assert_eq!(read_to_end(stream).await.ends_with("0\r\n\r\n"), ends_itself, "{reader}");
        }
    }
}

#[tokio::test]
async fn a_stream_that_breaks_off_has_no_end() {
    let server = start(settings()).await;
    for (reader, request) in asks("/broken") {
        let answer = asked(server.addr, request.as_bytes()).await;
        assert!(!answer.ends_with("0\r\n\r\n"), "{reader}: {answer}");
    }
}

// covers: G066
#[tokio::test]
async fn a_handler_may_take_the_connection() {
    for (reader, request) in asks("/take") {
        let short = Duration::from_millis(50);
        let limits = ConnectionSettings { max: 1, request_timeout: short, header_timeout: short, ..settings() };
        let server = start(limits).await;
        let mut stream = dial(server.addr).await;
        stream.write_all(request.as_bytes()).await.unwrap();
        let expected = if reader == "get" { "<>" } else { "<{}>" };
        let answer = read_until(&mut stream, expected).await;
        assert_eq!(answer, format!("HTTP/1.1 200 OK\r\n\r\n{expected}"), "{reader}");
        // It counts as a connection as long as it lives; no timeout and no stop of HTTP ends it.
        assert!(asked(server.addr, WHO).await.starts_with("HTTP/1.1 503"), "{reader}");
        tokio::time::sleep(2 * short).await;
        stream.write_all(b"and back").await.unwrap();
        assert_eq!(read_until(&mut stream, "back").await, "and back", "{reader}");
        let freed = async || asked(server.addr, WHO).await.starts_with("HTTP/1.1 200").then_some(());
        drop(stream);
        eventually(SOON, freed).await;
        let mut stream = dial(server.addr).await;
        stream.write_all(request.as_bytes()).await.unwrap();
        read_until(&mut stream, expected).await;
        server.stop.send(()).unwrap();
        tokio::time::timeout(SOON, server.ended).await.expect("it waits for the session").unwrap();
        stream.write_all(b"still here").await.unwrap();
        assert_eq!(read_until(&mut stream, "here").await, "still here", "{reader}");
    }
}
