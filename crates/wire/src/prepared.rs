//! Something that is said, and each encoding of it, made at most once.
//!
//! Ten thousand sessions of one protocol are written the same bytes. The first shard that needs an encoding makes it; all
//! share it. The bytes are whole: for a WebSocket they begin with the frame's header.

use std::sync::OnceLock;

use bytes::Bytes;

use crate::said::Said;

/// Where an encoding is kept. One for each (protocol, encoding) that sessions may be served in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Slot {
    /// Pusher's protocol over WebSocket.
    Pusher,
    /// The same, each event with its position in its channel's history.
    PusherPositions,
    /// The Tidings stream over Server-Sent Events.
    Stream,
    /// The same, each event a chunk of HTTP/1.1.
    StreamChunks,
}

impl Slot {
    const COUNT: usize = 4;
}

/// How something that is said looks in a protocol. Made by a door, as a `static`.
#[derive(Debug)]
pub struct Format {
    /// Where its encodings are kept; no two formats have the same.
    pub slot: Slot,
    /// The whole bytes to write; `None` when the protocol says nothing about it.
    pub encode: fn(&Said) -> Option<Bytes>,
}

/// Something that is said, with its encodings.
#[derive(Debug)]
pub struct Prepared {
    said: Said,
    encodings: [OnceLock<Option<Bytes>>; Slot::COUNT],
}

impl Prepared {
    /// Nothing is encoded yet.
    pub fn new(said: Said) -> Self {
        Self { said, encodings: Default::default() }
    }

    /// What is said.
    pub fn said(&self) -> &Said {
        &self.said
    }

    /// Its bytes in this format: made now if nobody has needed them yet.
    pub fn bytes(&self, format: &'static Format) -> Option<&Bytes> {
        self.encodings[format.slot as usize].get_or_init(|| (format.encode)(&self.said)).as_ref()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use tidings_model::channel::ChannelKey;

    use super::*;

    static MADE: AtomicUsize = AtomicUsize::new(0);
    static COUNTED: Format = Format {
        slot: Slot::Pusher,
        encode: |_| {
            MADE.fetch_add(1, Ordering::SeqCst);
            Some(Bytes::from_static(b"frame"))
        },
    };
    static SILENT: Format = Format { slot: Slot::Stream, encode: |_| None };

    #[test]
    fn each_encoding_is_made_at_most_once_however_many_need_it() {
        let said = Said::Subscriptions { channel: ChannelKey::new("1".into(), "c"), count: 1 };
        let prepared = Arc::new(Prepared::new(said));
        let shards: Vec<_> = (0..8)
            .map(|_| {
                let prepared = Arc::clone(&prepared);
                std::thread::spawn(move || prepared.bytes(&COUNTED).map(|bytes| bytes.as_ptr() as usize))
            })
            .collect();
        let places: Vec<_> = shards.into_iter().map(|shard| shard.join().unwrap()).collect();
        assert!(places.iter().all(|place| place.is_some() && *place == places[0]), "not the same bytes: {places:?}");
        assert_eq!(MADE.load(Ordering::SeqCst), 1);
        assert_eq!(prepared.bytes(&SILENT), None);
    }
}
