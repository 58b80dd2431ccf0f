//! Tests of the proxy itself.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};

use super::{Cut, Proxy, Route, Toward, proxy};
use crate::{RawReceiver, dial, eventually};

const SOON: Duration = Duration::from_secs(20);
/// Long enough for a piece on a loopback connection; no test asserts that it is short.
const A_WHILE: Duration = Duration::from_millis(200);

/// An echo server.
fn echo() -> RawReceiver {
    RawReceiver::start(|mut stream| async move {
        let (mut reads, mut writes) = stream.split();
        tokio::io::copy(&mut reads, &mut writes).await.ok();
    })
}

async fn through(addr: SocketAddr) -> (Proxy, TcpStream) {
    let proxy = proxy(addr);
    let stream = dial(proxy.addr()).await;
    (proxy, stream)
}

async fn ping(stream: &mut TcpStream) {
    stream.write_all(b"ping").await.unwrap();
    let mut answer = [0; 4];
    timeout(SOON, stream.read_exact(&mut answer)).await.unwrap().unwrap();
    assert_eq!(&answer, b"ping");
}

#[tokio::test]
async fn it_forwards_and_passes_an_end_on() {
    let echo = echo();
    let (proxy, mut stream) = through(echo.addr()).await;
    ping(&mut stream).await;
    assert_eq!(proxy.connections(), 1);
    stream.shutdown().await.unwrap();
    assert_eq!(timeout(SOON, stream.read(&mut [0; 8])).await.unwrap().unwrap(), 0);
    eventually(SOON, || async { (proxy.connections() == 0).then_some(()) }).await;
}

#[tokio::test]
async fn silence_tells_nobody_and_ends() {
    let echo = echo();
    let (proxy, mut stream) = through(echo.addr()).await;
    ping(&mut stream).await;
    proxy.go_silent();
    stream.write_all(b"ping").await.unwrap();
    assert!(timeout(A_WHILE, stream.read(&mut [0; 8])).await.is_err(), "it said something");
    proxy.come_back();
    let mut answer = [0; 4];
    timeout(SOON, stream.read_exact(&mut answer)).await.unwrap().unwrap();
    assert_eq!(&answer, b"ping", "what was sent meanwhile arrives");
}

#[tokio::test]
async fn cuts_are_seen_as_an_end_or_a_reset() {
    let echo = echo();
    let (proxy, mut stream) = through(echo.addr()).await;
    ping(&mut stream).await;
    proxy.cut(Cut::Fin);
    assert_eq!(timeout(SOON, stream.read(&mut [0; 8])).await.unwrap().unwrap(), 0);
    let mut stream = dial(proxy.addr()).await;
    ping(&mut stream).await;
    proxy.cut(Cut::Reset);
    let error = timeout(SOON, stream.read(&mut [0; 8])).await.unwrap().unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
}

#[tokio::test]
async fn what_is_down_refuses_and_comes_back() {
    let echo = echo();
    let (proxy, mut stream) = through(echo.addr()).await;
    ping(&mut stream).await;
    proxy.go_down().await;
    assert!(timeout(SOON, stream.read(&mut [0; 8])).await.unwrap().is_err());
    assert!(std::net::TcpStream::connect(proxy.addr()).is_err());
    proxy.come_back();
    ping(&mut dial(proxy.addr()).await).await;
}

#[tokio::test]
async fn delays_and_rates_hold_back_at_least_so_much() {
    let echo = echo();
    let (proxy, mut stream) = through(echo.addr()).await;
    proxy.delay(Toward::Server, A_WHILE);
    let begun = Instant::now();
    ping(&mut stream).await;
    assert!(begun.elapsed() >= A_WHILE);
    proxy.come_back();
    proxy.throttle(Toward::Client, 40_000);
    let begun = Instant::now();
    stream.write_all(&[7; 20_000]).await.unwrap();
    let mut answer = vec![0; 20_000];
    timeout(SOON, stream.read_exact(&mut answer)).await.unwrap().unwrap();
    assert!(begun.elapsed() >= Duration::from_millis(400), "{:?}", begun.elapsed());
}

#[tokio::test]
async fn before_several_the_first_line_says_where_a_connection_goes() {
    let (sessions, rest) = (echo(), echo());
    let balancer = Proxy::on(Route { sessions: sessions.addr(), rest: rest.addr() });
    let mut open = Vec::new();
    for (pieces, counts) in [
        (["GET /app", "/key HTTP/1.1\r\n"], [1, 0]),
        (["GET /v1/events HTTP/1.1\r\n", ""], [1, 1]),
        (["\u{16}", "hello"], [2, 1]),
        // Without a request line, a connection is served all the same.
        (["", ""], [2, 2]),
    ] {
        let mut stream = dial(balancer.addr()).await;
        for piece in pieces {
            stream.write_all(piece.as_bytes()).await.unwrap();
        }
        eventually(SOON, || async { ([sessions.connections(), rest.connections()] == counts).then_some(()) }).await;
        let mut answer = vec![0; pieces.concat().len()];
        timeout(SOON, stream.read_exact(&mut answer)).await.unwrap().unwrap();
        assert_eq!(answer, pieces.concat().as_bytes());
        open.push(stream);
    }
}
