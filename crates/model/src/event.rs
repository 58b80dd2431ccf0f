//! The event: a name, channels, data and a time.

use std::borrow::Cow;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde_json::value::RawValue;
use sha2::{Digest, Sha256};

use crate::clock::Millis;
use crate::id::AppId;
use crate::policy::is_encrypted;

/// The most channels that one event may name.
pub const MAX_CHANNELS: usize = 100;
/// The longest channel name, in bytes.
pub const MAX_CHANNEL_LEN: usize = 200;
/// The longest ordering key, in bytes.
pub const MAX_KEY_LEN: usize = 200;

/// The content type of data that is text and not JSON.
const TEXT: &str = "text/plain; charset=utf-8";

/// The data of an event: bytes, and their content type.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Data {
    /// The bytes exactly as they came in.
    pub bytes: Bytes,
    /// `None`: the bytes are one JSON value, as the door has checked. Otherwise their content type.
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

    /// Data as a Pusher library hands it over: the text's bytes as they are, which count as JSON if they are one JSON
    /// value.
    pub fn text(text: impl Into<Bytes>) -> Self {
        let bytes = text.into();
        let is_json = serde_json::from_slice::<&RawValue>(&bytes).is_ok();
        Self { bytes, content_type: (!is_json).then(|| TEXT.to_owned()) }
    }

    /// The bytes as text, for protocols that carry text: as they are if they are UTF-8, else in base 64.
    pub fn as_text(&self) -> Cow<'_, str> {
        match std::str::from_utf8(&self.bytes) {
            Ok(text) => Cow::Borrowed(text),
            Err(_) => Cow::Owned(STANDARD.encode(&self.bytes)),
        }
    }

    /// The bytes as one JSON value, for protocols that carry JSON: as they are if they are JSON, else [`Data::as_text`]
    /// as a JSON string.
    pub fn as_json_value(&self) -> Cow<'_, str> {
        match self.as_json() {
            Some(json) => Cow::Borrowed(json),
            None => Cow::Owned(serde_json::Value::String(self.as_text().into_owned()).to_string()),
        }
    }
}

/// An event, as every door hands it to the bus.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// Its id: the caller's, or made by us; unique within the app's log.
    pub id: String,
    /// The app that it belongs to.
    pub app: AppId,
    /// Its name, such as `person.created`.
    pub name: String,
    /// The live channels it goes to.
    pub channels: Vec<String>,
    /// Its data.
    pub data: Data,
    /// When it happened (wall time), as the caller says, else when Tidings received it.
    pub time: Millis,
    /// The model operation (`create`, `update`, `delete`), if the event is a change of a model.
    pub op: Option<String>,
    /// The ordering key: a listener with order gets events with the same key one after the other.
    pub key: Option<String>,
    /// The session that does not receive the event, because it caused it.
    pub except: Option<String>,
}

impl Event {
    /// Whether the app has encrypted the data for its clients: the event goes only to channels with encryption.
    pub fn is_encrypted(&self) -> bool {
        !self.channels.is_empty() && self.channels.iter().all(|channel| is_encrypted(channel))
    }

    /// A digest of the event's content (name, channels, data, op, key), to tell a repeat from another event with the
    /// same
    /// id. Fields are length-prefixed, so two different events never have the same input.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_protocol_finds_the_same_event() {
        let other = |bytes: &'static [u8]| Data { bytes: bytes.into(), content_type: Some("image/png".to_owned()) };
        // What came in, what protocols that carry text give out, what those that carry JSON do.
        let table: [(Data, &str, &str); 8] = [
            (Data::text("{\"a\": 1.50}"), "{\"a\": 1.50}", "{\"a\": 1.50}"),
            (Data::text("hello \"you\""), "hello \"you\"", "\"hello \\\"you\\\"\""),
            (Data::text("\"hello\""), "\"hello\"", "\"hello\""),
            (Data::text(""), "", "\"\""),
            (Data::text("1 2"), "1 2", "\"1 2\""),
            (Data::json("[1,2]"), "[1,2]", "[1,2]"),
            (other(b"plain"), "plain", "\"plain\""),
            (other(&[0xff, 0xfe]), "//4=", "\"//4=\""),
        ];
        for (data, text, json) in table {
            assert_eq!((data.as_text(), data.as_json_value()), (text.into(), json.into()), "{data:?}");
        }
    }
}
