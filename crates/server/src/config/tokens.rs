//! The `token_*` keys of an app: they verify its clients' tokens.

use tidings_model::token::{KeyError, PublicKey, TokenKeys};

use super::check::Check;
use super::secret::RawSecret;

/// A secret with fewer characters can be found by brute force by anyone who has a token.
const GUESSABLE: usize = 16;

/// The keys as they were written.
pub(super) struct RawTokens<'a> {
    pub(super) hmac: Option<&'a RawSecret>,
    pub(super) rsa: Option<&'a RawSecret>,
    pub(super) ecdsa: Option<&'a RawSecret>,
    pub(super) ed25519: Option<&'a RawSecret>,
}

impl RawTokens<'_> {
    /// Reads the keys; `path` is the app's path.
    pub(super) fn resolve(&self, path: &str, check: &mut Check) -> TokenKeys {
        let here = format!("{path}.token_hmac_secret");
        let hmac = check.secret(&here, self.hmac).unwrap_or_default();
        if !hmac.is_empty() && hmac.expose().len() < GUESSABLE {
            check.warn(
                &here,
                format!(
                    "this secret has fewer than {GUESSABLE} characters and can be guessed; `tidings init` makes \
                    better ones"
                ),
            );
        }
        type Read = fn(&str) -> Result<PublicKey, KeyError>;
        let public: [(&str, Option<&RawSecret>, Read); 3] = [
            ("token_rsa_public_key", self.rsa, PublicKey::rsa),
            ("token_ecdsa_public_key", self.ecdsa, PublicKey::ecdsa),
            ("token_ed25519_public_key", self.ed25519, PublicKey::ed25519),
        ];
        let mut keys = Vec::new();
        for (name, given, read) in public {
            let here = format!("{path}.{name}");
            let Some(pem) = check.secret(&here, given) else { continue };
            match read(pem.expose()) {
                Ok(key) => keys.push(key),
                Err(error) => check.wrong(&here, error.to_string()),
            }
        }
        TokenKeys::new(hmac, keys)
    }
}
