//! The TLS configuration of outgoing connections.
//!
//! TLS 1.2 and 1.3, Mozilla's roots and the operator's, `http/1.1` as the only ALPN protocol. The crypto provider is
//! set here and not installed for the process: an application that embeds the server keeps its own choice.

use std::path::Path;
use std::sync::Arc;

use rustls::{AlertDescription, CertificateError, ClientConfig};
use tidings_tls::{authorities, in_words};

use super::error::EgressError;

/// The configuration that all connections of one client share; it has the TLS session cache.
pub(super) fn client_config(ca_file: Option<&Path>) -> Result<ClientConfig, EgressError> {
    let roots = authorities(ca_file)
        .map_err(|reason| EgressError::CaFile { path: ca_file.map(Path::to_owned).unwrap_or_default(), reason })?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(EgressError::Tls)?
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}

/// The text about a TLS failure that a tenant sees.
pub(super) fn explain(error: &rustls::Error) -> String {
    match error {
        rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer) => {
            "the certificate is not signed by an authority that this server trusts (see [egress] ca_file)".to_owned()
        }
        rustls::Error::AlertReceived(AlertDescription::CertificateRequired) => {
            "the receiver asks for a client certificate".to_owned()
        }
        _ => in_words(error),
    }
}
