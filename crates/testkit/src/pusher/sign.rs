//! Signatures of requests to Pusher's HTTP API ("Authentication" in its REST reference).

use http::Method;
use md5::{Digest, Md5};

use crate::token::hmac_sha256;

/// The query of a request, signed.
pub(super) fn query(
    key: &str,
    secret: &str,
    time: i64,
    method: &Method,
    path: &str,
    params: &[(&str, &str)],
    body: &[u8],
) -> String {
    let mut all: Vec<(String, String)> =
        params.iter().map(|(name, value)| (name.to_ascii_lowercase(), (*value).to_owned())).collect();
    all.push(("auth_key".to_owned(), key.to_owned()));
    all.push(("auth_timestamp".to_owned(), time.to_string()));
    all.push(("auth_version".to_owned(), "1.0".to_owned()));
    if !body.is_empty() {
        all.push(("body_md5".to_owned(), hex(&Md5::digest(body))));
    }
    all.sort();
    let signed = all.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join("&");
    let signature = hex(&hmac_sha256(secret, &format!("{method}\n{path}\n{signed}")));
    let sent = all.iter().map(|(name, value)| format!("{name}={}", escape(value))).collect::<Vec<_>>().join("&");
    format!("{sent}&auth_signature={signature}")
}

/// Lower-case hexadecimal.
pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn escape(value: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~,".contains(&byte);
    value.bytes().map(|byte| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The worked example of Pusher's REST reference.
    #[test]
    fn the_documented_example_is_signed_as_documented() {
        let body = br#"{"name":"foo","channels":["project-3"],"data":"{\"some\":\"data\"}"}"#;
        let made = query(
            "278d425bdf160c739803",
            "7ad3773142a6692b25b8",
            1_353_088_179,
            &Method::POST,
            "/apps/3/events",
            &[],
            body,
        );
        assert!(made.contains("body_md5=ec365a775a4cd0599faeb73354201b6f"), "{made}");
        assert!(
            made.ends_with("auth_signature=da454824c97ba181a32ccc17a72625ba02771f50b50e1e7430e47a1f3f457e6c"),
            "{made}"
        );
    }
}
