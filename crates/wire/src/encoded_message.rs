//! A channel message with its encodings, each made at most once.
//!
//! Ten thousand sessions of one protocol receive the same bytes. The first shard that needs an encoding makes it; all share
//! it. The bytes are complete: for a WebSocket they begin with the frame's header.

use std::sync::OnceLock;

use bytes::Bytes;

use crate::channel_message::ChannelMessage;

/// Identifies an encoding: one for each form in which sessions may be served.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EncodingId {
    /// Pusher's protocol over WebSocket.
    Pusher,
    /// The same, each event with its position in its channel's history.
    PusherPositions,
    /// The Tidings stream over Server-Sent Events.
    Stream,
    /// The same, each event a chunk of HTTP/1.1.
    StreamChunks,
}

impl EncodingId {
    const COUNT: usize = 4;
}

/// How a protocol writes channel messages. A door defines each as a `static`.
#[derive(Debug)]
pub struct Encoding {
    /// No two encodings have the same.
    pub id: EncodingId,
    /// All bytes to write; `None` when the protocol sends nothing for this message.
    pub encode: fn(&ChannelMessage) -> Option<Bytes>,
}

/// A channel message with its encodings.
#[derive(Debug)]
pub struct EncodedMessage {
    content: ChannelMessage,
    encodings: [OnceLock<Option<Bytes>>; EncodingId::COUNT],
}

impl EncodedMessage {
    /// A message without any encoding yet.
    pub fn new(content: ChannelMessage) -> Self {
        Self { content, encodings: Default::default() }
    }

    /// The message itself.
    pub fn content(&self) -> &ChannelMessage {
        &self.content
    }

    /// Its bytes in this encoding, made by the first call.
    pub fn bytes(&self, encoding: &'static Encoding) -> Option<&Bytes> {
        self.encodings[encoding.id as usize].get_or_init(|| (encoding.encode)(&self.content)).as_ref()
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
        id: EncodingId::Pusher,
        encode: |_| {
            MADE.fetch_add(1, Ordering::SeqCst);
            Some(Bytes::from_static(b"frame"))
        },
    };
    static SILENT: Encoding = Encoding { id: EncodingId::Stream, encode: |_| None };

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
    }
}
