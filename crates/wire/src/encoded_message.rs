//! A channel message with its encodings, each made at most once.
//!
//! Ten thousand sessions of one protocol receive the same bytes. The first shard that needs an encoding makes it; all
//! share it. The bytes are complete: for a WebSocket they begin with the frame's header.

use std::sync::OnceLock;

use bytes::Bytes;

use crate::channel_message::ChannelMessage;

/// How a protocol writes channel messages. A door defines each of its encodings as a `static`; they are told apart by
/// address.
#[derive(Debug)]
pub struct Encoding {
    /// The door and the encoding, for debugging.
    pub name: &'static str,
    /// All bytes to write; `None` when the protocol sends nothing for this message.
    pub encode: fn(&ChannelMessage) -> Option<Bytes>,
}

/// A channel message with the encodings that sessions have needed so far.
#[derive(Debug)]
pub struct EncodedMessage {
    content: ChannelMessage,
    /// Most messages are needed in one encoding, which costs no allocation of its own.
    first: OnceLock<Encoded>,
}

/// A message in one encoding: an entry of a linked list. Entries are never removed, so reading needs no lock.
#[derive(Debug)]
struct Encoded {
    encoding: &'static Encoding,
    bytes: OnceLock<Option<Bytes>>,
    next: OnceLock<Box<Encoded>>,
}

impl Encoded {
    fn new(encoding: &'static Encoding) -> Self {
        Self { encoding, bytes: OnceLock::new(), next: OnceLock::new() }
    }
}

impl EncodedMessage {
    /// A message without any encoding yet.
    pub fn new(content: ChannelMessage) -> Self {
        Self { content, first: OnceLock::new() }
    }

    /// The message itself.
    pub fn content(&self) -> &ChannelMessage {
        &self.content
    }

    /// The message's bytes in this encoding, made by the first call; `None` if the encoding omits the message.
    pub fn bytes(&self, encoding: &'static Encoding) -> Option<&Bytes> {
        let mut made = self.first.get_or_init(|| Encoded::new(encoding));
        while !std::ptr::eq(made.encoding, encoding) {
            made = made.next.get_or_init(|| Box::new(Encoded::new(encoding)));
        }
        made.bytes.get_or_init(|| (encoding.encode)(&self.content)).as_ref()
    }

    /// Roughly how much memory it takes, in bytes: its content, and each encoding made so far.
    pub fn weight(&self) -> usize {
        let mut weight = self.content.weight();
        let mut next = self.first.get();
        while let Some(made) = next {
            weight += made.bytes.get().and_then(Option::as_ref).map_or(0, Bytes::len);
            next = made.next.get().map(|made| &**made);
        }
        weight
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use tidings_model::channel::ChannelKey;

    use super::*;

    static MADE: AtomicUsize = AtomicUsize::new(0);
    static COUNTED: Encoding = Encoding {
        name: "counted",
        encode: |_| {
            MADE.fetch_add(1, Ordering::SeqCst);
            Some(Bytes::from_static(b"frame"))
        },
    };
    static SILENT: Encoding = Encoding { name: "silent", encode: |_| None };

    static LONG: Encoding = Encoding { name: "long", encode: |_| Some(Bytes::from(vec![0; 100])) };

    #[test]
    fn each_encoding_is_made_at_most_once_however_many_need_it() {
        let content = ChannelMessage::Subscriptions { channel: ChannelKey::new("1".into(), "c"), count: 1 };
        let message = Arc::new(EncodedMessage::new(content));
        let shards: Vec<_> = (0..8)
            .map(|_| {
                let message = Arc::clone(&message);
                std::thread::spawn(move || message.bytes(&COUNTED).map(|bytes| bytes.as_ptr() as usize))
            })
            .collect();
        let places: Vec<_> = shards.into_iter().map(|shard| shard.join().unwrap()).collect();
        assert!(places.iter().all(|place| place.is_some() && *place == places[0]), "not the same bytes: {places:?}");
        assert_eq!(MADE.load(Ordering::SeqCst), 1);
        assert_eq!(message.bytes(&SILENT), None);
        assert_eq!(message.bytes(&LONG).map(Bytes::len), Some(100));
        assert_eq!(message.bytes(&COUNTED).map(|bytes| bytes.as_ptr() as usize), places[0]);
        assert_eq!(message.weight(), message.content().weight() + b"frame".len() + 100);
    }
}
