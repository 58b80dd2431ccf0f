//! The TLS certificate of incoming connections: read from two files, and reloaded when they change.

use std::fs::{self, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tidings_tls::in_words;
use tokio::sync::Notify;
use tokio_rustls::TlsAcceptor;

use crate::settings::TlsSettings;

/// How often the files are checked for changes.
pub(crate) const CHECK_INTERVAL: Duration = Duration::from_secs(5);
/// The largest file that is read, in bytes: a mistyped path should not read a disk into memory.
const MAX_FILE: u64 = 1 << 20;
/// The only protocol that is offered inside TLS (ALPN, RFC 7301).
const ALPN: &[u8] = b"http/1.1";

/// Which file cannot be used, and why, as a sentence.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub(crate) enum TlsError {
    /// The certificate file.
    #[error("{0}")]
    Cert(String),
    /// The key file.
    #[error("{0}")]
    Key(String),
}

/// Reads both files.
///
/// # Errors
/// When a file cannot be read, holds no certificate or key, or the two do not belong together.
pub(crate) fn load(files: &TlsSettings) -> Result<Arc<ServerConfig>, TlsError> {
    let (cert, key) = (files.cert.display(), files.key.display());
    let pem =
        read(&files.cert).map_err(|e| TlsError::Cert(format!("the certificate file {cert} cannot be read: {e}")))?;
    let chain = CertificateDer::pem_slice_iter(&pem)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|e| TlsError::Cert(format!("the certificate file {cert} is not PEM: {e}")))?;
    if chain.is_empty() {
        return Err(TlsError::Cert(format!("the certificate file {cert} holds no CERTIFICATE in PEM")));
    }
    let pem = read(&files.key).map_err(|e| TlsError::Key(format!("the key's file {key} cannot be read: {e}")))?;
    // The parser's own message is left out: it might quote the key.
    let private = PrivateKeyDer::from_pem_slice(&pem)
        .map_err(|_| TlsError::Key(format!("the key's file {key} holds no PRIVATE KEY in PEM without a password")))?;
    let pair = |error: rustls::Error| match error {
        rustls::Error::InconsistentKeys(_) => {
            TlsError::Key(format!("the key in {key} is not that of the first certificate in {cert}"))
        }
        error @ rustls::Error::InvalidCertificate(_) => {
            TlsError::Cert(format!("the certificate in {cert} cannot be used: {}", in_words(&error)))
        }
        error => TlsError::Key(format!(
            "the key in {key} cannot be used with the certificate in {cert}: {}",
            in_words(&error)
        )),
    };
    let mut config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .and_then(|builder| builder.with_no_client_auth().with_single_cert(chain, private))
        .map_err(pair)?;
    config.alpn_protocols = vec![ALPN.to_vec()];
    // Session tickets spare clients that reconnect the costly part of the handshake, which matters when many come back
    // at once.
    config.ticketer = aws_lc_rs::Ticketer::new().map_err(pair)?;
    Ok(Arc::new(config))
}

fn read(path: &Path) -> io::Result<Vec<u8>> {
    let length = fs::metadata(path)?.len();
    if length > MAX_FILE {
        return Err(io::Error::other(format!("it holds {length} bytes, which no certificate or key does")));
    }
    fs::read(path)
}

/// The TLS config of new connections. Cheap to clone; all clones see a reload.
#[derive(Debug, Clone)]
pub(crate) struct Tls {
    files: Arc<TlsSettings>,
    current: Arc<ArcSwap<ServerConfig>>,
    /// The stamps of the files before they were first read.
    first: [Stamp; 2],
}

impl Tls {
    /// Reads the files for the first time.
    ///
    /// # Errors
    /// As [`load`] has them.
    pub(crate) fn new(files: TlsSettings) -> Result<Self, TlsError> {
        let first = stamps(&files);
        let current = Arc::new(ArcSwap::new(load(&files)?));
        Ok(Self { files: Arc::new(files), current, first })
    }

    /// An acceptor for one handshake. The connection keeps this certificate when the files change.
    pub(crate) fn acceptor(&self) -> TlsAcceptor {
        TlsAcceptor::from(self.current.load_full())
    }

    /// Checks the files at this `interval`, and whenever `reload` is notified, and serves the new certificate. If it
    /// cannot be used, the error is logged and the old one stays. Never returns.
    pub(crate) async fn follow(self, interval: Duration, reload: Arc<Notify>) {
        let mut seen = self.first;
        loop {
            let forced = tokio::select! {
                () = tokio::time::sleep(interval) => false,
                () = reload.notified() => true,
            };
            // The stamps are taken before the files are read: a change in between is seen the next time.
            let now = stamps(&self.files);
            if forced || now != seen {
                seen = now;
                self.renew().await;
            }
        }
    }

    async fn renew(&self) {
        let files = Arc::clone(&self.files);
        match tokio::task::spawn_blocking(move || load(&files)).await {
            Ok(Ok(new)) => {
                self.current.store(new);
                tracing::info!(cert = %self.files.cert.display(), "certificate reloaded: new connections use it");
            }
            // While two files are replaced one after the other, the pair does not match for a moment.
            Ok(Err(error)) => tracing::error!(%error, "certificate not reloaded: the one in use stays"),
            Err(error) => tracing::error!(%error, "reading the certificate failed"),
        }
    }
}

/// Tells one state of a file from another: inode, modification time, size. `None` if it cannot be read.
type Stamp = Option<(u64, i64, i64, u64)>;

fn stamps(files: &TlsSettings) -> [Stamp; 2] {
    let of = |data: Metadata| (data.ino(), data.mtime(), data.mtime_nsec(), data.size());
    [&files.cert, &files.key].map(|file| fs::metadata(file).ok().map(of))
}

#[cfg(test)]
pub(crate) mod tests;
