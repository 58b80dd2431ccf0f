//! The TLS configuration of outgoing connections.
//!
//! TLS 1.2 and 1.3, Mozilla's roots and the operator's, `http/1.1` as the only protocol offered. The provider is named
//! here and nowhere installed for the process: an application that embeds the server keeps its own choice.

use std::path::Path;
use std::sync::Arc;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{AlertDescription, CertificateError, ClientConfig, RootCertStore};
use tidings_model::excerpt;

use super::error::EgressError;

/// The configuration that all connections of one client share, with its session cache.
pub(super) fn client_config(ca_file: Option<&Path>) -> Result<ClientConfig, EgressError> {
    let mut roots = RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
    if let Some(path) = ca_file {
        add_roots(&mut roots, path).map_err(|reason| EgressError::CaFile { path: path.to_owned(), reason })?;
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(EgressError::Tls)?
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}

/// What a tenant should be told about a failed session.
pub(super) fn explain(error: &rustls::Error) -> String {
    let known = match error {
        rustls::Error::InvalidCertificate(reason) => match reason {
            CertificateError::Expired | CertificateError::ExpiredContext { .. } => "the certificate has expired",
            CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
                "the certificate is not valid yet"
            }
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
                "the certificate is for another host name"
            }
            CertificateError::UnknownIssuer => {
                "the certificate is not signed by an authority that this server trusts (see [egress] ca_file)"
            }
            _ => return excerpt(&error.to_string()).to_owned(),
        },
        rustls::Error::AlertReceived(AlertDescription::CertificateRequired) => {
            "the receiver asks for a client certificate"
        }
        _ => return excerpt(&error.to_string()).to_owned(),
    };
    known.to_owned()
}

fn add_roots(roots: &mut RootCertStore, path: &Path) -> Result<(), String> {
    let mut added = 0_usize;
    for certificate in CertificateDer::pem_file_iter(path).map_err(|e| e.to_string())? {
        let certificate = certificate.map_err(|e| e.to_string())?;
        roots.add(certificate).map_err(|e| e.to_string())?;
        added += 1;
    }
    if added == 0 {
        return Err("it holds no certificate".to_owned());
    }
    Ok(())
}
