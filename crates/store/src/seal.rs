//! Secrets at rest: encrypted ("sealed") with the main key, so that a copy of the database alone reveals nothing.
//!
//! XChaCha20-Poly1305 with a random nonce. A sealed secret is `key id (4 bytes) ‖ nonce (24) ‖ ciphertext and tag`. The
//! name of its record is the associated data, so a sealed secret that is moved to another record cannot be opened.
//!
//! The key file has one `id:base64` per line. The first key seals; every key opens. To rotate, put a new line on top
//! and keep the old ones.

use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use chacha20poly1305::aead::{Aead, KeyInit, Payload};
use chacha20poly1305::{XChaCha20Poly1305, XNonce};
use sha2::{Digest, Sha256};

use crate::error::StoreError;

const ID_LEN: usize = 4;
const NONCE_LEN: usize = 24;

/// The keys that secrets at rest are sealed with.
pub struct MainKey {
    /// The first key seals. Never empty.
    keys: Vec<Key>,
}

struct Key {
    id: u32,
    cipher: XChaCha20Poly1305,
    fingerprint: i64,
}

/// Why the main key file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum MainKeyError {
    /// It cannot be read or written.
    #[error("the main key file {path} cannot be used")]
    Io {
        /// The key file.
        path: String,
        /// The error of the file system.
        source: io::Error,
    },
    /// It is not a key file.
    #[error("line {line} of the main key file {path} is not `number:base64 of 32 bytes`")]
    Format {
        /// The key file.
        path: String,
        /// The number of the line, from 1.
        line: usize,
    },
    /// The key file is missing, and the store has secrets that only its keys open.
    #[error(
        "the main key file {path} is missing, and the store holds secrets that are sealed with it; put it back from \
        the backup, or copy it from another node"
    )]
    Missing {
        /// The key file.
        path: String,
    },
    /// The operating system gave no randomness.
    #[error("the operating system gave no randomness: {0}")]
    Random(String),
}

impl MainKey {
    /// Reads the key file; `None` if there is none.
    ///
    /// # Errors
    /// [`MainKeyError`] if it cannot be read, or is not a key file.
    pub fn load(path: &Path) -> Result<Option<Self>, MainKeyError> {
        match fs::read_to_string(path) {
            Ok(text) => Self::parse(&text, &path.display().to_string()).map(Some),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(MainKeyError::Io { path: path.display().to_string(), source }),
        }
    }

    /// Reads the key file, or creates one (mode 0600) with a fresh key: for a store that has no secrets yet. A created
    /// file is complete and synced to disk when this returns.
    ///
    /// # Errors
    /// [`MainKeyError`] if it can be neither read nor created, or is not a key file.
    pub fn load_or_create(path: &Path) -> Result<Self, MainKeyError> {
        if let Some(key) = Self::load(path)? {
            return Ok(key);
        }
        let mut key = [0; 32];
        getrandom::fill(&mut key).map_err(|e| MainKeyError::Random(e.to_string()))?;
        let text = format!("1:{}\n", STANDARD.encode(key));
        create(path, text.as_bytes())
            .map_err(|source| MainKeyError::Io { path: path.display().to_string(), source })?;
        // Read back: if another process was faster, the file has that process's key.
        Self::load(path)?.ok_or_else(|| MainKeyError::Missing { path: path.display().to_string() })
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
                let cipher = XChaCha20Poly1305::new_from_slice(&bytes).ok()?;
                Some(Key { id: id.trim().parse().ok()?, cipher, fingerprint: fingerprint(&bytes) })
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
    /// [`StoreError::Database`] if the operating system gives no randomness.
    pub fn seal(&self, belongs_to: &str, secret: &[u8]) -> Result<Vec<u8>, StoreError> {
        let no_seal = |what: &str| StoreError::Database(format!("a secret could not be sealed: {what}"));
        let Key { id, cipher, .. } = self.keys.first().ok_or_else(|| no_seal("no key"))?;
        let mut nonce = [0; NONCE_LEN];
        getrandom::fill(&mut nonce).map_err(|_| no_seal("no randomness"))?;
        let payload = Payload { msg: secret, aad: belongs_to.as_bytes() };
        let sealed = cipher.encrypt(&XNonce::from(nonce), payload).map_err(|_| no_seal("too long"))?;
        let mut out = Vec::with_capacity(ID_LEN + NONCE_LEN + sealed.len());
        out.extend_from_slice(&id.to_be_bytes());
        out.extend_from_slice(&nonce);
        out.extend_from_slice(&sealed);
        Ok(out)
    }

    /// Opens what [`MainKey::seal`] sealed for the same record.
    ///
    /// # Errors
    /// [`StoreError::Sealed`] if no key opens it.
    pub fn open(&self, belongs_to: &str, sealed: &[u8]) -> Result<Vec<u8>, StoreError> {
        let (id, rest) = sealed.split_at_checked(ID_LEN).ok_or(StoreError::Sealed)?;
        let (nonce, text) = rest.split_first_chunk::<NONCE_LEN>().ok_or(StoreError::Sealed)?;
        let key = self.keys.iter().find(|key| key.id.to_be_bytes() == id).ok_or(StoreError::Sealed)?;
        let payload = Payload { msg: text, aad: belongs_to.as_bytes() };
        key.cipher.decrypt(&XNonce::from(*nonce), payload).map_err(|_| StoreError::Sealed)
    }
}

impl MainKey {
    /// The number and the fingerprint of each key. A fingerprint identifies a key without revealing it.
    pub(crate) fn fingerprints(&self) -> impl Iterator<Item = (u32, i64)> + '_ {
        self.keys.iter().map(|key| (key.id, key.fingerprint))
    }

    /// The number of the key that something is sealed with.
    pub(crate) fn id_of(sealed: &[u8]) -> Result<u32, StoreError> {
        sealed.first_chunk::<ID_LEN>().map(|id| u32::from_be_bytes(*id)).ok_or(StoreError::Sealed)
    }
}

/// The first 64 bits of a hash of the key: as much as a value of table `meta` can hold.
fn fingerprint(key: &[u8]) -> i64 {
    let hash = Sha256::new().chain_update("tidings main key").chain_update(key).finalize();
    hash.iter().take(8).fold(0, |all, byte| all << 8 | i64::from(*byte))
}

/// Creates a file (0600) if there is none, atomically, and syncs it and its folder. An existing file stays as it is.
fn create(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    // The temporary name has the process id: nodes that share the file may start at the same time.
    name.push(format!(".{}.new", std::process::id()));
    let beside = path.with_file_name(name);
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&beside)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    let linked = fs::hard_link(&beside, path).or_else(|error| match error.kind() {
        io::ErrorKind::AlreadyExists => Ok(()),
        // The file system has no hard links.
        _ => fs::rename(&beside, path),
    });
    let removed = fs::remove_file(&beside);
    linked?;
    removed.or_else(|error| if error.kind() == io::ErrorKind::NotFound { Ok(()) } else { Err(error) })?;
    match path.parent().filter(|dir| !dir.as_os_str().is_empty()) {
        Some(dir) => File::open(dir)?.sync_all(),
        None => File::open(".")?.sync_all(),
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
