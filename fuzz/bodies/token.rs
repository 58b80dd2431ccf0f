//! Whatever token a client brings: it is believed only if it was made with the key.

use tidings_model::secret::SecretString;
use tidings_model::token::{Claims, MAX_TOKEN_LEN, TokenKeys};

/// The time of it all, in milliseconds.
const NOW: i64 = 1_795_255_000_000;

/// A token, as it was sent.
pub(crate) fn run(data: &[u8]) {
    let keys = TokenKeys::new(SecretString::from("a secret that nobody would guess, ever"), Vec::new());
    let Ok(text) = std::str::from_utf8(data) else { return };
    assert!(keys.verify(text, NOW).is_err(), "{text:?}");
    // A token of ours with another part in the place of one of its own.
    let claims = Claims { sub: Some("u".to_owned()), ..Claims::default() };
    let Ok(ours) = keys.issue(&claims, NOW) else { unreachable!("there is a secret") };
    assert!(keys.verify(&ours, NOW).is_ok());
    let own: Vec<&str> = ours.split('.').collect();
    for place in 0..3 {
        let mut parts = own.clone();
        parts[place] = text;
        let other = parts.join(".");
        assert!(other == ours || keys.verify(&other, NOW).is_err(), "{other:?}");
        assert!(other.len() <= MAX_TOKEN_LEN || keys.verify(&other, NOW).is_err());
    }
}
