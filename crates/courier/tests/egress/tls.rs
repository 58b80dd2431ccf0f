//! TLS receivers: versions and protocols offered, certificates refused, and the timeout of the handshake.

use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use tidings_courier::egress::{Egress, EgressConfig, EgressError, Phase, SendError};
use tokio::io::AsyncWriteExt;
use tokio_rustls::LazyConfigAcceptor;

use super::kit::{AMPLE, Client, allow, eventually};
use super::receiver::{Conn, Receiver, read_request};

type Ca = CertifiedIssuer<'static, KeyPair>;

fn authority() -> Ca {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    // Authorities of the same name would be told apart by their keys only.
    static NUMBER: AtomicUsize = AtomicUsize::new(0);
    let name = format!("authority {}", NUMBER.fetch_add(1, Ordering::Relaxed));
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

fn leaf(ca: &Ca, name: &str, change: impl FnOnce(&mut CertificateParams)) -> Identity {
    let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
    change(&mut params);
    let key = KeyPair::generate().unwrap();
    let certificate = params.signed_by(&key, ca).unwrap();
    Identity { chain: vec![certificate.der().clone()], key: key.serialize_der() }
}

struct Identity {
    chain: Vec<CertificateDer<'static>>,
    key: Vec<u8>,
}

impl Identity {
    fn server(self) -> ServerConfig {
        self.server_with(rustls::ALL_VERSIONS, None)
    }

    fn server_with(
        self,
        versions: &[&'static rustls::SupportedProtocolVersion],
        clients: Option<RootCertStore>,
    ) -> ServerConfig {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = ServerConfig::builder_with_provider(provider.clone()).with_protocol_versions(versions).unwrap();
        let builder = match clients {
            None => builder.with_no_client_auth(),
            Some(roots) => builder.with_client_cert_verifier(
                WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build().unwrap(),
            ),
        };
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(self.key));
        builder.with_single_cert(self.chain, key).unwrap()
    }
}

/// The client's hello: what it sent before anything was encrypted.
#[derive(Clone, Debug, Default)]
struct Hello {
    name: Option<String>,
    alpn: Vec<Vec<u8>>,
}

/// Serves 204 over TLS, and keeps the greetings.
async fn serving(config: ServerConfig) -> (Receiver, Arc<parking_lot::Mutex<Vec<Hello>>>) {
    let config = Arc::new(config);
    let hellos = Arc::new(parking_lot::Mutex::new(Vec::new()));
    let kept = hellos.clone();
    let receiver = Receiver::start(move |conn| serve(conn, config.clone(), kept.clone())).await;
    (receiver, hellos)
}

async fn serve(conn: Conn, config: Arc<ServerConfig>, hellos: Arc<parking_lot::Mutex<Vec<Hello>>>) {
    let Ok(start) = LazyConfigAcceptor::new(rustls::server::Acceptor::default(), conn.io).await else {
        return;
    };
    let hello = start.client_hello();
    hellos.lock().push(Hello {
        name: hello.server_name().map(str::to_owned),
        alpn: hello.alpn().into_iter().flatten().map(<[u8]>::to_vec).collect(),
    });
    let Ok(mut io) = start.into_stream(config).await else {
        return;
    };
    while read_request(&mut io).await.is_some() {
        if io.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").await.is_err() {
            return;
        }
    }
}

/// A client that trusts `ca` and finds `hooks.test` on this machine.
fn trusting(ca: &Ca) -> (Client, tempfile::NamedTempFile) {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(ca.pem().as_bytes()).unwrap();
    let client = Client::new(EgressConfig { ca_file: Some(file.path().to_owned()), ..allow(&["127.0.0.1/32"]) });
    client.names.set("hooks.test", &[&["127.0.0.1"]]);
    (client, file)
}

fn https(receiver: &Receiver) -> String {
    format!("https://hooks.test:{}/", receiver.addr.port())
}

// covers: R09, R10
#[tokio::test]
async fn a_good_receiver_is_offered_http_1_1_only_and_told_the_name() {
    let ca = authority();
    for versions in [[&rustls::version::TLS12], [&rustls::version::TLS13]] {
        let mut config = leaf(&ca, "hooks.test", |_| {}).server_with(&versions, None);
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        let (receiver, hellos) = serving(config).await;
        let (client, _file) = trusting(&ca);
        let response = client.post(&https(&receiver)).await.unwrap();
        assert_eq!(response.status, 204);
        assert_eq!(response.remote, Some(receiver.addr));
        let hello = hellos.lock()[0].clone();
        assert_eq!(hello.name.as_deref(), Some("hooks.test"));
        assert_eq!(hello.alpn, [b"http/1.1"]);
    }
}

// covers: R10
#[tokio::test]
async fn a_receiver_that_speaks_http_2_only_is_a_tls_failure() {
    let ca = authority();
    let mut config = leaf(&ca, "hooks.test", |_| {}).server();
    config.alpn_protocols = vec![b"h2".to_vec()];
    let (receiver, _) = serving(config).await;
    let (client, _file) = trusting(&ca);
    let error = client.post(&https(&receiver)).await.expect_err("h2");
    assert_eq!(error.code(), "tls", "{error}");
}

// covers: R09
#[tokio::test]
async fn bad_certificates_are_refused_and_named() {
    let ca = authority();
    let past = |params: &mut CertificateParams| {
        params.not_before = rcgen::date_time_ymd(2020, 1, 1);
        params.not_after = rcgen::date_time_ymd(2021, 1, 1);
    };
    let future = |params: &mut CertificateParams| params.not_before = rcgen::date_time_ymd(2090, 1, 1);
    let self_signed = {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec!["hooks.test".to_owned()]).unwrap();
        Identity { chain: vec![params.self_signed(&key).unwrap().der().clone()], key: key.serialize_der() }
    };
    let cases = [
        ("expired", leaf(&ca, "hooks.test", past), "expired"),
        ("not yet", leaf(&ca, "hooks.test", future), "not valid yet"),
        ("another name", leaf(&ca, "other.test", |_| {}), "another host name"),
        ("another authority", leaf(&authority(), "hooks.test", |_| {}), "authority"),
        ("self-signed", self_signed, "authority"),
    ];
    let (client, _file) = trusting(&ca);
    for (what, identity, said) in cases {
        let (receiver, _) = serving(identity.server()).await;
        let error = client.post(&https(&receiver)).await.expect_err(what);
        assert_eq!(error.code(), "tls", "{what}: {error}");
        assert!(error.to_string().contains(said), "{what}: {error}");
        assert!(receiver.requests().is_empty());
    }
}

// covers: R09
#[tokio::test]
async fn a_receiver_that_wants_a_client_certificate_is_a_tls_failure() {
    let ca = authority();
    let mut roots = RootCertStore::empty();
    roots.add(ca.der().clone()).unwrap();
    let (client, _file) = trusting(&ca);
    for versions in [[&rustls::version::TLS12], [&rustls::version::TLS13]] {
        let config = leaf(&ca, "hooks.test", |_| {}).server_with(&versions, Some(roots.clone()));
        let (receiver, _) = serving(config).await;
        let error = client.post(&https(&receiver)).await.expect_err("no certificate");
        // With TLS 1.3 the client is done first, and its request can meet a closed socket before the alert is read.
        assert!(["tls", "protocol"].contains(&error.code()), "{error}");
    }
}

// covers: R09
#[tokio::test]
async fn old_and_odd_tls_is_a_tls_failure() {
    let mut server_hello_1_0 = vec![0x16, 3, 1, 0, 42, 2, 0, 0, 38, 3, 1];
    server_hello_1_0.extend([7; 32]);
    server_hello_1_0.extend([0, 0, 0x2f, 0]);
    let answers: [(&str, Vec<u8>); 4] = [
        ("TLS 1.0 by alert", vec![0x15, 3, 1, 0, 2, 2, 70]),
        ("TLS 1.0 by choice", server_hello_1_0),
        ("plain HTTP", b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n".to_vec()),
        ("nothing", Vec::new()),
    ];
    let (client, _file) = trusting(&authority());
    for (what, answer) in answers {
        let receiver = Receiver::start(move |mut conn| {
            let answer = answer.clone();
            async move {
                let mut greeting = [0; 64];
                drop(tokio::io::AsyncReadExt::read(&mut conn.io, &mut greeting).await);
                conn.send(&answer).await;
                drop(conn.io.shutdown().await);
                conn.closed().await;
            }
        })
        .await;
        let error = client.post(&https(&receiver)).await.expect_err(what);
        assert_eq!(error.code(), "tls", "{what}: {error}");
    }
}

// covers: R09
#[tokio::test]
async fn a_slow_handshake_ends_with_the_connect_timeout_or_the_deadline() {
    let short = Duration::from_millis(200);
    for (connect_timeout, deadline) in [(short, AMPLE), (AMPLE, short)] {
        let receiver = Receiver::start(|mut conn| async move { conn.closed().await }).await;
        let client = Client::new(EgressConfig { connect_timeout, ..allow(&["127.0.0.1/32"]) });
        client.names.set("hooks.test", &[&["127.0.0.1"]]);
        let url = https(&receiver);
        let sending = client.post_within(&url, deadline);
        let error = eventually("a timeout", sending).await.expect_err("slow");
        let expected = if connect_timeout == short { Phase::Connect } else { Phase::Response };
        assert!(
            matches!(error, SendError::Timeout { phase, after } if phase == expected && after == short),
            "{error:?}"
        );
        receiver.ended(1).await;
    }
}

// covers: S10, S12
#[tokio::test]
async fn tls_goes_through_the_proxy_to_the_name() {
    let ca = authority();
    let (receiver, hellos) = serving(leaf(&ca, "hooks.test", |_| {}).server()).await;
    let proxy = Receiver::start(|mut conn| async move {
        let Some(seen) = conn.read_request().await else {
            return;
        };
        let target = seen.head.split(' ').nth(1).unwrap().parse().unwrap();
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        let mut there = socket.connect(target).await.unwrap();
        conn.send("HTTP/1.0 200 OK\r\n\r\n").await;
        drop(tokio::io::copy_bidirectional(&mut conn.io, &mut there).await);
    })
    .await;
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(ca.pem().as_bytes()).unwrap();
    let client = Client::new(EgressConfig {
        ca_file: Some(file.path().to_owned()),
        proxy: Some(proxy.url().parse().unwrap()),
        ..allow(&["127.0.0.1/32"])
    });
    client.names.set("hooks.test", &[&["127.0.0.1"]]);
    assert_eq!(client.post(&https(&receiver)).await.unwrap().status, 204);
    assert_eq!(hellos.lock()[0].name.as_deref(), Some("hooks.test"));
    let asked = proxy.requests().remove(0).head;
    assert!(asked.starts_with(&format!("CONNECT {} ", receiver.addr)), "{asked}");
    assert!(!asked.contains("hooks.test"));
}

// covers: R09
#[test]
fn a_certificate_file_that_cannot_be_used_is_an_error_at_the_start() {
    let mut junk = tempfile::NamedTempFile::new().unwrap();
    junk.write_all(b"not a certificate").unwrap();
    for path in [junk.path().to_owned(), "/nonexistent/ca.pem".into()] {
        let config = EgressConfig { ca_file: Some(path.clone()), ..EgressConfig::default() };
        match Egress::new(config) {
            Err(EgressError::CaFile { path: named, .. }) => assert_eq!(named, path),
            other => panic!("{other:?}"),
        }
    }
}
