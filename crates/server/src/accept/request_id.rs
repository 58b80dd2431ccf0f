//! The ids of requests: taken over from who sends them, or made here, and written into every answer.

use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use http::{HeaderMap, HeaderValue};
use tidings_live::RequestId;

/// The longest id that is taken over.
const MAX_LENGTH: usize = 128;
const DIGITS: &[u8; 16] = b"0123456789abcdef";

/// Makes ids. Each is 128 bits of a counter's keyed hash: unique over restarts and nodes, and nobody can read from it
/// how many requests there are.
#[derive(Debug, Default)]
pub(super) struct RequestIds {
    key: RandomState,
    next: AtomicU64,
}

impl RequestIds {
    /// The id of a request: the one that it bears, or a new one if it bears none, two, or one that could be mistaken in
    /// a log.
    pub(super) fn of(&self, headers: &HeaderMap) -> RequestId {
        let mut lines = headers.get_all(RequestId::HEADER).iter();
        match (lines.next(), lines.next()) {
            (Some(own), None) if may_be_id(own.as_bytes()) => RequestId(own.clone()),
            _ => self.make(),
        }
    }

    /// A new one.
    pub(super) fn make(&self) -> RequestId {
        let count = self.next.fetch_add(1, Relaxed);
        let mut digits = [0; 32];
        for (half, digits) in digits.chunks_exact_mut(16).enumerate() {
            let bits = self.key.hash_one((count, half));
            for (place, digit) in digits.iter_mut().rev().enumerate() {
                *digit = DIGITS[(bits >> (4 * place)) as usize & 0xf];
            }
        }
        RequestId(HeaderValue::from_bytes(&digits).unwrap_or(HeaderValue::from_static("none")))
    }
}

fn may_be_id(own: &[u8]) -> bool {
    (1..=MAX_LENGTH).contains(&own.len())
        && own.iter().all(|byte| byte.is_ascii_alphanumeric() || b"._:+/=@-".contains(byte))
}

/// An answer that was written by hand, with an id among its headers.
pub(super) fn with_id(answer: &[u8], id: &RequestId) -> Vec<u8> {
    let Some(line) = answer.windows(2).position(|two| two == b"\r\n") else { return answer.to_vec() };
    let (status, rest) = answer.split_at(line + 2);
    [status, RequestId::HEADER.as_str().as_bytes(), b": ", id.0.as_bytes(), b"\r\n", rest].concat()
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    fn of(ids: &RequestIds, lines: &[&[u8]]) -> String {
        let line = |line: &&[u8]| (RequestId::HEADER, HeaderValue::from_bytes(line).unwrap());
        let mut headers = HeaderMap::new();
        for (name, value) in lines.iter().map(line) {
            headers.append(name, value);
        }
        ids.of(&headers).0.to_str().unwrap().to_owned()
    }

    // covers: G417
    #[test]
    fn an_id_is_taken_over_if_it_can_be_read_in_one_way() {
        let ids = RequestIds::default();
        let longest = "x".repeat(MAX_LENGTH);
        for own in ["1", "Root=1-67891233-abcdef012345678912345678", "a/b+c==", "urn:uuid:x@y.z", "_", &longest] {
            assert_eq!(of(&ids, &[own.as_bytes()]), own);
        }
        let too_long = "x".repeat(MAX_LENGTH + 1);
        let bad: [&[u8]; 10] =
            [b"", b" ", b"a b", b"a,b", b"a\"b", b"a\\b", b"a\tb", b"\xff", "\u{e9}".as_bytes(), too_long.as_bytes()];
        for own in bad {
            let made = of(&ids, &[own]);
            assert!(made.len() == 32 && made.bytes().all(|byte| byte.is_ascii_hexdigit()), "{made}");
        }
        assert_ne!(of(&ids, &[b"a", b"b"]), "a");
        assert_ne!(of(&ids, &[b"a", b"a"]), "a");
    }

    // covers: G417
    #[test]
    fn no_two_ids_are_the_same_in_one_process_or_in_two() {
        let (one, other) = (RequestIds::default(), RequestIds::default());
        let all: HashSet<_> = (0..20_000).flat_map(|_| [of(&one, &[]), of(&other, &[])]).collect();
        assert_eq!(all.len(), 40_000);
    }

    #[test]
    fn an_answer_gets_an_id_behind_its_status() {
        let id = RequestId(HeaderValue::from_static("me"));
        let answer = with_id(b"HTTP/1.1 400 Bad Request\r\na: b\r\n\r\nno\r\n", &id);
        assert_eq!(answer, b"HTTP/1.1 400 Bad Request\r\nx-request-id: me\r\na: b\r\n\r\nno\r\n");
        assert_eq!(with_id(b"no head", &id), b"no head");
    }
}
