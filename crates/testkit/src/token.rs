//! Makes JSON Web Tokens (RFC 7519), as an app's own server does, and forged ones.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit, Mac};
use serde_json::{Value, json};
use sha2::Sha256;

/// A token with these claims, signed HS256 with `secret`.
pub fn token(secret: &str, claims: &Value) -> String {
    let signed = format!("{}.{}", part(&json!({"alg": "HS256", "typ": "JWT"})), part(claims));
    let signature = URL_SAFE_NO_PAD.encode(hmac_sha256(secret, &signed));
    format!("{signed}.{signature}")
}

/// An unsigned token (`"alg": "none"`).
pub fn unsigned_token(claims: &Value) -> String {
    format!("{}.{}.", part(&json!({"alg": "none", "typ": "JWT"})), part(claims))
}

fn part(json: &Value) -> String {
    URL_SAFE_NO_PAD.encode(json.to_string())
}

pub(crate) fn hmac_sha256(secret: &str, text: &str) -> Vec<u8> {
    let mut mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).unwrap_or_else(|e| panic!("no HMAC key: {e}"));
    mac.update(text.as_bytes());
    mac.finalize().into_bytes().to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 7515, appendix A.1 has line ends in its JSON; this vector is the one that jwt.io is known for, in serde's
    /// order.
    #[test]
    fn a_token_has_three_parts_and_the_signature_of_the_first_two() {
        let made = token("your-256-bit-secret", &json!({"sub": "1"}));
        let (signed, signature) = made.rsplit_once('.').unwrap();
        assert_eq!(signed, "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJzdWIiOiIxIn0");
        assert_eq!(URL_SAFE_NO_PAD.decode(signature).unwrap(), hmac_sha256("your-256-bit-secret", signed));
        assert!(unsigned_token(&json!({})).ends_with('.'));
    }
}
