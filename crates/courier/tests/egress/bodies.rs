//! Bodies: kept up to the cap, cut above it, never inflated.

use super::kit::{Client, allow};
use super::receiver::Receiver;
use tidings_courier::egress::EgressConfig;

const CAP: usize = 16 * 1024;

/// An upper bound for the bytes that both sockets' buffers take after the client has stopped reading.
const BUFFERED: u64 = 32 << 20;

// covers: R04
#[tokio::test]
async fn an_endless_body_is_cut_and_the_connection_closed() {
    let heads = ["Content-Length: 10737418240", "Transfer-Encoding: chunked", "X-Until: close"];
    let client = Client::allowing(&["127.0.0.1/32"]);
    for head in heads {
        let (written, mut told) = tokio::sync::mpsc::unbounded_channel();
        let chunked = head.contains("chunked");
        let receiver = Receiver::start(move |mut conn| {
            let written = written.clone();
            async move {
                conn.read_request().await;
                conn.send(format!("HTTP/1.1 200 OK\r\n{head}\r\n\r\n")).await;
                let piece =
                    if chunked { format!("1000\r\n{}\r\n", "a".repeat(4096)).into_bytes() } else { vec![b'a'; 4096] };
                written.send(conn.flood(&piece).await).unwrap();
            }
        })
        .await;
        let response = client.post(&receiver.url()).await.unwrap();
        assert_eq!(response.status, 200);
        assert_eq!(response.body.len(), CAP, "{head}");
        assert!(response.body.iter().all(|byte| *byte == b'a'), "{head}");
        assert!(response.truncated);
        receiver.ended(1).await;
        assert!(told.recv().await.unwrap() < BUFFERED, "{head}");
    }
}

// covers: R04
#[tokio::test]
async fn the_cap_is_exact() {
    let client = Client::allowing(&["127.0.0.1/32"]);
    for (size, truncated) in [(0, false), (1, false), (CAP - 1, false), (CAP, false), (CAP + 1, true), (5 * CAP, true)]
    {
        let body: String = (0..size).map(|i| char::from(b'a' + (i % 26) as u8)).collect();
        let receiver = Receiver::answering(format!("HTTP/1.1 200 OK\r\nContent-Length: {size}\r\n\r\n{body}")).await;
        let response = client.post(&receiver.url()).await.unwrap();
        assert_eq!(response.body, body.as_bytes()[..size.min(CAP)], "{size}");
        assert_eq!(response.truncated, truncated, "{size}");
    }
}

// covers: R04
#[tokio::test]
async fn small_chunks_are_put_together() {
    let chunks: String = (0..100).map(|i| format!("3\r\n{i:03}\r\n")).collect();
    let whole: String = (0..100).map(|i| format!("{i:03}")).collect();
    let head = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-End\r\n\r\n";
    let receiver = Receiver::answering(format!("{head}{chunks}0\r\nX-End: 1\r\n\r\n")).await;
    let client = Client::allowing(&["127.0.0.1/32"]);
    let response = client.post(&receiver.url()).await.unwrap();
    assert_eq!(response.body, whole);
    assert!(!response.truncated);
}

// covers: R04
#[tokio::test]
async fn a_cap_of_nothing_keeps_nothing() {
    let config = EgressConfig { max_response_body: 0, ..allow(&["127.0.0.1/32"]) };
    let client = Client::new(config);
    let receiver = Receiver::answering("HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc").await;
    let response = client.post(&receiver.url()).await.unwrap();
    assert!(response.body.is_empty() && response.truncated);
}

// covers: R05
#[tokio::test]
async fn a_compressed_body_is_kept_as_it_came() {
    // The head of a gzip stream and bytes that would inflate; what matters is that nobody tries.
    let mut packed = vec![0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3];
    packed.resize(50 * 1024, 0);
    let mut response =
        format!("HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: {}\r\n\r\n", packed.len()).into_bytes();
    response.extend_from_slice(&packed);
    let receiver = Receiver::answering(response).await;
    let client = Client::allowing(&["127.0.0.1/32"]);
    let response = client.post(&receiver.url()).await.unwrap();
    assert_eq!(response.body, packed[..CAP]);
    assert!(response.truncated);
    assert_eq!(receiver.requests()[0].header("accept-encoding"), None);
}
