//! A walk: something is said to every subscriber of a channel.
//!
//! What is said in one channel directly one after the other goes out together: its bytes are put together once for each
//! format, and every subscriber costs one `send`. A walk yields after some subscribers to reads and timers and goes on
//! where it was; what was told later waits behind it, so lists don't change under it.

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
    pub(super) said: Vec<Arc<EncodedMessage>>,
    pub(super) except: Option<SessionId>,
    /// The bytes of all that is said, in each format that somebody has needed.
    pub(super) frames: Vec<(&'static Encoding, Option<Bytes>)>,
    /// Of the inbox's items.
    pub(super) weight: usize,
}

impl SubscriberWalk {
    /// The bytes of all that is said, in this format; `None` if nobody hears it in it.
    #[inline]
    pub(super) fn frame(&mut self, format: &'static Encoding, units: &Units) -> Option<&Bytes> {
        let made = self.frames.iter().position(|(made, _)| std::ptr::eq(*made, format));
        let index = made.unwrap_or_else(|| {
            let channel = self.said.first().map_or("", |said| &said.content().channel().name);
            let made = units.catch(channel, || together(&self.said, format));
            self.frames.push((format, made.ok().flatten()));
            self.frames.len() - 1
        });
        self.frames[index].1.as_ref()
    }
}

fn together(said: &[Arc<EncodedMessage>], format: &'static Encoding) -> Option<Bytes> {
    if let [only] = said {
        return only.bytes(format).cloned();
    }
    let mut all = BytesMut::new();
    for bytes in said.iter().filter_map(|prepared| prepared.bytes(format)) {
        all.extend_from_slice(bytes);
    }
    (!all.is_empty()).then(|| all.freeze())
}
