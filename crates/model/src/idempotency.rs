//! Idempotency keys: a caller's name for a request, by which a repeat is recognised.
//!
//! All doors read the key and compute the digest of the request in the same way. A repeat must agree with the first
//! request in everything that made the event.

use http::HeaderMap;
use sha2::{Digest, Sha256};

use crate::id::AppId;

/// The header with the key.
pub const HEADER: &str = "idempotency-key";
/// The longest key, in bytes.
pub const MAX_KEY_LEN: usize = 255;

/// The key does not have the required form.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("this idempotency key cannot be used; send one key of 1 to {MAX_KEY_LEN} visible ASCII characters")]
pub struct BadKey;

/// A caller's key, and the digest of the request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IdempotencyKey {
    key: String,
    digest: [u8; 32],
}

impl IdempotencyKey {
    /// The key of a request, if it has one. `body` is the body as it came. `beside` are the other inputs of the event,
    /// such
    /// as parameters of path and query, in an order that is the same for each repeat.
    ///
    /// # Errors
    /// [`BadKey`] for several keys, or for a key that is empty, too long, or not visible ASCII.
    pub fn of(headers: &HeaderMap, app: &AppId, body: &[u8], beside: &[(&str, &str)]) -> Result<Option<Self>, BadKey> {
        let mut given = headers.get_all(HEADER).iter();
        let Some(key) = given.next() else { return Ok(None) };
        let is_fine = (1..=MAX_KEY_LEN).contains(&key.len()) && key.as_bytes().iter().all(u8::is_ascii_graphic);
        match key.to_str() {
            Ok(key) if is_fine && given.next().is_none() => {
                Ok(Some(Self { key: key.to_owned(), digest: digest(app, body, beside) }))
            }
            _ => Err(BadKey),
        }
    }

    /// The key of the nth event of a request with several events. So a repeat of an interrupted request continues where
    /// the first one stopped.
    #[must_use]
    pub fn nth(&self, n: usize) -> Self {
        Self { key: format!("{}#{n}", self.key), digest: self.digest }
    }

    /// The key, and the digest of the request.
    pub fn into_parts(self) -> (String, [u8; 32]) {
        (self.key, self.digest)
    }
}

/// The digest of a request. Fields are length-prefixed, so two different requests never have the same input. A request
/// without other inputs than its body has the digest of earlier versions, because keys outlive an upgrade.
fn digest(app: &AppId, body: &[u8], beside: &[(&str, &str)]) -> [u8; 32] {
    let len = |bytes: &[u8]| (bytes.len() as u64).to_be_bytes();
    let app = app.as_str().as_bytes();
    let mut hash = Sha256::new().chain_update(len(app)).chain_update(app);
    if beside.is_empty() {
        return hash.chain_update(body).finalize().into();
    }
    // No app's id has this length, so this cannot be the beginning of a digest of the other kind.
    hash = Sha256::new().chain_update(u64::MAX.to_be_bytes()).chain_update(hash.finalize());
    hash = hash.chain_update(len(body)).chain_update(body);
    for part in beside.iter().flat_map(|(name, value)| [name, value]) {
        hash = hash.chain_update(len(part.as_bytes())).chain_update(part.as_bytes());
    }
    hash.finalize().into()
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn of(key: &str, app: &str, body: &str, beside: &[(&str, &str)]) -> IdempotencyKey {
        let headers =
            HeaderMap::from_iter([(http::HeaderName::from_static(HEADER), HeaderValue::from_str(key).unwrap())]);
        IdempotencyKey::of(&headers, &AppId::from(app), body.as_bytes(), beside).unwrap().unwrap()
    }

    // covers: G194
    #[test]
    fn everything_that_made_the_event_is_in_the_digest() {
        let all = [
            of("k", "1", "body", &[]),
            of("k", "2", "body", &[]),
            of("k", "1", "bod", &[]),
            of("k", "1", "body", &[("name", "a")]),
            of("k", "1", "", &[("name", "a")]),
            of("k", "1", "", &[("name", "b")]),
            of("k", "1", "", &[("namea", "")]),
            of("k", "1", "", &[("name", "a"), ("data", "1")]),
            of("k", "1", "", &[("data", "1"), ("name", "a")]),
            of("k", "1", "", &[("name", "adata1")]),
        ];
        for (n, one) in all.iter().enumerate() {
            assert!(all[..n].iter().all(|other| other.digest != one.digest), "{n}");
        }
        assert_eq!(of("k", "1", "", &[("name", "a")]), of("k", "1", "", &[("name", "a")]));
        assert_eq!(of("k", "1", "b", &[]).nth(2).into_parts(), ("k#2".to_owned(), of("k", "1", "b", &[]).digest));
    }

    #[test]
    fn a_request_that_is_its_body_alone_keeps_its_digest() {
        // What version 0.1.0 stored for the app "1" and the body "{}": keys of a day ago go on holding.
        let before: [u8; 32] = Sha256::digest(b"\0\0\0\0\0\0\0\x011{}").into();
        assert_eq!(of("k", "1", "{}", &[]).digest, before);
    }

    #[test]
    fn a_key_is_one_word_of_visible_characters() {
        let app = AppId::from("1");
        let read = |keys: &[&'static [u8]]| {
            let mut headers = HeaderMap::new();
            for key in keys {
                headers.append(HEADER, HeaderValue::from_bytes(key).unwrap());
            }
            IdempotencyKey::of(&headers, &app, b"", &[])
        };
        assert_eq!(read(&[]), Ok(None));
        assert!(read(&[b"k"]).unwrap().is_some() && read(&[&[b'k'; MAX_KEY_LEN]]).unwrap().is_some());
        for wrong in [&[b"".as_slice()][..], &[b"a b"], &[b"\xe5"], &[&[b'k'; MAX_KEY_LEN + 1]], &[b"a", b"b"]] {
            assert_eq!(read(wrong), Err(BadKey));
        }
    }
}
