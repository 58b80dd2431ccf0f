//! TLS for all of our clients: the certificate authorities that they trust, and failures in words that people
//! understand.

#![forbid(unsafe_code)]

use std::error::Error;
use std::io;
use std::path::Path;
use std::sync::Arc;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{AlertDescription, CertificateError, InvalidMessage, RootCertStore};

/// The trusted certificate authorities: Mozilla's, and those in a PEM file.
///
/// # Errors
/// A text for people, when the file cannot be read or holds no certificate.
pub fn authorities(ca_file: Option<&Path>) -> Result<RootCertStore, String> {
    let mut roots = RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
    let Some(path) = ca_file else { return Ok(roots) };
    let mut added = 0_usize;
    for certificate in CertificateDer::pem_file_iter(path).map_err(|e| e.to_string())? {
        let certificate = certificate.map_err(|e| e.to_string())?;
        roots.add(certificate).map_err(|e| in_words(&e))?;
        added += 1;
    }
    if added == 0 {
        return Err("the file holds no certificate in PEM format".to_owned());
    }
    Ok(roots)
}

/// `error` and its sources. `source()` of the standard library's `io::Error` and `Arc` skips the error that they wrap,
/// so that one is taken out here.
pub fn causes<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    std::iter::successors(Some(error), |error| {
        let error: &'a (dyn Error + 'static) = *error;
        if let Some(shared) = error.downcast_ref::<Arc<dyn Error + Send + Sync>>() {
            return Some(&**shared as &(dyn Error + 'static));
        }
        match error.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
            Some(wrapped) => Some(wrapped as &(dyn Error + 'static)),
            None => error.source(),
        }
    })
}

/// The TLS error among an error's causes, if there is one.
pub fn cause<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a rustls::Error> {
    causes(error).find_map(|cause| cause.downcast_ref())
}

/// An error of a client's connection, in words for people: a sentence if TLS is the cause, else the error's own text.
pub fn describe(error: &(dyn Error + 'static)) -> String {
    cause(error).map_or_else(|| error.to_string(), in_words)
}

/// A TLS error as a sentence, from a client's point of view.
pub fn in_words(error: &rustls::Error) -> String {
    match error {
        rustls::Error::InvalidCertificate(reason) => of_certificate(reason),
        rustls::Error::AlertReceived(alert) => of_alert(*alert),
        rustls::Error::InvalidMessage(InvalidMessage::InvalidContentType) => {
            "the peer does not speak TLS; perhaps the port is for plain HTTP".to_owned()
        }
        rustls::Error::InvalidMessage(_) => "the peer sent a malformed TLS message".to_owned(),
        rustls::Error::PeerIncompatible(_) => {
            "the peer supports none of our versions and options of TLS 1.2 and 1.3".to_owned()
        }
        rustls::Error::PeerMisbehaved(_) => "the peer violates the TLS protocol".to_owned(),
        rustls::Error::NoCertificatesPresented => "the peer presents no certificate".to_owned(),
        rustls::Error::DecryptError => "the peer's message cannot be decrypted".to_owned(),
        rustls::Error::NoApplicationProtocol => "the peer does not speak HTTP/1.1".to_owned(),
        _ => error.to_string(),
    }
}

fn of_certificate(reason: &CertificateError) -> String {
    match reason {
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => "the certificate has expired",
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            "the certificate is not valid yet"
        }
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            "the certificate is for another host name"
        }
        CertificateError::UnknownIssuer => "the certificate is not signed by an authority that is trusted here",
        CertificateError::Revoked => "the certificate was revoked",
        CertificateError::BadEncoding => "the certificate is malformed",
        CertificateError::BadSignature => "the certificate's signature is wrong",
        CertificateError::UnhandledCriticalExtension => {
            "the certificate has an extension that is critical and not understood here"
        }
        CertificateError::InvalidPurpose | CertificateError::InvalidPurposeContext { .. } => {
            "the certificate is not one for servers"
        }
        CertificateError::UnsupportedSignatureAlgorithmContext { .. } => {
            "the certificate is signed with an algorithm that is no longer accepted"
        }
        // The verifier's own errors, known only by their Rust names.
        CertificateError::Other(other) => match format!("{other:?}") {
            name if name.contains("CaUsedAsEndEntity") => {
                "the certificate is an authority's own, which no server may show; have it sign one for the server"
            }
            name if name.contains("UnsupportedCertVersion") => "the certificate is not of version 3 of X.509",
            _ => "the certificate cannot be used",
        },
        _ => "the certificate cannot be used",
    }
    .to_owned()
}

fn of_alert(alert: AlertDescription) -> String {
    match alert {
        AlertDescription::HandshakeFailure | AlertDescription::InsufficientSecurity => {
            "the peer accepts none of our cipher suites"
        }
        AlertDescription::ProtocolVersion => "the peer speaks neither TLS 1.2 nor 1.3",
        AlertDescription::UnrecognisedName => "the peer does not know the host name",
        AlertDescription::CertificateRequired => "the peer requires a client certificate",
        AlertDescription::BadCertificate
        | AlertDescription::UnsupportedCertificate
        | AlertDescription::CertificateRevoked
        | AlertDescription::CertificateExpired
        | AlertDescription::CertificateUnknown
        | AlertDescription::UnknownCA => "the peer does not accept the certificate",
        AlertDescription::AccessDenied => "the peer denies access",
        AlertDescription::NoApplicationProtocol => "the peer does not speak HTTP/1.1",
        AlertDescription::InternalError => "the peer failed",
        AlertDescription::CloseNotify | AlertDescription::UserCanceled => "the peer ended the handshake",
        other => return format!("the peer ended the handshake (alert {})", u8::from(other)),
    }
    .to_owned()
}

#[cfg(test)]
mod tests {
    use rustls::{PeerIncompatible, PeerMisbehaved};

    use super::*;

    // covers: G322
    #[test]
    fn no_failure_is_told_by_the_name_that_it_has_in_rust() {
        let errors = [
            rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer),
            rustls::Error::InvalidCertificate(CertificateError::BadEncoding),
            rustls::Error::InvalidCertificate(CertificateError::ApplicationVerificationFailure),
            rustls::Error::InvalidMessage(InvalidMessage::InvalidContentType),
            rustls::Error::InvalidMessage(InvalidMessage::UnsupportedCompression),
            rustls::Error::PeerIncompatible(PeerIncompatible::ServerDoesNotSupportTls12Or13),
            rustls::Error::PeerMisbehaved(PeerMisbehaved::BadCertChainExtensions),
            rustls::Error::AlertReceived(AlertDescription::HandshakeFailure),
            rustls::Error::AlertReceived(AlertDescription::UnrecognisedName),
            rustls::Error::AlertReceived(AlertDescription::Unknown(77)),
        ];
        for error in errors {
            let text = in_words(&error);
            // Names of types and variants are words with a capital inside.
            let rusty = |word: &str| {
                let word = word.trim_matches(|c: char| !c.is_alphanumeric());
                word.chars().any(char::is_lowercase) && word.chars().skip(1).any(char::is_uppercase)
            };
            assert!(!text.split(' ').any(rusty), "{text}");
            assert!(text.len() > 15, "{text}");
        }
    }
}
