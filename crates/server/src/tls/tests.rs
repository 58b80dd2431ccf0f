//! Certificates are replaced while connections go on.

use std::net::SocketAddr;

use rcgen::{CertificateParams, KeyPair};
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, RootCertStore};
use tidings_testkit::{dial, eventually};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::*;

const SOON: Duration = Duration::from_secs(10);

/// A self-signed certificate for `name` and its key, both in PEM.
pub(crate) fn certificate(name: &str) -> (String, String) {
    let key = KeyPair::generate().unwrap();
    let cert = CertificateParams::new(vec![name.to_owned()]).unwrap().self_signed(&key).unwrap();
    (cert.pem(), key.serialize_pem())
}

/// Files of a certificate for `name` in `dir`.
pub(crate) fn files(dir: &Path, name: &str) -> TlsSettings {
    let files = TlsSettings { cert: dir.join("cert.pem"), key: dir.join("key.pem") };
    let (cert, key) = certificate(name);
    fs::write(&files.cert, cert).unwrap();
    fs::write(&files.key, key).unwrap();
    files
}

/// Connects as a client that trusts the certificate in `cert` and nothing else, and speaks `alpn`.
pub(crate) async fn connect(
    addr: SocketAddr,
    cert: &Path,
    name: &str,
    alpn: &[&[u8]],
) -> io::Result<TlsStream<TcpStream>> {
    let mut roots = RootCertStore::empty();
    for cert in CertificateDer::pem_file_iter(cert).unwrap() {
        roots.add(cert.unwrap()).unwrap();
    }
    let mut config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = alpn.iter().map(|protocol| protocol.to_vec()).collect();
    let name = ServerName::try_from(name.to_owned()).unwrap();
    TlsConnector::from(Arc::new(config)).connect(name, dial(addr).await).await
}

/// An echo server.
async fn echo(tls: Tls) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let accept = tls.acceptor().accept(stream);
            tokio::spawn(async move {
                // A client that does not trust us ends the handshake.
                let Ok(stream) = accept.await else { return };
                let (mut from, mut to) = tokio::io::split(stream);
                tokio::io::copy(&mut from, &mut to).await.ok();
            });
        }
    });
    addr
}

async fn is_trusted(addr: SocketAddr, cert: &Path, name: &str) -> bool {
    connect(addr, cert, name, &[]).await.is_ok()
}

#[tokio::test]
async fn new_files_are_taken_up_and_old_connections_go_on() {
    let dir = tempfile::tempdir().unwrap();
    let files = files(dir.path(), "old.example");
    let (old, new) = (dir.path().join("old.pem"), dir.path().join("new.pem"));
    fs::copy(&files.cert, &old).unwrap();
    let tls = Tls::new(files.clone()).unwrap();
    tokio::spawn(tls.clone().follow(Duration::from_millis(20), Arc::default()));
    let addr = echo(tls).await;
    let mut first = connect(addr, &old, "old.example", &[]).await.unwrap();

    let (cert, key) = certificate("new.example");
    fs::write(&new, &cert).unwrap();
    fs::write(&files.cert, cert).unwrap();
    fs::write(&files.key, key).unwrap();
    eventually(SOON, async || is_trusted(addr, &new, "new.example").await.then_some(())).await;
    assert!(!is_trusted(addr, &old, "old.example").await);
    first.write_all(b"still here").await.unwrap();
    let mut back = [0; 10];
    first.read_exact(&mut back).await.unwrap();
    assert_eq!(&back, b"still here");
}

#[tokio::test]
async fn a_broken_file_changes_nothing_until_it_is_mended() {
    let dir = tempfile::tempdir().unwrap();
    let files = files(dir.path(), "a.example");
    let old = dir.path().join("old.pem");
    fs::copy(&files.cert, &old).unwrap();
    let tls = Tls::new(files.clone()).unwrap();
    let before = tls.current.load_full();
    tls.renew().await;
    let reread = tls.current.load_full();
    assert!(!Arc::ptr_eq(&before, &reread));
    let (cert, key) = certificate("a.example");
    // A key without its certificate, half a certificate, and none.
    fs::write(&files.key, key).unwrap();
    tls.renew().await;
    fs::write(&files.cert, &cert[..cert.len() / 2]).unwrap();
    tls.renew().await;
    fs::remove_file(&files.cert).unwrap();
    tls.renew().await;
    assert!(Arc::ptr_eq(&reread, &tls.current.load_full()));
    let addr = echo(tls.clone()).await;
    assert!(is_trusted(addr, &old, "a.example").await);
    fs::write(&files.cert, cert).unwrap();
    tls.renew().await;
    assert!(is_trusted(addr, &files.cert, "a.example").await);
}

#[tokio::test]
async fn files_are_read_again_when_that_is_asked() {
    let dir = tempfile::tempdir().unwrap();
    let tls = Tls::new(files(dir.path(), "a.example")).unwrap();
    let before = tls.current.load_full();
    let asked = Arc::new(Notify::new());
    tokio::spawn(tls.clone().follow(Duration::from_secs(3_600), Arc::clone(&asked)));
    asked.notify_one();
    eventually(SOON, async || (!Arc::ptr_eq(&before, &tls.current.load_full())).then_some(())).await;
}

#[tokio::test]
async fn only_http_1_is_spoken() {
    let dir = tempfile::tempdir().unwrap();
    let files = files(dir.path(), "a.example");
    let addr = echo(Tls::new(files.clone()).unwrap()).await;
    let both = connect(addr, &files.cert, "a.example", &[b"h2", b"http/1.1"]).await.unwrap();
    assert_eq!(both.get_ref().1.alpn_protocol(), Some(ALPN));
    assert!(connect(addr, &files.cert, "a.example", &[b"h2"]).await.is_err());
}
