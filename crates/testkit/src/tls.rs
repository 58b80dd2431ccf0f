//! The tests' own certificate for 127.0.0.1 and localhost, one per test program, and clients that trust it and nothing
//! else.

use std::fs;
use std::path::Path;
use std::sync::{Arc, OnceLock};

use rcgen::CertifiedKey;
use rustls::ClientConfig;

/// A certificate with its key, and a client that trusts it.
struct Own {
    certificate_pem: String,
    key_pem: String,
    client: Arc<ClientConfig>,
}

/// A TLS client config that trusts the tests' certificate only.
pub fn client() -> Arc<ClientConfig> {
    Arc::clone(&own().client)
}

/// The name of the certificate file that [`write_into`] writes.
pub(crate) const CERTIFICATE_FILE: &str = "tls.crt";
/// The name of its key file.
pub(crate) const KEY_FILE: &str = "tls.key";

/// Writes certificate and key into `dir`.
pub(crate) fn write_into(dir: &Path) -> std::io::Result<()> {
    fs::write(dir.join(CERTIFICATE_FILE), &own().certificate_pem)?;
    let key = dir.join(KEY_FILE);
    fs::write(&key, &own().key_pem)?;
    fs::set_permissions(key, std::os::unix::fs::PermissionsExt::from_mode(0o600))
}

fn own() -> &'static Own {
    static OWN: OnceLock<Own> = OnceLock::new();
    OWN.get_or_init(|| make().unwrap_or_else(|e| panic!("cannot make a certificate: {e:#}")))
}

fn make() -> anyhow::Result<Own> {
    let names = ["localhost".to_owned(), "127.0.0.1".to_owned()];
    let CertifiedKey { cert, signing_key } = rcgen::generate_simple_self_signed(names)?;
    let mut roots = rustls::RootCertStore::empty();
    roots.add(cert.der().clone())?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let client = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(Own { certificate_pem: cert.pem(), key_pem: signing_key.serialize_pem(), client: Arc::new(client) })
}
