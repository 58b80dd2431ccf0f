//! The chunked transfer coding of HTTP/1.1 (RFC 9112 § 7.1), for bodies that are written without an HTTP library.

use std::io::Write as _;

use bytes::Bytes;

/// Ends a chunk's size line, and its data.
const CRLF: &[u8] = b"\r\n";
/// Ends a chunked body. A body without it was truncated.
pub const LAST_CHUNK: Bytes = Bytes::from_static(b"0\r\n\r\n");

/// One chunk with this data.
pub fn chunk(data: &[u8]) -> Bytes {
    let mut bytes = Vec::with_capacity(data.len() + 16);
    begin(&mut bytes, data.len());
    bytes.extend_from_slice(data);
    bytes.extend_from_slice(CRLF);
    bytes.into()
}

/// A chunk with `before` in front of the data of another whole chunk, in two parts to be written one after the other.
/// The second part shares the other chunk's bytes.
pub fn prefixed(before: &[u8], chunk: &Bytes) -> (Bytes, Bytes) {
    let data = chunk.iter().position(|&byte| byte == b'\n').map_or(0, |end| end + 1);
    let mut first = Vec::with_capacity(before.len() + 16);
    begin(&mut first, before.len() + (chunk.len() - data).saturating_sub(CRLF.len()));
    first.extend_from_slice(before);
    (first.into(), chunk.slice(data..))
}

fn begin(to: &mut Vec<u8>, length: usize) {
    // Writing to a vector cannot fail.
    _ = write!(to, "{length:x}\r\n");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chunk_has_its_length_and_can_be_given_a_beginning() {
        let whole = chunk(b"data: 123456789\n\n");
        assert_eq!(whole, "11\r\ndata: 123456789\n\n\r\n");
        let (first, rest) = prefixed(b"id: 7\n", &whole);
        assert_eq!((first.as_ref(), rest.as_ref()), (&b"17\r\nid: 7\n"[..], &b"data: 123456789\n\n\r\n"[..]));
        assert_eq!(rest.as_ptr(), whole[4..].as_ptr(), "the bytes are shared");
    }
}
