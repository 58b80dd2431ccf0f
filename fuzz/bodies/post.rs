//! Whatever a connection brings, and however it is cut into reads: the same requests are read of it, and the same is
//! left.

use bytes::BytesMut;
use tidings_wire::{NoPost, PostReader};

/// The first byte is the length of reads; the rest is what the connection brings.
pub(crate) fn run(data: &[u8]) {
    let Some((&read, bytes)) = data.split_first() else { return };
    let whole = requests(bytes, bytes.len());
    assert_eq!(whole, requests(bytes, usize::from(read)));
    assert_eq!(whole, requests(bytes, 1));
}

/// The path and body of a request.
type Post = (String, Vec<u8>);

/// All requests, what is left, and whether that is something else.
fn requests(bytes: &[u8], read: usize) -> (Vec<Post>, Vec<u8>, bool) {
    let (mut reader, mut buffer, mut requests) = (PostReader::default(), BytesMut::new(), Vec::new());
    let mut pieces = bytes.chunks(read.max(1));
    loop {
        match reader.next(&mut buffer) {
            Ok(request) => requests.push((request.uri().to_string(), request.into_body().to_vec())),
            Err(NoPost::Other) => {
                pieces.for_each(|piece| buffer.extend_from_slice(piece));
                return (requests, buffer.to_vec(), true);
            }
            Err(NoPost::Partial { needed, .. }) => {
                assert!(needed > 0);
                let Some(piece) = pieces.next() else { return (requests, buffer.to_vec(), false) };
                buffer.extend_from_slice(piece);
            }
        }
    }
}
