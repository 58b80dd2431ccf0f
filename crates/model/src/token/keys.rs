//! An app's keys for tokens: verifying tokens, and issuing new ones.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::crypto::aws_lc::DEFAULT_PROVIDER;
use jsonwebtoken::{Algorithm, AlgorithmFamily, DecodingKey, EncodingKey};
use serde::Deserialize;

use super::claims::{Claims, WireClaims};
use crate::channel::{MAX_USER_LEN, is_user_id};
use crate::clock::Millis;
use crate::secret::SecretString;

/// The longest token, in bytes.
pub const MAX_TOKEN_LEN: usize = 8 * 1024;
/// How far the clock of a token's issuer may be from ours, in milliseconds.
pub const LEEWAY_MS: Millis = 5_000;

/// Why a token is not valid.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// Its `exp` is in the past.
    #[error("the token has expired; get a new one from the app")]
    Expired,
    /// Its `nbf` or `iat` is in the future.
    #[error(
        "the token is not valid yet; if it was made just now, set the clock of the machine that made it, or of this one"
    )]
    NotYet,
    /// It has too many bytes.
    #[error("the token has more than {MAX_TOKEN_LEN} bytes; name fewer channels in it, or less info")]
    TooLong,
    /// It does not consist of a header, claims and a signature.
    #[error("the token is not a JSON Web Token; pass it on exactly as the app made it")]
    Malformed,
    /// The app has no key for its algorithm.
    #[error("the token is signed with {algorithm}, for which the app has no key; {}", remedy(.algorithm))]
    NoKey {
        /// The algorithm in its header, truncated.
        algorithm: String,
    },
    /// Its signature was not made with the app's key.
    #[error("the token's signature does not match; sign it with the key that this server has for the app")]
    BadSignature,
    /// Its claims cannot be read.
    #[error(
        "the token's claims cannot be used; sub and channel are strings, channels is an array of strings, and exp, nbf \
    and iat are numbers of Unix seconds"
    )]
    BadClaims,
    /// Its `sub` is not a valid user id.
    #[error("the token's sub cannot be a user's id; write 1 to {MAX_USER_LEN} bytes without control characters")]
    BadUser,
}

fn remedy(algorithm: &str) -> &'static str {
    match algorithm.get(..2) {
        Some("HS") => "set the app's token_hmac_secret",
        Some("RS" | "PS") => "set the app's token_rsa_public_key",
        Some("ES") => "set the app's token_ecdsa_public_key; its algorithms are ES256 and ES384",
        Some("Ed") => "set the app's token_ed25519_public_key",
        _ => "sign it with HS256, RS256, ES256 or EdDSA",
    }
}

/// Why a token cannot be issued.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum IssueError {
    /// The app has no secret to sign with.
    #[error(
        "the app has no token_hmac_secret to sign tokens with; set it in the config, or sign them with your own key"
    )]
    NoSecret,
    /// The info isn't JSON.
    #[error("the token's info is not one JSON value; send JSON")]
    BadInfo,
    /// It would be too long to be verified.
    #[error("the token would have more than {MAX_TOKEN_LEN} bytes; name fewer channels in it, or less info")]
    TooLong,
}

/// Why a text is not a public key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// It is a private key, which only the app's servers should have.
    #[error(
        "this is a private key, which belongs on the app's servers only; put the public one here, and make a new pair"
    )]
    Private,
    /// It is not a PEM text of this kind.
    #[error("this is not {kind} public key in PEM; it begins with -----BEGIN PUBLIC KEY-----")]
    NotPem {
        /// The expected kind, with its article.
        kind: &'static str,
    },
}

/// A public key. Its kind decides which algorithms it may verify.
#[derive(Clone)]
pub struct PublicKey(DecodingKey);

impl PublicKey {
    /// An RSA key of at least 2,048 bits, for RS256, RS384, RS512, PS256, PS384 and PS512.
    ///
    /// # Errors
    /// [`KeyError`].
    pub fn rsa(pem: &str) -> Result<Self, KeyError> {
        Self::read(pem, "an RSA", DecodingKey::from_rsa_pem)
    }

    /// A key on the curve P-256, for ES256, or P-384, for ES384.
    ///
    /// # Errors
    /// [`KeyError`].
    pub fn ecdsa(pem: &str) -> Result<Self, KeyError> {
        Self::read(pem, "an ECDSA", DecodingKey::from_ec_pem)
    }

    /// An Ed25519 key, for EdDSA.
    ///
    /// # Errors
    /// [`KeyError`].
    pub fn ed25519(pem: &str) -> Result<Self, KeyError> {
        Self::read(pem, "an Ed25519", DecodingKey::from_ed_pem)
    }

    fn read(
        pem: &str,
        kind: &'static str,
        parse: fn(&[u8]) -> jsonwebtoken::errors::Result<DecodingKey>,
    ) -> Result<Self, KeyError> {
        if pem.contains("PRIVATE KEY-----") {
            return Err(KeyError::Private);
        }
        parse(pem.trim().as_bytes()).map(Self).map_err(|_| KeyError::NotPem { kind })
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PublicKey({:?})", self.0.family())
    }
}

/// The keys that verify an app's tokens. Without any key no token is valid.
#[derive(Debug, Clone, Default)]
pub struct TokenKeys {
    hmac: SecretString,
    public: Vec<PublicKey>,
}

#[derive(Deserialize)]
struct Header {
    alg: String,
    /// Extensions that must be understood (RFC 7515 § 4.1.11); we understand none.
    crit: Option<serde::de::IgnoredAny>,
}

impl TokenKeys {
    /// The keys of an app; an empty secret counts as none.
    pub fn new(hmac_secret: SecretString, public: Vec<PublicKey>) -> Self {
        Self { hmac: hmac_secret, public }
    }

    /// Whether there is no key at all.
    pub fn is_empty(&self) -> bool {
        self.hmac.is_empty() && self.public.is_empty()
    }

    /// Whether tokens can be issued.
    pub fn can_issue(&self) -> bool {
        !self.hmac.is_empty()
    }

    /// Verifies a token at `wall_now`, and returns its claims.
    ///
    /// # Errors
    /// [`TokenError`]; [`TokenError::Expired`] only for a token that the app has signed.
    pub fn verify(&self, token: &str, wall_now: Millis) -> Result<Claims, TokenError> {
        if token.len() > MAX_TOKEN_LEN {
            return Err(TokenError::TooLong);
        }
        let (signed, signature) = token.rsplit_once('.').ok_or(TokenError::Malformed)?;
        let (header, claims) = signed.split_once('.').ok_or(TokenError::Malformed)?;
        let decode = |part: &str| URL_SAFE_NO_PAD.decode(part).map_err(|_| TokenError::Malformed);
        let header: Header = serde_json::from_slice(&decode(header)?).map_err(|_| TokenError::Malformed)?;
        if header.crit.is_some() {
            return Err(TokenError::Malformed);
        }
        self.check_signature(&header.alg, signed, &decode(signature)?)?;
        let written = WireClaims::read(&decode(claims)?).ok_or(TokenError::BadClaims)?;
        if written.exp.is_some_and(|exp| exp.0.saturating_add(LEEWAY_MS) <= wall_now) {
            return Err(TokenError::Expired);
        }
        if [written.nbf, written.iat].iter().flatten().any(|from| from.0 > wall_now.saturating_add(LEEWAY_MS)) {
            return Err(TokenError::NotYet);
        }
        let claims = Claims::from(written);
        match claims.sub.as_deref() {
            Some(sub) if !is_user_id(sub) => Err(TokenError::BadUser),
            _ => Ok(claims),
        }
    }

    fn check_signature(&self, named: &str, signed: &str, signature: &[u8]) -> Result<(), TokenError> {
        let no_key = || TokenError::NoKey { algorithm: named.chars().take(16).collect() };
        let algorithm: Algorithm = named.parse().map_err(|_| no_key())?;
        let signature = signature.to_vec();
        let made_with = |key: &DecodingKey| {
            let verifier = (DEFAULT_PROVIDER.verifier_factory)(&algorithm, key);
            verifier.is_ok_and(|verifier| verifier.verify(signed.as_bytes(), &signature).is_ok())
        };
        if algorithm.family() == AlgorithmFamily::Hmac {
            return match self.hmac.expose().as_bytes() {
                [] => Err(no_key()),
                secret if made_with(&DecodingKey::from_secret(secret)) => Ok(()),
                _ => Err(TokenError::BadSignature),
            };
        }
        let mut keys = self.public.iter().filter(|key| key.0.family() == algorithm.family()).peekable();
        if keys.peek().is_none() {
            return Err(no_key());
        }
        if keys.any(|key| made_with(&key.0)) { Ok(()) } else { Err(TokenError::BadSignature) }
    }

    /// Issues a token with these claims at `wall_now`, signed with the app's secret (HS256).
    ///
    /// # Errors
    /// [`IssueError`].
    pub fn issue(&self, claims: &Claims, wall_now: Millis) -> Result<String, IssueError> {
        if self.hmac.is_empty() {
            return Err(IssueError::NoSecret);
        }
        let written = WireClaims::of(claims, wall_now).ok_or(IssueError::BadInfo)?;
        let claims = serde_json::to_vec(&written).map_err(|_| IssueError::BadInfo)?;
        let header = URL_SAFE_NO_PAD.encode(br#"{"alg":"HS256","typ":"JWT"}"#);
        let signed = format!("{header}.{}", URL_SAFE_NO_PAD.encode(claims));
        let key = EncodingKey::from_secret(self.hmac.expose().as_bytes());
        let signer = (DEFAULT_PROVIDER.signer_factory)(&Algorithm::HS256, &key).map_err(|_| IssueError::NoSecret)?;
        let signature = signer.try_sign(signed.as_bytes()).map_err(|_| IssueError::NoSecret)?;
        let token = format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature));
        if token.len() > MAX_TOKEN_LEN { Err(IssueError::TooLong) } else { Ok(token) }
    }
}
