//! Secrets at rest: sealed with the main key, so that a copied database alone gives nothing away.
//!
//! XChaCha20-Poly1305 with a random nonce. A sealed text is `key id (4 bytes) ‖ nonce (24) ‖ ciphertext and tag`; the record it
//! belongs to is bound in as associated data, so a sealed secret moved to another record does not open.
//!
//! The key file holds one `id:base64` a line. The first line seals; every line opens, so a key is rotated by putting a new
//! line on top and keeping the old ones.

use std::fmt;
use std::fs::OpenOptions;
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use chacha20poly1305::aead::{Aead, KeyInit, Payload};
use chacha20poly1305::{XChaCha20Poly1305, XNonce};

use crate::error::StoreError;

const ID_LEN: usize = 4;
const NONCE_LEN: usize = 24;

/// The keys that secrets at rest are sealed with.
pub struct MainKey {
    /// The first seals. Never empty.
    keys: Vec<(u32, XChaCha20Poly1305)>,
}

/// Why the main key file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum MainKeyError {
    /// It cannot be read or written.
    #[error("the main key file {path} cannot be used")]
    Io {
        /// Which file.
        path: String,
        /// Why.
        source: io::Error,
    },
    /// It is not a key file.
    #[error("line {line} of the main key file {path} is not `number:base64 of 32 bytes`")]
    Format {
        /// Which file.
        path: String,
        /// Which line, from 1.
        line: usize,
    },
    /// The operating system gave no randomness.
    #[error("the operating system gave no randomness: {0}")]
    Random(String),
}

impl MainKey {
    /// Reads the key file, or makes one (mode 0600) with a fresh key when there is none.
    ///
    /// # Errors
    /// [`MainKeyError`] when it can be neither read nor made, or holds something else.
    pub fn load_or_create(path: &Path) -> Result<Self, MainKeyError> {
        let io_error = |source| MainKeyError::Io { path: path.display().to_string(), source };
        let mut text = String::new();
        match OpenOptions::new().read(true).open(path) {
            Ok(mut file) => {
                file.read_to_string(&mut text).map_err(io_error)?;
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let mut key = [0; 32];
                getrandom::fill(&mut key).map_err(|e| MainKeyError::Random(e.to_string()))?;
                text = format!("1:{}\n", STANDARD.encode(key));
                let mut file =
                    OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).map_err(io_error)?;
                file.write_all(text.as_bytes()).and_then(|()| file.sync_all()).map_err(io_error)?;
            }
            Err(error) => return Err(io_error(error)),
        }
        Self::parse(&text, &path.display().to_string())
    }

    fn parse(text: &str, path: &str) -> Result<Self, MainKeyError> {
        let mut keys = Vec::new();
        for (i, line) in text.lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let key = line.split_once(':').and_then(|(id, key)| {
                let bytes = STANDARD.decode(key.trim()).ok()?;
                Some((id.trim().parse().ok()?, XChaCha20Poly1305::new_from_slice(&bytes).ok()?))
            });
            keys.push(key.ok_or_else(|| MainKeyError::Format { path: path.to_owned(), line: i + 1 })?);
        }
        if keys.is_empty() {
            return Err(MainKeyError::Format { path: path.to_owned(), line: 1 });
        }
        Ok(Self { keys })
    }

    /// Seals `secret` for the record that `belongs_to` names.
    ///
    /// # Errors
    /// [`StoreError::Database`] when the operating system gives no randomness.
    pub fn seal(&self, belongs_to: &str, secret: &[u8]) -> Result<Vec<u8>, StoreError> {
        let no_seal = |what: &str| StoreError::Database(format!("a secret could not be sealed: {what}"));
        let (id, key) = self.keys.first().ok_or_else(|| no_seal("no key"))?;
        let mut nonce = [0; NONCE_LEN];
        getrandom::fill(&mut nonce).map_err(|_| no_seal("no randomness"))?;
        let payload = Payload { msg: secret, aad: belongs_to.as_bytes() };
        let sealed = key.encrypt(&XNonce::from(nonce), payload).map_err(|_| no_seal("too long"))?;
        let mut out = Vec::with_capacity(ID_LEN + NONCE_LEN + sealed.len());
        out.extend_from_slice(&id.to_be_bytes());
        out.extend_from_slice(&nonce);
        out.extend_from_slice(&sealed);
        Ok(out)
    }

    /// Opens what [`MainKey::seal`] sealed for the same record.
    ///
    /// # Errors
    /// [`StoreError::Sealed`] when no key opens it.
    pub fn open(&self, belongs_to: &str, sealed: &[u8]) -> Result<Vec<u8>, StoreError> {
        let (id, rest) = sealed.split_at_checked(ID_LEN).ok_or(StoreError::Sealed)?;
        let (nonce, text) = rest.split_first_chunk::<NONCE_LEN>().ok_or(StoreError::Sealed)?;
        let (_, key) = self.keys.iter().find(|(key_id, _)| key_id.to_be_bytes() == id).ok_or(StoreError::Sealed)?;
        let payload = Payload { msg: text, aad: belongs_to.as_bytes() };
        key.decrypt(&XNonce::from(*nonce), payload).map_err(|_| StoreError::Sealed)
    }
}

impl fmt::Debug for MainKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "MainKey({} keys)", self.keys.len())
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    // covers: K01
    #[test]
    fn a_sealed_secret_opens_for_its_record_only_and_survives_a_new_main_key() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("main.key");
        let old = MainKey::load_or_create(&path).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let sealed = old.seal("listener:a", b"whsec").unwrap();
        assert!(!sealed.windows(5).any(|w| w == b"whsec"));
        assert_eq!(old.open("listener:a", &sealed).unwrap(), b"whsec");
        assert_eq!(old.open("listener:b", &sealed), Err(StoreError::Sealed));
        assert_eq!(old.open("listener:a", &sealed[..10]), Err(StoreError::Sealed));

        let text = std::fs::read_to_string(&path).unwrap();
        std::fs::write(&path, format!("2:{}\n{text}", STANDARD.encode([7; 32]))).unwrap();
        let rotated = MainKey::load_or_create(&path).unwrap();
        assert_eq!(rotated.open("listener:a", &sealed).unwrap(), b"whsec");
        let newer = rotated.seal("listener:a", b"whsec").unwrap();
        assert_eq!(&newer[..4], &2u32.to_be_bytes());
        assert_eq!(old.open("listener:a", &newer), Err(StoreError::Sealed));
    }

    #[test]
    fn a_broken_key_file_names_the_line() {
        for (text, line) in [("", 1), ("1:abc", 1), ("# fine\nx", 2)] {
            let error = MainKey::parse(text, "main.key").unwrap_err();
            assert!(matches!(error, MainKeyError::Format { line: l, .. } if l == line), "{text:?}: {error}");
        }
    }
}
