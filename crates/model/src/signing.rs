//! Signatures of Pusher Channels: HMAC-SHA256 in hexadecimal, of requests to the HTTP API, of joins to channels, of
//! sign-ins of users, and of the body of app webhooks.
//!
//! Both sides build the signed text, so each of these texts has one function here (source: Pusher's "Generating
//! authentication signatures" and "HTTP API reference"). The signature of a join covers the channel data whenever there
//! is some, in every kind of channel. The signature of a request covers the parameters exactly as they came, so
//! `body_md5` belongs to it even if the body is empty.

use std::cmp::Ordering;

use hmac::{Hmac, KeyInit, Mac};
use md5::Md5;
use sha2::{Digest, Sha256};

use crate::secret::SecretString;

/// How far `auth_timestamp` may be from now, in seconds, in either direction.
pub const REQUEST_TOLERANCE_SECS: i64 = 600;
/// The only `auth_version`.
pub const AUTH_VERSION: &str = "1.0";
/// The parameter with the signature. It is not signed itself.
pub(crate) const SIGNATURE: &str = "auth_signature";

/// The signed text of a session's join. It includes `channel_data` in every kind of channel, not only with presence.
pub fn channel_string(socket_id: &str, channel: &str, channel_data: Option<&str>) -> String {
    match channel_data {
        Some(data) => format!("{socket_id}:{channel}:{data}"),
        None => format!("{socket_id}:{channel}"),
    }
}

/// The signed text of a user's sign-in.
pub fn user_string(socket_id: &str, user_data: &str) -> String {
    format!("{socket_id}::user::{user_data}")
}

/// The signed text of a request to the HTTP API: method, path as it was sent, and the parameters of the query. `params`
/// are percent-decoded, in any order. Names are lower-cased and sorted; values stay as they are; `auth_signature` is
/// left out. [`crate::signed_query`] verifies requests.
pub fn request_string_to_sign<K: AsRef<str>, V: AsRef<str>>(method: &str, path: &str, params: &[(K, V)]) -> String {
    request_text(method, path, &canonical(params))
}

/// The signed text of a request, from parts in their final form.
pub(crate) fn request_text(method: &str, path: &str, canonical_query: &str) -> String {
    let mut text = String::with_capacity(method.len() + path.len() + canonical_query.len() + 2);
    text.push_str(method);
    text.make_ascii_uppercase();
    for part in ["\n", path, "\n", canonical_query] {
        text.push_str(part);
    }
    steps::take(text.len());
    text
}

/// The parameters in the form that is signed.
pub(crate) fn canonical<K: AsRef<str>, V: AsRef<str>>(params: &[(K, V)]) -> String {
    let mut signed: Vec<(&str, &str)> = params
        .iter()
        .map(|(name, value)| (name.as_ref(), value.as_ref()))
        .filter(|(name, _)| !name.eq_ignore_ascii_case(SIGNATURE))
        .collect();
    signed.sort_by(|(a, _), (b, _)| by_name(a, b));
    let length: usize = signed.iter().map(|(name, value)| name.len() + value.len() + 2).sum();
    let mut text = String::with_capacity(length);
    for (name, value) in signed {
        if !text.is_empty() {
            text.push('&');
        }
        let start = text.len();
        text.push_str(name);
        text[start..].make_ascii_lowercase();
        text.push('=');
        text.push_str(value);
    }
    steps::take(text.len());
    text
}

/// The order of parameters: by their names in lower case.
pub(crate) fn by_name(a: &str, b: &str) -> Ordering {
    steps::take(a.len().min(b.len()));
    a.bytes().map(|byte| byte.to_ascii_lowercase()).cmp(b.bytes().map(|byte| byte.to_ascii_lowercase()))
}

/// Counts the bytes that are looked at to verify a request. Only tests use the count.
pub(crate) mod steps {
    #[cfg(test)]
    thread_local! {
        static TAKEN: std::cell::Cell<usize> = const { std::cell::Cell::new(0) };
    }

    #[inline]
    pub(crate) fn take(_steps: usize) {
        #[cfg(test)]
        TAKEN.with(|taken| taken.set(taken.get() + _steps));
    }

    #[cfg(test)]
    pub(crate) fn reset() {
        TAKEN.with(|taken| taken.set(0));
    }

    #[cfg(test)]
    pub(crate) fn taken() -> usize {
        TAKEN.with(std::cell::Cell::get)
    }
}

/// The signature of a text, in lower-case hexadecimal. Without a secret it is empty.
pub fn sign_hex(secret: &SecretString, text: impl AsRef<[u8]>) -> String {
    mac(secret, text.as_ref()).map(|mac| hex(&mac.finalize().into_bytes())).unwrap_or_default()
}

/// Whether this is the signature of a text, compared in constant time. Without a secret it never is.
pub fn verify_hex(secret: &SecretString, text: impl AsRef<[u8]>, signature: &str) -> bool {
    let (Some(given), Some(mac)) = (unhex(signature), mac(secret, text.as_ref())) else { return false };
    mac.verify_slice(&given).is_ok()
}

/// `body_md5` of a request: the MD5 of the body's bytes, in lower-case hexadecimal.
pub fn body_md5(body: &[u8]) -> String {
    hex(&Md5::digest(body))
}

fn mac(secret: &SecretString, text: &[u8]) -> Option<Hmac<Sha256>> {
    if secret.is_empty() {
        return None;
    }
    // HMAC takes keys of every length.
    let mut mac = Hmac::<Sha256>::new_from_slice(secret.expose().as_bytes()).ok()?;
    mac.update(text);
    steps::take(text.len());
    Some(mac)
}

fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut text = String::with_capacity(2 * bytes.len());
    for digit in bytes.iter().flat_map(|byte| [byte >> 4, byte & 15]) {
        text.push(char::from(DIGITS[usize::from(digit)]));
    }
    text
}

/// The 32 bytes of a signature; `None` for anything else.
fn unhex(text: &str) -> Option<[u8; 32]> {
    let (pairs, rest) = text.as_bytes().as_chunks::<2>();
    if !rest.is_empty() || pairs.len() != 32 {
        return None;
    }
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let mut bytes = [0; 32];
    for (byte, [high, low]) in bytes.iter_mut().zip(pairs) {
        *byte = digit(*high)? << 4 | digit(*low)?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn secret() -> SecretString {
        SecretString::from("7ad3773142a6692b25b8")
    }

    #[test]
    fn pushers_own_examples_come_out() {
        let joins = [
            (None, "58df8b0c36d6982b82c3ecf6b4662e34fe8c25bba48f5369f135bf843651c3a4", "private-foobar"),
            (
                Some(r#"{"user_id":10,"user_info":{"name":"Mr. Channels"}}"#),
                "31935e7d86dba64c2a90aed31fdc61869f9b22ba9d8863bba239c03ca481bc80",
                "presence-foobar",
            ),
        ];
        for (data, signature, channel) in joins {
            assert_eq!(sign_hex(&secret(), channel_string("1234.1234", channel, data)), signature, "{channel}");
        }
        let user = user_string("1234.1234", r#"{"id":"12345"}"#);
        assert_eq!(sign_hex(&secret(), user), "4708d583dada6a56435fb8bc611c77c359a31eebde13337c16ab43aa6de336ba");
        let body = br#"{"name":"foo","channels":["project-3"],"data":"{\"some\":\"data\"}"}"#;
        let params = [
            ("auth_signature", "da454824c97ba181a32ccc17a72625ba02771f50b50e1e7430e47a1f3f457e6c"),
            ("auth_key", "278d425bdf160c739803"),
            ("body_md5", &body_md5(body)),
            ("auth_version", "1.0"),
            ("auth_timestamp", "1353088179"),
        ];
        assert_eq!(
            request_string_to_sign("POST", "/apps/3/events", &params),
            "POST\n/apps/3/events\nauth_key=278d425bdf160c739803&auth_timestamp=1353088179&auth_version=1.0&\
             body_md5=ec365a775a4cd0599faeb73354201b6f"
        );
    }

    #[test]
    fn channel_data_is_signed_wherever_it_is_given() {
        assert_eq!(channel_string("1.2", "private-x", Some("{}")), "1.2:private-x:{}");
        assert_eq!(channel_string("1.2", "private-x", Some("")), "1.2:private-x:");
        assert_eq!(channel_string("1.2", "private-x", None), "1.2:private-x");
    }

    #[test]
    fn the_empty_body_has_its_md5() {
        assert_eq!(body_md5(b""), "d41d8cd98f00b204e9800998ecf8427e");
    }

    // covers: K05
    #[test]
    fn without_a_secret_nothing_is_signed_and_nothing_believed() {
        assert_eq!(sign_hex(&SecretString::default(), "x"), "");
        assert!(!verify_hex(&SecretString::default(), "x", ""));
        let of_empty_key = Hmac::<Sha256>::new_from_slice(b"").unwrap().chain_update(b"x").finalize().into_bytes();
        assert!(!verify_hex(&SecretString::default(), "x", &hex(&of_empty_key)));
    }

    proptest! {
        #[test]
        fn a_signature_is_of_one_text_and_one_secret(
            text in any::<Vec<u8>>(), other in any::<Vec<u8>>(), key in "\\PC{1,90}",
        ) {
            let key = SecretString::from(key);
            let signature = sign_hex(&key, &text);
            prop_assert!(verify_hex(&key, &text, &signature));
            prop_assert!(verify_hex(&key, &text, &signature.to_uppercase()));
            prop_assert_eq!(verify_hex(&key, &other, &signature), text == other);
            prop_assert!(!verify_hex(&key, &text, &signature[1..]));
            let longer = SecretString::from(key.expose().to_owned() + "x");
            prop_assert!(!verify_hex(&longer, &text, &signature));
        }

        #[test]
        fn what_is_no_signature_is_refused(signature in "\\PC{0,80}") {
            prop_assert!(!verify_hex(&secret(), "text", &signature));
        }
    }
}
