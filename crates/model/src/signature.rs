//! Signatures of webhooks: Standard Webhooks 1.0, version `v1` (HMAC-SHA256).
//!
//! The courier signs each attempt with [`sign`]; `tidings listen` and receivers check with [`verify`]. The signed text
//! is
//! `{id}.{timestamp}.{body}`, so an id must not contain a `.`, or two messages could have the same signature. Tidings'
//! ids have none.
//!
//! A [`Secret`] is never shown by `Debug`, is wiped when dropped, and has the key schedule of its MAC ready, so that
//! signing costs only the hashing of the body.

use std::fmt;

use base64::Engine as _;
use base64::engine::DecodePaddingMode;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig, STANDARD};
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use crate::clock::Millis;

/// How far a timestamp may be from now, in seconds, in either direction. All receivers' libraries use this value.
pub const TOLERANCE_SECS: i64 = 300;
/// The shortest secret, in bytes.
pub const MIN_SECRET_LEN: usize = 24;
/// The longest secret, in bytes.
pub const MAX_SECRET_LEN: usize = 64;
/// The most earlier secrets that a listener keeps.
pub const MAX_PREVIOUS: usize = 10;
/// The header with the message's id.
pub const ID_HEADER: &str = "webhook-id";
/// The header with the time of the attempt, in Unix seconds.
pub const TIMESTAMP_HEADER: &str = "webhook-timestamp";
/// The header with the signatures.
pub const SIGNATURE_HEADER: &str = "webhook-signature";

const PREFIX: &str = "whsec_";
const GENERATED_LEN: usize = 32;

/// Base64 with optional padding, because people lose the `=` at the end when they copy a secret.
const LENIENT: GeneralPurpose = GeneralPurpose::new(
    &base64::alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// A listener's secret: 24 to 64 bytes.
#[derive(Clone)]
pub struct Secret {
    bytes: Zeroizing<Vec<u8>>,
    mac: Hmac<Sha256>,
}

/// Why a secret was refused. Never contains the secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SecretError {
    /// It is a key for asymmetric signatures.
    #[error(
        "secret: this is a key for asymmetric signatures; write whsec_ and the base64 of {MIN_SECRET_LEN} to \
        {MAX_SECRET_LEN} random bytes"
    )]
    Asymmetric,
    /// Not base64.
    #[error(
        "secret: the text after whsec_ is not base64; write whsec_ and the base64 of {MIN_SECRET_LEN} to \
        {MAX_SECRET_LEN} random bytes, or leave it out to have one generated"
    )]
    NotBase64,
    /// Too short or too long.
    #[error(
        "secret: it decodes to {len} bytes; use {MIN_SECRET_LEN} to {MAX_SECRET_LEN} random bytes, or leave it out to \
        have one generated"
    )]
    Length {
        /// Its length in bytes.
        len: usize,
    },
    /// The operating system provides no random bytes.
    #[error("secret: the operating system provides no random bytes; try again")]
    NoRandomness,
}

impl Secret {
    /// Reads `whsec_` and base64. As in the libraries that receivers use, the prefix may be missing.
    ///
    /// # Errors
    /// [`SecretError`] if it is not base64 of [`MIN_SECRET_LEN`] to [`MAX_SECRET_LEN`] bytes.
    pub fn parse(text: &str) -> Result<Self, SecretError> {
        if text.starts_with("whsk_") || text.starts_with("whpk_") {
            return Err(SecretError::Asymmetric);
        }
        let encoded = text.strip_prefix(PREFIX).unwrap_or(text);
        let bytes = Zeroizing::new(LENIENT.decode(encoded).map_err(|_| SecretError::NotBase64)?);
        Self::from_bytes(&bytes)
    }

    /// A secret of these bytes.
    ///
    /// # Errors
    /// [`SecretError::Length`] if they are too few or too many.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, SecretError> {
        let length = SecretError::Length { len: bytes.len() };
        if !(MIN_SECRET_LEN..=MAX_SECRET_LEN).contains(&bytes.len()) {
            return Err(length);
        }
        let mac = Hmac::<Sha256>::new_from_slice(bytes).map_err(|_| length)?;
        Ok(Self { bytes: Zeroizing::new(bytes.to_vec()), mac })
    }

    /// A new secret of 32 random bytes from the operating system.
    ///
    /// # Errors
    /// [`SecretError::NoRandomness`] if the operating system provides none.
    pub fn generate() -> Result<Self, SecretError> {
        let mut bytes = Zeroizing::new([0_u8; GENERATED_LEN]);
        getrandom::fill(bytes.as_mut()).map_err(|_| SecretError::NoRandomness)?;
        Self::from_bytes(bytes.as_ref())
    }

    /// The secret as `whsec_` and base64. Show it only to callers who may see it.
    pub fn expose(&self) -> Zeroizing<String> {
        // The capacity is reserved at once, so that no part of the secret is left behind in a buffer that grew.
        let mut text = String::with_capacity(PREFIX.len() + MAX_SECRET_LEN.div_ceil(3) * 4);
        text.push_str(PREFIX);
        STANDARD.encode_string(self.bytes.as_slice(), &mut text);
        Zeroizing::new(text)
    }

    fn mac(&self, id: &str, timestamp: &str, body: &[u8]) -> Hmac<Sha256> {
        let mut mac = self.mac.clone();
        mac.update(id.as_bytes());
        mac.update(b".");
        mac.update(timestamp.as_bytes());
        mac.update(b".");
        mac.update(body);
        mac
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(redacted)")
    }
}

impl PartialEq for Secret {
    /// In constant time for secrets of equal length.
    fn eq(&self, other: &Self) -> bool {
        self.bytes.ct_eq(&other.bytes).into()
    }
}

impl Eq for Secret {}

/// The value of `webhook-signature`: one `v1,…` per key, with spaces between. `timestamp` is that of the attempt, in
/// Unix seconds; `id` must not contain a `.`.
pub fn sign(id: &str, timestamp: i64, body: &[u8], keys: &[&Secret]) -> String {
    let timestamp = timestamp.to_string();
    let mut value = String::with_capacity(keys.len() * 48);
    for key in keys {
        value.push_str(if value.is_empty() { "v1," } else { " v1," });
        STANDARD.encode_string(key.mac(id, &timestamp, body).finalize().into_bytes(), &mut value);
    }
    value
}

/// The three headers of a signed message, as received.
#[derive(Debug, Clone, Copy)]
pub struct SignedHeaders<'h> {
    /// `webhook-id`.
    pub id: &'h str,
    /// `webhook-timestamp`.
    pub timestamp: &'h str,
    /// `webhook-signature`.
    pub signature: &'h str,
}

/// Why a message is not authentic.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum VerifyError {
    /// The timestamp is not a number of seconds.
    #[error("{TIMESTAMP_HEADER}: not a number of Unix seconds; pass the header on unchanged")]
    BadTimestamp,
    /// The message is too old; it may be a replay.
    #[error(
        "{TIMESTAMP_HEADER}: {seconds} seconds old, which is too old; if it was sent just now, set this machine's clock"
    )]
    TooOld {
        /// Its age.
        seconds: i64,
    },
    /// The message is from the future.
    #[error("{TIMESTAMP_HEADER}: {seconds} seconds in the future; if it was sent just now, set this machine's clock")]
    TooNew {
        /// How far it is in the future.
        seconds: i64,
    },
    /// There is no signature of version 1.
    #[error("{SIGNATURE_HEADER}: there is no `v1,` signature in it; pass the header on unchanged")]
    NoSignature,
    /// No signature was made with one of the keys.
    #[error(
        "{SIGNATURE_HEADER}: no signature matches; check the secret, and verify the body's bytes as received, before \
        parsing them"
    )]
    NoMatch,
}

/// Checks that one of the signatures was made with one of the keys, and that the message is not older or newer than
/// `tolerance_secs` ([`TOLERANCE_SECS`]). Signatures are compared in constant time; those of other versions are
/// ignored.
///
/// # Errors
/// [`VerifyError`] says what is wrong. Treat the message as not received.
pub fn verify(
    headers: &SignedHeaders<'_>,
    body: &[u8],
    keys: &[&Secret],
    now_secs: i64,
    tolerance_secs: i64,
) -> Result<(), VerifyError> {
    let sent: i64 = headers.timestamp.parse().map_err(|_| VerifyError::BadTimestamp)?;
    let age = now_secs.saturating_sub(sent);
    if age > tolerance_secs {
        return Err(VerifyError::TooOld { seconds: age });
    }
    if age < tolerance_secs.saturating_neg() {
        return Err(VerifyError::TooNew { seconds: age.saturating_neg() });
    }
    let signatures = || headers.signature.split(' ').filter_map(|item| item.strip_prefix("v1,"));
    if signatures().next().is_none() {
        return Err(VerifyError::NoSignature);
    }
    for key in keys {
        let expected = key.mac(headers.id, headers.timestamp, body).finalize().into_bytes();
        for signature in signatures() {
            let Ok(given) = STANDARD.decode(signature) else { continue };
            if bool::from(expected.ct_eq(given.as_slice())) {
                return Ok(());
            }
        }
    }
    Err(VerifyError::NoMatch)
}

/// The secrets that sign a listener's deliveries: the current one, and earlier ones that receivers may still use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyRing {
    /// The secret.
    pub current: Secret,
    /// Earlier secrets, newest first, each with the time until which it still signs.
    pub previous: Vec<(Secret, Millis)>,
}

impl KeyRing {
    /// A ring of one secret.
    pub fn new(current: Secret) -> Self {
        Self { current, previous: Vec::new() }
    }

    /// The secrets to sign with now: the current one, then the earlier ones that are still valid.
    pub fn signing_keys(&self, now_ms: Millis) -> Vec<&Secret> {
        let valid = self.previous.iter().filter(|(_, until)| *until > now_ms).map(|(secret, _)| secret);
        std::iter::once(&self.current).chain(valid).collect()
    }

    /// Makes `new` the current secret. The previous secret also signs for `grace_ms`; earlier ones keep their expiry,
    /// and
    /// the newest [`MAX_PREVIOUS`] of all are kept. A grace of 0 is for a secret that leaked: from now on only `new`
    /// signs.
    pub fn rotate(&mut self, new: Secret, now_ms: Millis, grace_ms: Millis) {
        let before = std::mem::replace(&mut self.current, new);
        if grace_ms <= 0 {
            self.previous.clear();
            return;
        }
        self.previous.insert(0, (before, now_ms.saturating_add(grace_ms)));
        // If `new` is one of the earlier secrets, it must not sign twice, nor expire with its old entry.
        let current = &self.current;
        self.previous.retain(|(secret, until)| *until > now_ms && secret != current);
        self.previous.truncate(MAX_PREVIOUS);
    }
}
