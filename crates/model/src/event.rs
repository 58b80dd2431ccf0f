//! The event: what happened.

use bytes::Bytes;
use sha2::{Digest, Sha256};

use crate::clock::Millis;
use crate::id::AppId;

/// The most channels that one event may name.
pub const MAX_CHANNELS: usize = 100;
/// The longest channel name, in bytes.
pub const MAX_CHANNEL_LEN: usize = 200;
/// The longest ordering key, in bytes.
pub const MAX_KEY_LEN: usize = 200;

/// What an event carries: bytes and what kind they are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Data {
    /// The bytes exactly as they came in.
    pub bytes: Bytes,
    /// `None`: the bytes are one JSON value, checked at the door. Otherwise their content type.
    pub content_type: Option<String>,
}

impl Data {
    /// Data that is JSON text. The caller has checked that it is one valid JSON value.
    pub fn json(text: impl Into<Bytes>) -> Self {
        Self { bytes: text.into(), content_type: None }
    }

    /// The JSON text, when it is JSON.
    pub fn as_json(&self) -> Option<&str> {
        match self.content_type {
            None => std::str::from_utf8(&self.bytes).ok(),
            Some(_) => None,
        }
    }
}

/// What happened, as every door hands it to the bus.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// Its id: the caller's, or made by us; unique within the app's log.
    pub id: String,
    /// Whose it is.
    pub app: AppId,
    /// Its name, such as `person.created`.
    pub name: String,
    /// The live channels it goes to.
    pub channels: Vec<String>,
    /// What it carries.
    pub data: Data,
    /// When it happened, by the caller's word or ours.
    pub time: Millis,
    /// The model operation (`create`, `update`, `delete`) when it tells of a model's change.
    pub op: Option<String>,
    /// Events with the same key reach a listener that asks for order one after the other.
    pub key: Option<String>,
    /// The session that is not told, because it caused the event.
    pub except: Option<String>,
}

impl Event {
    /// A digest of what the event says (its name, channels, data, op, key), to tell a repeat of an id from another event
    /// that took the same id. Fields are length-prefixed, so no two events run together.
    pub fn digest(&self) -> [u8; 32] {
        let mut hash = Sha256::new();
        let mut field = |bytes: &[u8]| {
            hash.update((bytes.len() as u64).to_be_bytes());
            hash.update(bytes);
        };
        field(self.name.as_bytes());
        field(&self.data.bytes);
        field(self.data.content_type.as_deref().unwrap_or_default().as_bytes());
        field(self.op.as_deref().unwrap_or_default().as_bytes());
        field(self.key.as_deref().unwrap_or_default().as_bytes());
        for channel in &self.channels {
            field(channel.as_bytes());
        }
        hash.finalize().into()
    }

    /// About how much memory it takes, for bounds in bytes.
    pub fn weight(&self) -> usize {
        256 + self.data.bytes.len() + self.name.len() + self.channels.iter().map(|c| c.len() + 24).sum::<usize>()
    }
}
