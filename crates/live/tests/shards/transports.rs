//! The same sessions through TLS, and as the body of a response.

use std::io::Write as _;
use std::sync::Arc;

use bytes::Bytes;
use http_body_util::BodyExt as _;
use rustls::pki_types::{PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, ServerConfig, StreamOwned};
use tidings_live::{CloseReason, Settings, Socket};
use tokio_rustls::TlsAcceptor;

use crate::node::{Client, Node, PATIENCE, eventually};
use crate::toy::Toy;

type TlsClient = Client<StreamOwned<ClientConnection, std::net::TcpStream>>;

fn configs() -> (Arc<ServerConfig>, Arc<ClientConfig>) {
    let provider = || Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let certificate = made.cert.der().clone();
    let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
    let server = ServerConfig::builder_with_provider(provider()).with_safe_default_protocol_versions().unwrap();
    let server = server.with_no_client_auth().with_single_cert(vec![certificate.clone()], key).unwrap();
    let mut roots = RootCertStore::empty();
    roots.add(certificate).unwrap();
    let client = ClientConfig::builder_with_provider(provider()).with_safe_default_protocol_versions().unwrap();
    (Arc::new(server), Arc::new(client.with_root_certificates(roots).with_no_client_auth()))
}

/// A client through TLS that has sent `before` while the server was still shaking hands.
fn connect(node: &Node, configs: &(Arc<ServerConfig>, Arc<ClientConfig>), before: &[u8]) -> TlsClient {
    let (server, client) = node.pair();
    let acceptor = TlsAcceptor::from(Arc::clone(&configs.0));
    let accepted = node.runtime.spawn(async move { acceptor.accept(server).await.unwrap() });
    let name = ServerName::try_from("localhost").unwrap();
    let session = ClientConnection::new(Arc::clone(&configs.1), name).unwrap();
    let mut stream = StreamOwned::new(session, client);
    stream.write_all(before).unwrap();
    stream.flush().unwrap();
    let accepted = node.runtime.block_on(accepted).unwrap();
    node.attach(Socket::from(accepted), Bytes::new());
    Client::greeted(stream)
}

#[test]
fn through_tls_everything_is_the_same() {
    let node = Node::start(1, Settings { session_queue: 64 << 20, send_buffer: 8 << 10, ..Settings::default() });
    let configs = configs();
    // `echo early`, masked with zeros.
    let early = [&[0x81, 0x8a, 0, 0, 0, 0][..], b"echo early"].concat();
    let mut clients: Vec<_> = (0..3).map(|_| connect(&node, &configs, &early)).collect();
    for client in &mut clients {
        client.hears("early");
        client.say("join c");
        client.hears("joined c");
    }
    let text = |n: usize| format!("{n} {}", "t".repeat(n * 3_001 % 200_000));
    (0..150).for_each(|n| node.bus.publish("c", text(n), None));
    for client in &mut clients {
        (0..150).for_each(|n| client.hears(&format!("c: {}", text(n))));
        client.say(&format!("echo {}", "r".repeat(100_000)));
        client.hears(&"r".repeat(100_000));
    }
    clients[0].say("close 4000");
    assert_eq!(clients[0].closed().map(|frame| u16::from(frame.code)), Some(4000));
    assert!(matches!(clients[0].socket.read(), Err(tungstenite::Error::ConnectionClosed)), "with a goodbye of TLS");
    drop(clients);
    node.is_empty_in_the_end();
}

#[test]
fn through_tls_whoever_does_not_read_is_dropped() {
    let node = Node::start(1, Settings { session_queue: 100 << 10, send_buffer: 8 << 10, ..Settings::default() });
    let mut client = connect(&node, &configs(), b"");
    client.say("join c");
    client.hears("joined c");
    eventually("it is out of the channel", || {
        node.bus.publish("c", "x".repeat(50_000), None);
        node.bus.count("c") == 0
    });
    assert_eq!(client.closed().map(|frame| u16::from(frame.code)), Some(4001));
    drop(client);
    node.is_empty_in_the_end();
}

async fn next(stream: &mut tidings_live::Stream) -> Option<String> {
    let frame = tokio::time::timeout(PATIENCE, stream.frame()).await.expect("nothing came");
    frame.map(|frame| String::from_utf8(frame.unwrap().into_data().unwrap().to_vec()).unwrap())
}

#[test]
fn a_stream_is_the_body_of_a_response() {
    let node = Node::start(1, Settings { session_queue: 10_000, ..Settings::default() });
    let open = || {
        let permit = node.live.admit(&node.app, None).unwrap();
        node.live.open_stream(permit, Arc::clone(&node.app), Box::new(Toy { bare: true, ..Toy::default() }))
    };
    let (mut first, second, mut slow) = (open(), open(), open());
    node.runtime.block_on(async {
        for stream in [&mut first, &mut slow] {
            assert!(next(stream).await.unwrap().starts_with("hello "));
            assert_eq!(next(stream).await.unwrap(), "joined stream\n");
        }
    });
    eventually("three are there", || node.bus.count("stream") == 3);
    drop(second);
    eventually("one has gone", || node.bus.count("stream") == 2);
    node.runtime.block_on(async {
        for n in 0..2 {
            let text = format!("{n} {}", "s".repeat(6_000));
            node.bus.publish("stream", text.clone(), None);
            assert_eq!(next(&mut first).await.unwrap(), format!("to you, stream: {text}\n"));
        }
        eventually("the slow one is out", || node.bus.count("stream") == 1);
        assert_eq!(next(&mut slow).await.unwrap(), "bye Slow\n");
        assert_eq!(next(&mut slow).await, None);
        let live = node.live.clone();
        let stopping = tokio::spawn(async move { live.stop(PATIENCE, CloseReason::GoingAway).await });
        assert_eq!(next(&mut first).await.unwrap(), "bye GoingAway\n");
        assert_eq!(next(&mut first).await, None);
        stopping.await.unwrap();
    });
    node.is_empty_in_the_end();
}
