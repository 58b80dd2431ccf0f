//! Request ids: the client's own or one made here, written into every answer.

use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use http::{HeaderMap, HeaderName, HeaderValue};
use tidings_supervisor::RequestId;

const HEADER: HeaderName = HeaderName::from_static(RequestId::HEADER);

/// Makes ids. Each is 128 bits of a counter's keyed hash: unique across restarts and nodes, and it does not reveal how
/// many requests there are.
#[derive(Debug, Default)]
pub(super) struct RequestIds {
    key: RandomState,
    next: AtomicU64,
}

impl RequestIds {
    /// The id of a request: its own, or a new one if it has none, two, or an invalid one.
    pub(super) fn of(&self, headers: &HeaderMap) -> RequestId {
        let mut lines = headers.get_all(HEADER).iter();
        let own = match (lines.next(), lines.next()) {
            (Some(own), None) => own.to_str().ok().and_then(RequestId::read),
            _ => None,
        };
        own.unwrap_or_else(|| self.make())
    }

    /// A new one.
    pub(super) fn make(&self) -> RequestId {
        let count = self.next.fetch_add(1, Relaxed);
        let half = |half: u8| u128::from(self.key.hash_one((count, half)));
        RequestId::from_bits(half(0) << 64 | half(1))
    }
}

/// Writes an id into an answer.
pub(super) fn write(id: &RequestId, headers: &mut HeaderMap) {
    if let Ok(value) = HeaderValue::from_str(id.as_str()) {
        headers.insert(HEADER, value);
    }
}

/// Adds an id to the headers of an answer that is bytes already.
pub(super) fn with_id(answer: &[u8], id: &RequestId) -> Vec<u8> {
    let Some(line) = answer.windows(2).position(|two| two == b"\r\n") else { return answer.to_vec() };
    let (status, rest) = answer.split_at(line + 2);
    [status, RequestId::HEADER.as_bytes(), b": ", id.as_str().as_bytes(), b"\r\n", rest].concat()
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    // covers: G417
    #[test]
    fn no_two_ids_are_the_same_in_one_process_or_in_two() {
        let (one, other) = (RequestIds::default(), RequestIds::default());
        let all: HashSet<_> = (0..20_000).flat_map(|_| [one.make().to_string(), other.make().to_string()]).collect();
        assert_eq!(all.len(), 40_000);
    }

    #[test]
    fn an_answer_gets_an_id_behind_its_status() {
        let id = RequestId::read("me").unwrap();
        let answer = with_id(b"HTTP/1.1 400 Bad Request\r\na: b\r\n\r\nno\r\n", &id);
        assert_eq!(answer, b"HTTP/1.1 400 Bad Request\r\nx-request-id: me\r\na: b\r\n\r\nno\r\n");
        assert_eq!(with_id(b"no head", &id), b"no head");
    }
}
