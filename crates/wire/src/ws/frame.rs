//! Whole frames as servers send them: not fragmented, not masked.

use bytes::{Buf, Bytes};

use super::header::MAX_CONTROL;

const FINAL: u8 = 0x80;
/// The longest header of a server's frame: two bytes and eight of length.
const MAX_HEADER: usize = 10;

/// A text frame. The payload must be UTF-8.
pub fn text(payload: &[u8]) -> Bytes {
    frame(1, payload)
}

/// A binary frame.
pub fn binary(payload: &[u8]) -> Bytes {
    frame(2, payload)
}

/// A ping. A payload beyond 125 bytes is truncated.
pub fn ping(payload: &[u8]) -> Bytes {
    frame(9, &payload[..payload.len().min(MAX_CONTROL)])
}

/// The answer to a ping, with its payload.
pub fn pong(payload: &[u8]) -> Bytes {
    frame(10, &payload[..payload.len().min(MAX_CONTROL)])
}

/// A close frame; `code` must be one that an endpoint may send (§ 7.4). The reason is truncated, between two
/// characters, to the 123 bytes that fit (RFC 6455 § 5.5.1).
pub fn close(code: u16, reason: &str) -> Bytes {
    let mut end = reason.len().min(MAX_CONTROL - 2);
    while !reason.is_char_boundary(end) {
        end -= 1;
    }
    let mut payload = Vec::with_capacity(2 + end);
    payload.extend(code.to_be_bytes());
    payload.extend_from_slice(&reason.as_bytes()[..end]);
    frame(8, &payload)
}

/// A text frame whose payload `fill` appends, which saves a copy. `capacity` is the payload's approximate length.
pub fn text_with(capacity: usize, fill: impl FnOnce(&mut Vec<u8>)) -> Bytes {
    let mut bytes = Vec::with_capacity(MAX_HEADER + capacity);
    bytes.resize(MAX_HEADER, 0);
    fill(&mut bytes);
    let (header, len) = header(1, bytes.len() - MAX_HEADER);
    let unused = MAX_HEADER - len;
    bytes[unused..MAX_HEADER].copy_from_slice(&header[..len]);
    let mut bytes = Bytes::from(bytes);
    bytes.advance(unused);
    bytes
}

fn frame(opcode: u8, payload: &[u8]) -> Bytes {
    let (header, len) = header(opcode, payload.len());
    // Exact capacity, so that the conversion to `Bytes` allocates nothing.
    let mut bytes = Vec::with_capacity(len + payload.len());
    bytes.extend_from_slice(&header[..len]);
    bytes.extend_from_slice(payload);
    bytes.into()
}

/// A header (RFC 6455 § 5.2), and its length in the array.
fn header(opcode: u8, payload: usize) -> ([u8; MAX_HEADER], usize) {
    let mut header = [0; MAX_HEADER];
    header[0] = FINAL | opcode;
    match (u8::try_from(payload), u16::try_from(payload)) {
        (Ok(short @ 0..=125), _) => {
            header[1] = short;
            (header, 2)
        }
        (_, Ok(long)) => {
            header[1] = 126;
            header[2..4].copy_from_slice(&long.to_be_bytes());
            (header, 4)
        }
        _ => {
            header[1] = 127;
            header[2..].copy_from_slice(&(payload as u64).to_be_bytes());
            (header, MAX_HEADER)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_those_of_the_specification() {
        assert_eq!(text(b"Hello"), &b"\x81\x05Hello"[..]);
        assert_eq!(pong(b"Hello"), &b"\x8a\x05Hello"[..]);
        assert_eq!(binary(&[0; 256])[..4], [0x82, 0x7e, 0x01, 0x00]);
        assert_eq!(binary(&vec![0; 65_536])[..10], [0x82, 0x7f, 0, 0, 0, 0, 0, 1, 0, 0]);
        for len in [0, 1, 125, 126, 65_535, 65_536] {
            let payload = vec![b'x'; len];
            assert_eq!(text_with(0, |bytes| bytes.extend_from_slice(&payload)), text(&payload), "{len}");
        }
    }

    #[test]
    fn a_reason_is_cut_where_a_client_can_still_read_it() {
        let frame = close(4001, &"å".repeat(100));
        assert_eq!(frame[1], 124, "two bytes of code and 61 characters of two bytes");
        assert!(std::str::from_utf8(&frame[4..]).is_ok());
        assert_eq!(close(4200, ""), &[0x88, 2, 0x10, 0x68][..]);
        assert_eq!(ping(&[0; 200]).len(), 127);
    }
}
