//! Frames that no client should send: the session ends with the right close code, others are not affected, nothing
//! panics.

use serde_json::json;
use tidings_testkit::{Incoming, PusherSession, Server, dial};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::kit::{APPS, SOON, configured, error_code, still_serves};

/// A WebSocket whose frames the test writes byte by byte.
async fn raw(server: &Server) -> TcpStream {
    let mut stream = dial(server.addr).await;
    let head = format!(
        "GET /app/{}?protocol=7 HTTP/1.1\r\nHost: {}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
        APPS[0].key(),
        server.addr
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    while !answer.windows(4).any(|window| window == b"\r\n\r\n") {
        answer.push(timeout(SOON, stream.read_u8()).await.expect("no answer").expect("no whole answer"));
    }
    assert!(answer.starts_with(b"HTTP/1.1 101"), "{}", String::from_utf8_lossy(&answer));
    stream
}

/// A masked frame; `first` is its first byte: FIN, reserved bits, opcode.
fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mask = [0x37, 0xfa, 0x21, 0x3d];
    let mut bytes = vec![first];
    match payload.len() {
        len @ ..=125 => bytes.push(0x80 | len as u8),
        len @ 126..=0xffff => {
            bytes.push(0x80 | 126);
            bytes.extend((len as u16).to_be_bytes());
        }
        len => {
            bytes.push(0x80 | 127);
            bytes.extend((len as u64).to_be_bytes());
        }
    }
    bytes.extend(mask);
    bytes.extend(payload.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    bytes
}

/// Reads the server's frames up to its close frame.
async fn close_code(stream: &mut TcpStream) -> Option<u16> {
    loop {
        let first = timeout(SOON, stream.read_u8()).await.expect("the connection stays open").ok()?;
        let len = match stream.read_u8().await.ok()? {
            126 => usize::from(stream.read_u16().await.ok()?),
            127 => stream.read_u64().await.ok()? as usize,
            len => usize::from(len),
        };
        let mut payload = vec![0; len];
        stream.read_exact(&mut payload).await.ok()?;
        if first == 0x88 {
            return payload.first_chunk().map(|code| u16::from_be_bytes(*code));
        }
    }
}

// covers: A04
#[tokio::test]
async fn each_broken_frame_has_its_close_code() {
    let server = configured("", "").start().await;
    let big = vec![b'x'; 300 * 1024];
    let unmasked = vec![0x81, 2, b'{', b'}'];
    let huge_length = [vec![0x81, 0x80 | 127], u64::MAX.to_be_bytes().to_vec(), vec![0; 4]].concat();
    let two_starts = [frame(0x01, b"{"), frame(0x81, b"}")].concat();
    let in_pieces = [frame(0x01, &big[..100_000]), frame(0x00, &big[..100_000])].concat();
    let split_utf8 = [frame(0x01, b"\xe2\x82"), frame(0x80, b"\xe2")].concat();
    let long_ping = frame(0x89, &big[..126]);
    let cases: [(&str, Vec<u8>, &[u16]); 16] = [
        ("bad UTF-8", frame(0x81, b"{\"event\":\"\xff\xfe\"}"), &[1007]),
        ("bad UTF-8 over two frames", split_utf8, &[1007]),
        ("unmasked", unmasked, &[1002]),
        ("too large", frame(0x81, &big), &[1009]),
        ("too large in pieces", in_pieces, &[1009]),
        ("a length of 2^64 - 1", huge_length, &[1002, 1009]),
        ("a fragmented ping", frame(0x09, b"x"), &[1002]),
        ("a fragmented close", frame(0x08, &1000_u16.to_be_bytes()), &[1002]),
        ("a long ping", long_ping, &[1002]),
        ("a reserved bit", frame(0xc1, b"{}"), &[1002]),
        ("a reserved opcode", frame(0x83, b"{}"), &[1002]),
        ("a reserved control opcode", frame(0x8b, b""), &[1002]),
        ("a continuation of nothing", frame(0x80, b"{}"), &[1002]),
        ("a second start", two_starts, &[1002]),
        ("a close of one byte", frame(0x88, b"x"), &[1002]),
        ("a close with a forbidden code", frame(0x88, &1005_u16.to_be_bytes()), &[1002]),
    ];
    for (what, bytes, codes) in cases {
        let mut stream = raw(&server).await;
        // The server may have closed before all of it is written.
        stream.write_all(&bytes).await.ok();
        let code = close_code(&mut stream).await;
        assert!(code.is_some_and(|code| codes.contains(&code)), "{what}: {code:?}, not {codes:?}");
    }
    still_serves(&APPS[0].pusher(&server)).await;
    assert!(!server.stderr().contains("panicked"), "{}", server.stderr());
}

// covers: A04
#[tokio::test]
async fn an_end_in_the_middle_of_anything_is_only_an_end() {
    let server = configured("", "").start().await;
    let whole = [frame(0x01, b"{\"event\":"), frame(0x89, b"ping"), frame(0x80, b"\"pusher:ping\"}")].concat();
    for cut in (0..whole.len()).step_by(3) {
        let mut stream = raw(&server).await;
        stream.write_all(&whole[..cut]).await.unwrap();
    }
    // A byte at a time is as good as all at once.
    let mut stream = raw(&server).await;
    for byte in &whole {
        stream.write_all(&[*byte]).await.unwrap();
    }
    stream.write_all(&frame(0x88, &1000_u16.to_be_bytes())).await.unwrap();
    assert_eq!(close_code(&mut stream).await, Some(1000));
    still_serves(&APPS[0].pusher(&server)).await;
}

// covers: A04
#[tokio::test]
async fn messages_that_mean_nothing_are_errors_and_the_session_goes_on() {
    let server = configured("", "").start().await;
    let app = APPS[0].pusher(&server);
    let deep = format!("{}{}", "[".repeat(50_000), "]".repeat(50_000));
    let texts = [
        String::new(),
        "{".to_owned(),
        "null".to_owned(),
        "[]".to_owned(),
        "{}".to_owned(),
        "{\"event\":1}".to_owned(),
        "{\"event\":\"\"}".to_owned(),
        "{\"event\":\"pusher:subscribe\"}".to_owned(),
        "{\"event\":\"pusher:subscribe\",\"data\":\"x\"}".to_owned(),
        "{\"event\":\"pusher:subscribe\",\"data\":{\"channel\":1}}".to_owned(),
        "{\"event\":\"pusher:subscribe\",\"data\":{\"channel\":\"\"}}".to_owned(),
        "{\"event\":\"pusher:subscribe\",\"data\":{\"channel\":\"a b\"}}".to_owned(),
        format!("{{\"event\":\"pusher:subscribe\",\"data\":{{\"channel\":\"{}\"}}}}", "x".repeat(201)),
        "{\"event\":\"pusher:signin\",\"data\":{}}".to_owned(),
        "{\"event\":\"pusher_internal:member_added\",\"channel\":\"a\",\"data\":\"{}\"}".to_owned(),
        "{\"event\":\"other\",\"channel\":\"a\",\"data\":\"{}\"}".to_owned(),
        "{\"event\":\"client-x\",\"channel\":\"private-a\",\"data\":{}}".to_owned(),
        format!("{{\"event\":\"pusher:ping\",\"data\":{deep}}}"),
        deep,
    ];
    for text in texts {
        let mut session = app.connect().await;
        session.send_text(&text).await.unwrap();
        let shown: String = text.chars().take(80).collect();
        if !text.contains("pusher:ping") {
            session.settle().await;
            let told = session.waiting().any(|frame| frame.event == "pusher:error");
            assert!(told, "no error for {shown}: {:?}", session.waiting().collect::<Vec<_>>());
        }
        session.settle().await;
    }
    still_serves(&app).await;
}

// covers: A05
#[tokio::test]
async fn floods_end_their_own_session_or_are_held_back() {
    let server = configured("", "").start().await;
    let app = APPS[0].pusher(&server);
    let mut flooding = app.connect().await;
    for _ in 0..10_000 {
        if flooding.send_text("no json").await.is_err() {
            break;
        }
    }
    ended_for_flooding(flooding).await;

    // Client events: ten a second, the rest is refused with 4301 and the session stays.
    let (mut alice, mut bob) = (app.connect().await, app.connect().await);
    alice.subscribe("private-a").await;
    bob.subscribe("private-a").await;
    for n in 0..60 {
        alice.send(json!({"event": "client-n", "channel": "private-a", "data": {"n": n}})).await;
    }
    assert_eq!(error_code(&mut alice).await, 4301);
    alice.settle().await;
    app.trigger(&["private-a"], "end", "1").await.expect_status(200);
    bob.expect("end", SOON).await;
    let heard = bob.waiting().filter(|frame| frame.event == "client-n").count();
    assert!((10..60).contains(&heard), "{heard} of 60 client events at once were passed on");

    many_pings(app.connect().await).await;
    still_serves(&app).await;
}

async fn ended_for_flooding(mut session: PusherSession) {
    loop {
        match session.next(SOON).await {
            Incoming::Frame(_) => {}
            Incoming::Closed(code, _) => return assert!(code == 1002, "{code}"),
            // Whoever still writes into a closed connection may get its reset before the close frame.
            Incoming::Broken(_) => return,
            Incoming::Nothing => panic!("a flood goes on"),
        }
    }
}

/// Pings are not treated as a flood: each is answered.
async fn many_pings(mut session: PusherSession) {
    for _ in 0..1_000 {
        session.send_text(r#"{"event":"pusher:ping","data":{}}"#).await.unwrap();
    }
    for _ in 0..1_000 {
        session.expect("pusher:pong", SOON).await;
    }
}
