//! Receivers that are slow, send endless headers, or do not speak HTTP.

use std::time::Duration;

use super::kit::{Client, eventually};
use super::receiver::{Conn, Receiver};
use tidings_courier::egress::{Phase, SendError};

/// The deadline of an exchange: short enough for a test, long enough to reach the phase that is tested.
const DEADLINE: Duration = Duration::from_millis(400);
const STEP: Duration = Duration::from_millis(20);

/// Sends within `DEADLINE`. Asserts that it timed out in `phase`, and that the connection was closed.
async fn assert_timed_out(receiver: Receiver, phase: Phase) {
    let client = Client::allowing(&["127.0.0.1/32"]);
    let url = receiver.url();
    let sending = client.post_within(&url, DEADLINE);
    let error = eventually("the deadline", sending).await.expect_err("slow");
    assert_eq!(error.code(), "timeout");
    match error {
        SendError::Timeout { phase: at, after } => assert_eq!((at, after), (phase, DEADLINE)),
        other => panic!("{other}"),
    }
    receiver.ended(1).await;
}

/// Sends one byte at a time, until the client closes the connection.
async fn drip(conn: &mut Conn, piece: &[u8]) {
    use tokio::io::AsyncWriteExt;
    for byte in piece.iter().cycle() {
        if conn.io.write_all(&[*byte]).await.is_err() {
            return;
        }
        tokio::time::sleep(STEP).await;
    }
}

// covers: R01
#[tokio::test]
async fn silence_ends_with_the_deadline() {
    let receiver = Receiver::start(|mut conn| async move { conn.closed().await }).await;
    assert_timed_out(receiver, Phase::Response).await;
}

// covers: R02
#[tokio::test]
async fn a_head_that_drips_does_not_move_the_deadline() {
    let receiver = Receiver::start(|mut conn| async move {
        conn.read_request().await;
        conn.send("HTTP/1.1 200 OK\r\nX-Slow: ").await;
        drip(&mut conn, b"a").await;
    })
    .await;
    assert_timed_out(receiver, Phase::Response).await;
}

// covers: R03
#[tokio::test]
async fn a_body_that_drips_does_not_move_the_deadline() {
    for head in ["Content-Length: 5000", "X-Until: close"] {
        let receiver = Receiver::start(move |mut conn| async move {
            conn.read_request().await;
            conn.send(format!("HTTP/1.1 200 OK\r\n{head}\r\n\r\n")).await;
            drip(&mut conn, b"a").await;
        })
        .await;
        assert_timed_out(receiver, Phase::Body).await;
    }
}

// covers: R08
#[tokio::test]
async fn interim_responses_for_ever_end_with_the_deadline() {
    for interim in
        ["HTTP/1.1 100 Continue\r\n\r\n", "HTTP/1.1 103 Early Hints\r\nLink: </style.css>; rel=preload\r\n\r\n"]
    {
        let receiver = Receiver::start(move |mut conn| async move {
            conn.read_request().await;
            conn.flood(interim.as_bytes()).await;
        })
        .await;
        assert_timed_out(receiver, Phase::Response).await;
    }
}

// covers: R06
#[tokio::test]
async fn large_heads_are_refused_and_ordinary_ones_are_not() {
    let field = |i: usize| format!("X-{i}: v\r\n");
    let many = |count: usize| (0..count).map(field).collect::<String>();
    let line = |bytes: usize| format!("X-Long: {}\r\n", "a".repeat(bytes));
    let cases = [
        ("90 fields", many(90), None),
        ("1000 fields", many(1000), Some("too_large")),
        ("a line of 32 KiB", line(32 << 10), None),
        ("a line of 1 MiB", line(1 << 20), Some("too_large")),
    ];
    let client = Client::allowing(&["127.0.0.1/32"]);
    for (what, fields, expected) in cases {
        let response = format!("HTTP/1.1 200 OK\r\n{fields}Content-Length: 0\r\n\r\n");
        let receiver = Receiver::answering(response).await;
        let outcome = client.post(&receiver.url()).await;
        assert_eq!(outcome.err().map(|error| error.code()), expected, "{what}");
    }
    let endless = Receiver::start(|mut conn| async move {
        conn.read_request().await;
        conn.send("HTTP/1.1 200 OK\r\nX-Long: ").await;
        conn.flood(&[b'a'; 4096]).await;
    })
    .await;
    let error = client.post(&endless.url()).await.expect_err("an endless line");
    assert_eq!(error.code(), "too_large");
    endless.ended(1).await;
}

// covers: R07, R08
#[tokio::test]
async fn odd_answers_are_recorded_and_the_client_survives() {
    let cases: [(&str, &[u8], Result<u16, &str>); 22] = [
        ("nothing", b"", Err("protocol")),
        ("not HTTP", b"SSH-2.0-OpenSSH_9.2\r\n", Err("protocol")),
        ("HTTP/0.9", b"<html>hello</html>", Err("protocol")),
        ("HTTP/2 preface", b"\0\0\x12\x04\0\0\0\0\0", Err("protocol")),
        ("HTTP/3.0", b"HTTP/3.0 200 OK\r\n\r\n", Err("protocol")),
        ("no status", b"HTTP/1.1 \r\n\r\n", Err("protocol")),
        ("status of letters", b"HTTP/1.1 abc OK\r\n\r\n", Err("protocol")),
        ("status of four digits", b"HTTP/1.1 2000 OK\r\n\r\n", Err("protocol")),
        ("status 0", b"HTTP/1.1 000 OK\r\n\r\n", Err("protocol")),
        ("bare line feeds", b"HTTP/1.1 200 OK\nContent-Length: 0\n\n", Ok(200)),
        ("folded field", b"HTTP/1.1 200 OK\r\nX-A: b\r\n c\r\n\r\n", Err("protocol")),
        ("space before the colon", b"HTTP/1.1 200 OK\r\nX-A : b\r\n\r\n", Err("protocol")),
        ("field without a colon", b"HTTP/1.1 200 OK\r\nnonsense\r\n\r\n", Err("protocol")),
        ("value that is not ASCII", b"HTTP/1.1 200 OK\r\nX-A: \xc3\xa5\xff\r\nContent-Length: 0\r\n\r\n", Ok(200)),
        ("NUL in a value", b"HTTP/1.1 200 OK\r\nX-A: a\0b\r\n\r\n", Err("protocol")),
        ("NUL in the status line", b"HTTP/1.1 200 O\0K\r\n\r\n", Err("protocol")),
        ("two lengths", b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab", Err("protocol")),
        ("negative length", b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n", Err("protocol")),
        ("chunk size of letters", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n", Err("protocol")),
        ("HTTP/1.0", b"HTTP/1.0 200 OK\r\n\r\nbody", Ok(200)),
        ("cut in the head", b"HTTP/1.1 200 OK\r\nConte", Err("protocol")),
        ("cut in the body", b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc", Err("protocol")),
    ];
    let client = Client::allowing(&["127.0.0.1/32"]);
    for (what, bytes, expected) in cases {
        let receiver = Receiver::start(move |mut conn| async move {
            conn.read_request().await;
            conn.send(bytes).await;
        })
        .await;
        let outcome = client.post(&receiver.url()).await;
        match (&outcome, expected) {
            (Ok(response), Ok(status)) => assert_eq!(response.status.as_u16(), status, "{what}"),
            (Err(error), Err(code)) => assert_eq!(error.code(), code, "{what}: {error}"),
            _ => panic!("{what}: {outcome:?}"),
        }
    }
}

// covers: R08
#[tokio::test]
async fn a_reset_is_a_protocol_failure() {
    let client = Client::allowing(&["127.0.0.1/32"]);
    for head in ["", "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc"] {
        let receiver = Receiver::start(move |mut conn| async move {
            conn.read_request().await;
            conn.send(head).await;
            conn.reset();
        })
        .await;
        let error = client.post(&receiver.url()).await.expect_err("reset");
        assert_eq!(error.code(), "protocol", "{error}");
    }
}

// covers: R08
#[tokio::test]
async fn an_answer_before_the_request_was_read_counts() {
    let receiver = Receiver::start(|mut conn| async move {
        conn.send("HTTP/1.1 413 Too Large\r\nConnection: close\r\nContent-Length: 0\r\n\r\n").await;
        conn.closed().await;
    })
    .await;
    let client = Client::allowing(&["127.0.0.1/32"]);
    match client.post(&receiver.url()).await {
        Ok(response) => assert_eq!(response.status, 413),
        // A server that speaks before it is spoken to may also be taken for one that does not speak HTTP.
        Err(error) => assert_eq!(error.code(), "protocol"),
    }
}
