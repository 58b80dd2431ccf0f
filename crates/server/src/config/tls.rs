//! `[tls]`: the certificate for incoming connections.

use std::path::PathBuf;

use serde::Deserialize;

use super::check::Check;
use super::secret::RawSecret;
use crate::settings::TlsSettings;
use crate::tls::{self, TlsError};

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawTls {
    cert: Option<PathBuf>,
    key: Option<RawSecret>,
}

impl RawTls {
    /// The files of certificate and key; `None` if neither is set: then connections are not encrypted.
    pub(super) fn resolve(self, check: &mut Check) -> Option<TlsSettings> {
        let written = |path: &PathBuf| !path.as_os_str().is_empty();
        // The key is reloaded when its file changes, so both `"key.pem"` and `{ file = "key.pem" }` name a file.
        let key = self.key.map(|key| match key {
            RawSecret::Text(path) => PathBuf::from(path),
            RawSecret::File(path) => path,
        });
        let files = match (self.cert.filter(written), key.filter(written)) {
            (None, None) => return None,
            (Some(cert), Some(key)) => TlsSettings { cert, key },
            (Some(_), None) => {
                check.wrong("tls", "a certificate needs its key: key = \"key.pem\"");
                return None;
            }
            (None, Some(_)) => {
                check.wrong("tls", "a key needs its certificate: cert = \"cert.pem\"");
                return None;
            }
        };
        check.exposed("tls.key", &files.key);
        match tls::load(&files) {
            Ok(_) => {}
            Err(TlsError::Cert(message)) => check.wrong("tls.cert", message),
            Err(TlsError::Key(message)) => check.wrong("tls.key", message),
        }
        Some(files)
    }
}
