//! What every client of ours does about TLS: whom it trusts, and how a failure is told to people.

#![forbid(unsafe_code)]

use std::error::Error;
use std::io;
use std::path::Path;
use std::sync::Arc;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{AlertDescription, CertificateError, InvalidMessage, RootCertStore};

/// Mozilla's authorities, and those in a PEM file.
///
/// # Errors
/// In words, when the file cannot be read or holds no certificate.
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
        return Err("it holds no certificate in PEM".to_owned());
    }
    Ok(roots)
}

/// `error` and its sources. The standard library's `io::Error` and `Arc` leave out the error that they wrap, so that
/// one is asked for.
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

/// The failure of TLS behind an error, if there is one.
pub fn cause<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a rustls::Error> {
    causes(error).find_map(|cause| cause.downcast_ref())
}

/// An error of a client's connection, as people are told: in a sentence where TLS is behind it.
pub fn told(error: &(dyn Error + 'static)) -> String {
    cause(error).map_or_else(|| error.to_string(), in_words)
}

/// A failure of TLS in a sentence, as a client meets it.
pub fn in_words(error: &rustls::Error) -> String {
    match error {
        rustls::Error::InvalidCertificate(reason) => of_certificate(reason),
        rustls::Error::AlertReceived(alert) => of_alert(*alert),
        rustls::Error::InvalidMessage(InvalidMessage::InvalidContentType) => {
            "what answered does not speak TLS; perhaps the port is one for plain HTTP".to_owned()
        }
        rustls::Error::InvalidMessage(_) => "what answered does not speak TLS as it should".to_owned(),
        rustls::Error::PeerIncompatible(_) => {
            "the other side speaks neither TLS 1.2 nor 1.3 as it is spoken here".to_owned()
        }
        rustls::Error::PeerMisbehaved(_) => "the other side breaks the rules of TLS".to_owned(),
        rustls::Error::NoCertificatesPresented => "the other side shows no certificate".to_owned(),
        rustls::Error::DecryptError => "what came cannot be decrypted".to_owned(),
        rustls::Error::NoApplicationProtocol => "the other side does not speak HTTP/1.1".to_owned(),
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
            "the certificate is signed in a way that is not accepted any more"
        }
        // These come from the verifier under their Rust names.
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
            "the other side accepts none of the ciphers that are offered"
        }
        AlertDescription::ProtocolVersion => "the other side speaks neither TLS 1.2 nor 1.3",
        AlertDescription::UnrecognisedName => "the other side does not know the host name",
        AlertDescription::CertificateRequired => "the other side asks for a client certificate",
        AlertDescription::BadCertificate
        | AlertDescription::UnsupportedCertificate
        | AlertDescription::CertificateRevoked
        | AlertDescription::CertificateExpired
        | AlertDescription::CertificateUnknown
        | AlertDescription::UnknownCA => "the other side does not accept the certificate",
        AlertDescription::AccessDenied => "the other side denies access",
        AlertDescription::NoApplicationProtocol => "the other side does not speak HTTP/1.1",
        AlertDescription::InternalError => "the other side failed",
        AlertDescription::CloseNotify | AlertDescription::UserCanceled => "the other side ended the handshake",
        other => return format!("the other side ended the handshake (alert {})", u8::from(other)),
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
            let told = in_words(&error);
            // Names of types and variants are words with a capital inside.
            let rusty = |word: &str| {
                let word = word.trim_matches(|c: char| !c.is_alphanumeric());
                word.chars().any(char::is_lowercase) && word.chars().skip(1).any(char::is_uppercase)
            };
            assert!(!told.split(' ').any(rusty), "{told}");
            assert!(told.len() > 15, "{told}");
        }
    }
}
