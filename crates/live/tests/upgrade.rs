//! Connections that leave HTTP, as our accept loop serves them and as a host's `axum::serve` does.
#![expect(clippy::unwrap_used, clippy::expect_used, reason = "helpers of tests end the test")]

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::{Request, Response, StatusCode};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use rcgen::{CertificateParams, KeyPair};
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use tidings_live::upgrade::{UpgradeError, take, upgraded};
use tidings_live::{BorrowedConn, Guard, Io, Socket};
use tidings_testkit::dial;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::sync::{mpsc, oneshot};
use tokio_rustls::{TlsAcceptor, TlsConnector};

const SOON: Duration = Duration::from_secs(10);
/// A request, and behind it the first bytes after HTTP.
const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: test\r\n\r\nearly";

type Outcome = Result<(Socket, Bytes), UpgradeError>;
type Outcomes = mpsc::Sender<Outcome>;

/// Answers 101 and passes on the outcome of the upgrade.
fn switch<B>(mut request: Request<B>, status: StatusCode, outcomes: &Outcomes) -> Response<String> {
    let on = take(request.extensions_mut()).expect("hyper offers no upgrade");
    assert!(take(request.extensions_mut()).is_none(), "it can be taken once");
    let outcomes = outcomes.clone();
    tokio::spawn(async move { outcomes.send(upgraded(on).await).await });
    let response = Response::builder().status(status).header("connection", "upgrade").header("upgrade", "test");
    response.body(String::new()).unwrap()
}

fn service(
    status: StatusCode,
    outcomes: Outcomes,
) -> impl hyper::service::HttpService<Incoming, ResBody = String, Error = Infallible, Future: Send> {
    hyper::service::service_fn(move |request| std::future::ready(Ok(switch(request, status, &outcomes))))
}

/// Serves one connection as our accept loop does.
async fn serve(io: impl AsyncRead + AsyncWrite + Unpin + Send + 'static, status: StatusCode, outcomes: Outcomes) {
    http1::Builder::new().serve_connection(TokioIo::new(io), service(status, outcomes)).with_upgrades().await.unwrap();
}

async fn listen() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    (listener, addr)
}

async fn next(outcomes: &mut mpsc::Receiver<Outcome>) -> Outcome {
    tokio::time::timeout(SOON, outcomes.recv()).await.expect("no upgrade comes").unwrap()
}

/// Sends the request with early bytes, takes the connection over, and asserts that bytes pass in both directions.
async fn talk(mut client: impl AsyncRead + AsyncWrite + Unpin, outcomes: &mut mpsc::Receiver<Outcome>) -> Socket {
    client.write_all(REQUEST).await.unwrap();
    client.flush().await.unwrap();
    let (mut socket, early) = next(outcomes).await.unwrap();
    let mut got = BytesMut::from(&early[..]);
    // One packet may come in two parts; what HTTP has not read is still in the connection.
    while got.len() < 5 {
        assert!(tokio::time::timeout(SOON, socket.read_buf(&mut got)).await.expect("nothing comes").unwrap() > 0);
    }
    assert_eq!(&got[..], b"early");
    let own = early.try_into_mut().expect("nobody else holds it");
    assert!(own.capacity() <= 64, "it keeps {} bytes of hyper's buffer", own.capacity());

    socket.write_all(b"from the server").await.unwrap();
    socket.flush().await.unwrap();
    client.write_all(b"late").await.unwrap();
    client.flush().await.unwrap();
    let mut late = [0; 4];
    tokio::time::timeout(SOON, socket.read_exact(&mut late)).await.expect("nothing comes").unwrap();
    assert_eq!(&late, b"late");
    let mut text = String::new();
    while !text.ends_with("from the server") {
        let read = tokio::time::timeout(SOON, client.read_u8()).await.expect("nothing comes");
        text.push(char::from(read.unwrap_or_else(|error| panic!("{error} after {text:?}"))));
    }
    assert!(text.starts_with("HTTP/1.1 101"), "{text}");
    socket
}

#[tokio::test]
async fn a_plain_connection_brings_what_was_early_and_its_guard() {
    let (listener, addr) = listen().await;
    let (outcome, mut outcomes) = mpsc::channel(1);
    let (guard, mut freed) = oneshot::channel::<()>();
    let accepted = tokio::spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        let socket = Socket::new(Io::Plain(stream), Some(Guard::new(guard)));
        serve(BorrowedConn::new(socket, Bytes::new()).0, StatusCode::SWITCHING_PROTOCOLS, outcome).await;
    });
    let client = dial(addr).await;
    let local = client.local_addr().unwrap();
    let socket = talk(client, &mut outcomes).await;
    accepted.await.unwrap();
    assert_eq!((socket.peer_addr().ok(), socket.local_addr().ok()), (Some(local), Some(addr)));
    let (io, guard) = socket.into_parts();
    assert!(matches!(io, Io::Plain(_)));
    drop(io);
    assert!(freed.try_recv().is_err_and(|error| error == oneshot::error::TryRecvError::Empty), "it is held");
    drop(guard);
    assert!(freed.try_recv().is_err_and(|error| error == oneshot::error::TryRecvError::Closed));
}

fn certificate() -> (CertificateDer<'static>, PrivatePkcs8KeyDer<'static>) {
    let key = KeyPair::generate().unwrap();
    let cert = CertificateParams::new(vec!["a.example".to_owned()]).unwrap().self_signed(&key).unwrap();
    (cert.der().clone(), PrivatePkcs8KeyDer::from(key.serialize_der()))
}

#[tokio::test]
async fn an_encrypted_connection_brings_what_was_early() {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let (cert, key) = certificate();
    let config = ServerConfig::builder_with_provider(Arc::clone(&provider)).with_safe_default_protocol_versions();
    let config = config.unwrap().with_no_client_auth().with_single_cert(vec![cert.clone()], key.into()).unwrap();
    let mut roots = RootCertStore::empty();
    roots.add(cert).unwrap();
    let client = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let client = client.unwrap().with_root_certificates(roots).with_no_client_auth();

    let (listener, addr) = listen().await;
    let (outcome, mut outcomes) = mpsc::channel(1);
    tokio::spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        let stream = TlsAcceptor::from(Arc::new(config)).accept(stream).await.unwrap();
        serve(BorrowedConn::new(Socket::from(stream), Bytes::new()).0, StatusCode::SWITCHING_PROTOCOLS, outcome).await;
    });
    let name = ServerName::try_from("a.example").unwrap();
    let client = TlsConnector::from(Arc::new(client)).connect(name, dial(addr).await).await.unwrap();
    let socket = talk(client, &mut outcomes).await;
    assert!(matches!(socket.into_parts(), (Io::Tls(_), None)));
}

#[tokio::test]
async fn a_connection_of_axums_server_is_taken_over_too() {
    let (listener, addr) = listen().await;
    let (outcome, mut outcomes) = mpsc::channel(1);
    let handler =
        async move |request: axum::extract::Request| switch(request, StatusCode::SWITCHING_PROTOCOLS, &outcome);
    let router = axum::Router::new().route("/", axum::routing::get(handler));
    tokio::spawn(async move { axum::serve(listener, router).await });
    talk(dial(addr).await, &mut outcomes).await;
}

#[tokio::test]
async fn a_socket_behind_hypers_automatic_server_is_taken_over_too() {
    let (listener, addr) = listen().await;
    let (outcome, mut outcomes) = mpsc::channel(1);
    tokio::spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        let builder = auto::Builder::new(TokioExecutor::new());
        let handler = hyper::service::service_fn(move |request: Request<Incoming>| {
            std::future::ready(Ok::<_, Infallible>(switch(request, StatusCode::SWITCHING_PROTOCOLS, &outcome)))
        });
        let io = TokioIo::new(BorrowedConn::new(Socket::from(stream), Bytes::new()).0);
        builder.serve_connection_with_upgrades(io, handler).await.ok();
    });
    talk(dial(addr).await, &mut outcomes).await;
}

#[tokio::test]
async fn a_connection_of_another_kind_is_refused() {
    let (listener, addr) = listen().await;
    let (outcome, mut outcomes) = mpsc::channel(1);
    tokio::spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        serve(tokio::io::BufReader::new(stream), StatusCode::SWITCHING_PROTOCOLS, outcome).await;
    });
    let mut client = dial(addr).await;
    client.write_all(REQUEST).await.unwrap();
    assert!(matches!(next(&mut outcomes).await, Err(UpgradeError::Foreign)));
}

#[tokio::test]
async fn who_waits_for_an_upgrade_that_does_not_come_is_told_at_the_connections_end() {
    let (listener, addr) = listen().await;
    let (outcome, mut outcomes) = mpsc::channel(1);
    tokio::spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        http1::Builder::new()
            .serve_connection(
                TokioIo::new(BorrowedConn::new(Socket::from(stream), Bytes::new()).0),
                service(StatusCode::FORBIDDEN, outcome),
            )
            .with_upgrades()
            .await
            .ok();
    });
    let mut client = dial(addr).await;
    client.write_all(REQUEST).await.unwrap();
    let mut response = [0; 12];
    client.read_exact(&mut response).await.unwrap();
    assert_eq!(&response, b"HTTP/1.1 403");
    drop(client);
    assert!(matches!(next(&mut outcomes).await, Err(UpgradeError::Hyper(_))));
}
