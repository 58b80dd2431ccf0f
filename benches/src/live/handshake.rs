//! The parts of HTTP and WebSocket that the load generator and the floor need (RFC 6455 §§ 4, 5).

use tidings_wire::ws;

/// The `Sec-WebSocket-Key` of all our clients.
const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";

/// An upgrade request.
pub(crate) fn request(path: &str) -> String {
    format!(
        "GET {path} HTTP/1.1\r\nhost: 127.0.0.1\r\nconnection: Upgrade\r\nupgrade: websocket\r\n\
         sec-websocket-version: 13\r\nsec-websocket-key: {KEY}\r\n\r\n"
    )
}

/// The answer to an upgrade request.
pub(crate) fn answer(head: &[u8]) -> String {
    let head = String::from_utf8_lossy(head);
    let key = head.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("sec-websocket-key").then(|| value.trim().to_owned())
    });
    let accept = ws::handshake::accept_key(&key.unwrap_or_default());
    format!(
        "HTTP/1.1 101 Switching Protocols\r\nconnection: Upgrade\r\nupgrade: websocket\r\n\
        sec-websocket-accept: {accept}\r\n\r\n"
    )
}

/// A client's text frame. The mask is zero, so the payload is unchanged.
pub(crate) fn masked_text(payload: &str) -> Vec<u8> {
    let mut frame = ws::text(payload.as_bytes()).to_vec();
    frame[1] |= 0x80;
    let header = frame.len() - payload.len();
    frame.splice(header..header, [0; 4]);
    frame
}

/// The length of a server's frame and the offset of its payload, if the frame is complete.
pub(crate) fn frame_len(bytes: &[u8]) -> Option<(usize, usize)> {
    let (header, payload) = match *bytes.get(1)? {
        126 => (4, usize::from(u16::from_be_bytes(bytes.get(2..4)?.try_into().ok()?))),
        127 => (10, usize::try_from(u64::from_be_bytes(bytes.get(2..10)?.try_into().ok()?)).ok()?),
        len => (2, usize::from(len)),
    };
    (bytes.len() >= header + payload).then_some((header, header + payload))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_of_all_lengths_read_back() {
        for len in [0, 1, 125, 126, 65_535, 65_536] {
            let frame = ws::text(&vec![b'x'; len]);
            assert_eq!(frame_len(&frame), Some((frame.len() - len, frame.len())), "{len}");
            assert_eq!(frame_len(&frame[..frame.len() - 1]), None, "{len}");
        }
    }

    #[test]
    fn the_answer_is_that_of_the_specification() {
        assert!(answer(request("/").as_bytes()).contains("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="));
    }
}
