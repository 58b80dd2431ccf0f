//! A walk sends messages to every subscriber of a channel.
//!
//! Messages that follow each other directly in one channel are sent together: their bytes are concatenated once for
//! each encoding, and every subscriber costs one `send`. After some subscribers a walk yields to reads and timers, and
//! later goes on where it was. Later messages of the inbox wait until it ends, so the subscriber list does not change
//! under it.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use tidings_model::channel::SessionId;
use tidings_supervisor::Units;
use tidings_wire::{EncodedMessage, Encoding};

#[derive(Debug)]
pub(super) struct SubscriberWalk {
    pub(super) channel: u32,
    /// The index of the next subscriber.
    pub(super) next: usize,
    pub(super) messages: Vec<Arc<EncodedMessage>>,
    pub(super) except: Option<SessionId>,
    /// The bytes of all messages, in each encoding that a subscriber so far has needed.
    pub(super) frames: Vec<(&'static Encoding, Option<Bytes>)>,
    /// The weight of the messages in the inbox.
    pub(super) weight: usize,
}

impl SubscriberWalk {
    /// The bytes of all messages in this encoding; `None` if the encoding omits them or panics.
    #[inline]
    pub(super) fn frame(&mut self, encoding: &'static Encoding, units: &Units) -> Option<&Bytes> {
        let made = self.frames.iter().position(|(made, _)| std::ptr::eq(*made, encoding));
        let index = made.unwrap_or_else(|| {
            let channel = self.messages.first().map_or("", |message| &message.content().channel().name);
            let made = units.catch(channel, || concatenate(&self.messages, encoding));
            self.frames.push((encoding, made.ok().flatten()));
            self.frames.len() - 1
        });
        self.frames[index].1.as_ref()
    }
}

fn concatenate(messages: &[Arc<EncodedMessage>], encoding: &'static Encoding) -> Option<Bytes> {
    if let [only] = messages {
        return only.bytes(encoding).cloned();
    }
    let mut all = BytesMut::new();
    for bytes in messages.iter().filter_map(|message| message.bytes(encoding)) {
        all.extend_from_slice(bytes);
    }
    (!all.is_empty()).then(|| all.freeze())
}
