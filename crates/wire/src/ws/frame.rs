//! Whole frames as servers send them: not fragmented, not masked.

use bytes::Bytes;

use super::header::MAX_CONTROL;

const FINAL: u8 = 0x80;
/// The longest header of ours: two bytes and eight of length.
const MAX_HEADER: usize = 10;

/// A frame of text. The caller has it from a `str`, or knows that it is UTF-8.
pub fn text(payload: &[u8]) -> Bytes {
    frame(1, payload)
}

/// A frame of bytes.
pub fn binary(payload: &[u8]) -> Bytes {
    frame(2, payload)
}

/// A ping; a payload beyond 125 bytes is cut off.
pub fn ping(payload: &[u8]) -> Bytes {
    frame(9, &payload[..payload.len().min(MAX_CONTROL)])
}

/// The answer to a ping, with its payload.
pub fn pong(payload: &[u8]) -> Bytes {
    frame(10, &payload[..payload.len().min(MAX_CONTROL)])
}

/// A close frame. The reason is cut, between two characters, to the 123 bytes that there is room for (RFC 6455 § 5.5.1).
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

/// A frame of text whose payload `fill` appends, so that it is not copied once more. `capacity` is about how long it gets.
pub fn text_with(capacity: usize, fill: impl FnOnce(&mut Vec<u8>)) -> Bytes {
    let mut bytes = Vec::with_capacity(MAX_HEADER + capacity);
    bytes.resize(MAX_HEADER, 0);
    fill(&mut bytes);
    let mut header = Vec::with_capacity(MAX_HEADER);
    put_header(&mut header, 1, bytes.len() - MAX_HEADER);
    let begin = MAX_HEADER - header.len();
    bytes[begin..MAX_HEADER].copy_from_slice(&header);
    Bytes::from(bytes).slice(begin..)
}

fn frame(opcode: u8, payload: &[u8]) -> Bytes {
    let mut bytes = Vec::with_capacity(MAX_HEADER + payload.len());
    put_header(&mut bytes, opcode, payload.len());
    bytes.extend_from_slice(payload);
    bytes.into()
}

fn put_header(bytes: &mut Vec<u8>, opcode: u8, len: usize) {
    bytes.push(FINAL | opcode);
    match (u8::try_from(len), u16::try_from(len)) {
        (Ok(len @ 0..=125), _) => bytes.push(len),
        (_, Ok(len)) => {
            bytes.push(126);
            bytes.extend(len.to_be_bytes());
        }
        _ => {
            bytes.push(127);
            bytes.extend((len as u64).to_be_bytes());
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
