//! Whatever a client sends, and however it is cut into reads: what comes out is the same, and nothing is too long.

use tidings_wire::ws::{Decoder, Incoming};

/// The first byte is the longest message, the second the length of reads; the rest is what the client sends.
pub(crate) fn run(data: &[u8]) {
    let Some((&[longest, read], stream)) = data.split_first_chunk() else { return };
    let longest = usize::from(longest);
    let whole = decoded(longest, stream, stream.len());
    assert_eq!(whole, decoded(longest, stream, usize::from(read)));
    assert_eq!(whole, decoded(longest, stream, 1));
}

/// What is heard, each in words.
fn decoded(longest: usize, stream: &[u8], read: usize) -> Vec<String> {
    let mut decoder = Decoder::new(longest);
    let mut heard = Vec::new();
    for piece in stream.to_vec().chunks_mut(read.max(1)) {
        let mut input = piece;
        loop {
            match decoder.next(&mut input) {
                Ok(None) => break,
                Ok(Some(incoming)) => {
                    let (len, most) = match incoming {
                        Incoming::Text(text) => (text.len(), longest),
                        Incoming::Binary(bytes) => (bytes.len(), longest),
                        Incoming::Ping(bytes) | Incoming::Pong(bytes) => (bytes.len(), 125),
                        Incoming::Close(close) => (close.map_or(0, |(_, reason)| reason.len()), 123),
                    };
                    assert!(len <= most, "{len} bytes where {most} are the most");
                    heard.push(format!("{incoming:?}"));
                }
                Err(violation) => {
                    assert!(matches!(violation.close_code(), 1002 | 1007 | 1009));
                    heard.push(format!("{violation:?}"));
                    return heard;
                }
            }
        }
        assert!(input.is_empty());
    }
    heard
}
