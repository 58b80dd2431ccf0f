//! The event stream: channel messages as Server-Sent Events (WHATWG HTML, "Server-sent events").
//!
//! A message is an `id:` line, which each session writes for itself, and a `data:` line, whose bytes all sessions
//! share. A client keeps the last id that it received, even if later messages have none.
//!
//! Empty lines are only written after events with data: many readers emit an event at every empty line.

use bytes::Bytes;
use serde::Serialize;
use serde_json::value::RawValue;
use tidings_model::clock::rfc3339;
use tidings_wire::{ChannelMessage, Encoding, chunk, sse};

/// A message without its id.
static PLAIN: Encoding = Encoding { name: "stream", encode: |message| encode(message).map(Bytes::from) };
/// The same as a chunk.
static CHUNK: Encoding =
    Encoding { name: "stream-chunks", encode: |message| encode(message).map(|block| chunk::chunk(&block)) };

/// How the body of the response is framed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Framing {
    /// Not here: the client speaks HTTP/1.0, or an HTTP server sends the body and frames it.
    None,
    /// Each event is a chunk of HTTP/1.1. Many readers pass on a chunk as soon as it has arrived, but buffer a body
    /// without chunks.
    Chunks,
}

impl Framing {
    /// The encoding of channel messages.
    pub(crate) fn encoding(self) -> &'static Encoding {
        match self {
            Self::None => &PLAIN,
            Self::Chunks => &CHUNK,
        }
    }

    /// Frames a block of a session's own.
    fn frame(self, block: Vec<u8>) -> Bytes {
        match self {
            Self::None => block.into(),
            Self::Chunks => chunk::chunk(&block),
        }
    }

    /// A comment, so that neither side nor a proxy takes the connection for dead.
    pub(crate) fn heartbeat(self) -> Bytes {
        const CHUNK: Bytes = Bytes::from_static(b"2\r\n:\n\r\n");
        match self {
            Self::None => Bytes::from_static(sse::COMMENT),
            Self::Chunks => CHUNK,
        }
    }

    /// The bytes that end the body.
    pub(crate) fn end(self) -> Bytes {
        match self {
            Self::None => Bytes::new(),
            Self::Chunks => chunk::LAST_CHUNK,
        }
    }

    /// A message in this framing with its id, in two parts. Without chunks it is all in the first part, because it must
    /// leave whole.
    pub(crate) fn with_id(self, cursor: &str, message: &Bytes) -> (Bytes, Bytes) {
        let mut block = Vec::with_capacity(cursor.len() + 5 + if self == Self::None { message.len() } else { 0 });
        sse::id(&mut block, cursor);
        match self {
            Self::None => {
                block.extend_from_slice(message);
                (block.into(), Bytes::new())
            }
            Self::Chunks => chunk::prefixed(&block, message),
        }
    }

    /// The first event: the session's id, the channels it is about to join, and the delay before a reconnect.
    pub(crate) fn open<'a>(self, session: &str, channels: impl Iterator<Item = &'a str>) -> Bytes {
        let mut block = Vec::new();
        sse::retry(&mut block, RETRY);
        self.named(block, "tidings.open", &Open { session, channels: channels.collect() })
    }

    /// All channels are joined, except those that were refused. With a cursor, a client that disconnects from here on
    /// can recover every event.
    pub(crate) fn joined<'a>(self, cursor: Option<&str>, channels: impl Iterator<Item = &'a str>) -> Bytes {
        let channels: Vec<&str> = channels.collect();
        self.named(with_cursor(cursor), "tidings.joined", &serde_json::json!({ "channels": channels }))
    }

    /// Missed events of a channel cannot be recovered.
    pub(crate) fn lost(self, cursor: &str, channel: &str) -> Bytes {
        self.named(with_cursor(Some(cursor)), "tidings.lost", &serde_json::json!({ "channel": channel }))
    }

    /// A channel could not be joined.
    pub(crate) fn refused(self, channel: &str, reason: &str) -> Bytes {
        let data = serde_json::json!({ "channel": channel, "reason": reason });
        self.named(Vec::new(), "tidings.refused", &data)
    }

    /// The server ends the stream. `retry` is the delay before a reconnect in milliseconds, if it is not the usual one.
    pub(crate) fn close(self, reason: &str, retry: Option<u32>) -> Bytes {
        let mut block = Vec::new();
        if let Some(retry) = retry {
            sse::retry(&mut block, retry);
        }
        self.named(block, "tidings.close", &serde_json::json!({ "reason": reason }))
    }

    fn named(self, mut block: Vec<u8>, event: &str, data: &impl Serialize) -> Bytes {
        sse::event(&mut block, event);
        // Strings can always be serialized.
        sse::data(&mut block, &serde_json::to_string(data).unwrap_or_default());
        self.frame(block)
    }
}

fn with_cursor(cursor: Option<&str>) -> Vec<u8> {
    let mut block = Vec::new();
    if let Some(cursor) = cursor {
        sse::id(&mut block, cursor);
    }
    block
}

/// How long a client waits before it reconnects, in milliseconds.
const RETRY: u32 = 2_000;

/// The data of the first event.
#[derive(Serialize)]
struct Open<'a> {
    session: &'a str,
    channels: Vec<&'a str>,
}

/// A message as clients read it.
#[derive(Serialize)]
struct Message<'a> {
    id: &'a str,
    channel: &'a str,
    name: &'a str,
    data: &'a RawValue,
    time: String,
}

fn encode(message: &ChannelMessage) -> Option<Vec<u8>> {
    let ChannelMessage::Publication(publication) = message else { return None };
    let event = &publication.event;
    let data = event.data.as_json_value();
    // A line break between JSON's tokens may be replaced by a space, and inside a string there is none. So the data is
    // one line.
    let data = if data.contains(['\n', '\r']) { data.replace(['\n', '\r'], " ").into() } else { data };
    let message = Message {
        id: &event.id,
        channel: &publication.channel.name,
        name: &event.name,
        data: serde_json::from_str(&data).ok()?,
        time: rfc3339(event.time),
    };
    let json = serde_json::to_string(&message).ok()?;
    let mut bytes = Vec::with_capacity(json.len() + 8);
    sse::data(&mut bytes, &json);
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tidings_model::channel::ChannelKey;
    use tidings_model::event::{Data, Event};
    use tidings_wire::Publication;

    use super::*;

    fn shown(data: Data) -> String {
        let event = Event {
            id: "evt_1".to_owned(),
            app: "1".into(),
            name: "a \"b\"\n".to_owned(),
            channels: vec!["c".to_owned()],
            data,
            time: 1_795_255_000_000,
            op: None,
            key: None,
            except: None,
        };
        let channel = ChannelKey::new("1".into(), "#u");
        let said =
            ChannelMessage::Publication(Publication { event: Arc::new(event), channel, position: None, user: None });
        String::from_utf8(encode(&said).unwrap()).unwrap()
    }

    #[test]
    fn a_message_is_one_line_with_the_data_as_it_came() {
        let with = |data: &str| {
            format!(
                "data: {{\"id\":\"evt_1\",\"channel\":\"#u\",\"name\":\"a \
                \\\"b\\\"\\n\",\"data\":{data},\"time\":\"2026-11-21T09:56:40.000Z\"}}\n\n"
            )
        };
        assert_eq!(shown(Data::json("{\"n\": 1.50}")), with("{\"n\": 1.50}"));
        assert_eq!(shown(Data::json("{\r\n\"n\":\n1}")), with("{  \"n\": 1}"));
        assert_eq!(shown(Data::text("two\nlines")), with("\"two\\nlines\""));
        assert_eq!(shown(Data::text("")), with("\"\""));
    }
}
