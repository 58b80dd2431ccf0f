//! Makes keys and passwords, from the operating system's randomness.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

/// A new key with 192 random bits in 32 characters that need no quoting anywhere.
pub(crate) fn random_key() -> anyhow::Result<String> {
    let mut bytes = [0u8; 24];
    getrandom::fill(&mut bytes).map_err(|error| anyhow::anyhow!("the operating system gave no randomness: {error}"))?;
    // A key that begins with a dash would look like a flag on a command line.
    Ok(URL_SAFE_NO_PAD.encode(bytes).replace(['-', '_'], "x"))
}

#[cfg(test)]
mod tests {
    use super::random_key;

    #[test]
    fn keys_differ_and_need_no_quoting() {
        let (a, b) = (random_key().unwrap(), random_key().unwrap());
        assert_ne!(a, b);
        assert!(a.len() == 32 && a.bytes().all(|c| c.is_ascii_alphanumeric()), "{a}");
    }
}
