//! The event stream: how what is said looks in Server-Sent Events (WHATWG HTML, "Server-sent events").
//!
//! A message is an `id:` line, which each session writes for itself, and a `data:` line, which all of them share. A
//! client keeps the last id that it was given, also where a message has none.
//!
//! An empty line ends events only, and each event has data: many readers tell their programs of an event at every empty
//! line.

use bytes::Bytes;
use serde::Serialize;
use serde_json::value::RawValue;
use tidings_model::clock::rfc3339;
use tidings_wire::{ChannelMessage, Encoding, chunk, sse};

/// One message, without its id.
static PLAIN: Encoding = Encoding { name: "stream", encode: |said| encode(said).map(Bytes::from) };
/// The same as a chunk.
static CHUNK: Encoding =
    Encoding { name: "stream-chunks", encode: |said| encode(said).map(|block| chunk::chunk(&block)) };

/// How events are set apart on their way to a client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Framing {
    /// They aren't: the client speaks HTTP/1.0, or who sends the response's body sees to it.
    None,
    /// Each is a chunk of HTTP/1.1. Many readers hand on a chunk as soon as it has come, and wait for more where there
    /// are no chunks.
    Chunks,
}

impl Framing {
    /// How messages look.
    pub(crate) fn format(self) -> &'static Encoding {
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

    /// A comment, so that neither side nor anybody between takes the connection for dead.
    pub(crate) fn heartbeat(self) -> Bytes {
        const CHUNK: Bytes = Bytes::from_static(b"2\r\n:\n\r\n");
        match self {
            Self::None => Bytes::from_static(sse::COMMENT),
            Self::Chunks => CHUNK,
        }
    }

    /// What ends the body.
    pub(crate) fn end(self) -> Bytes {
        match self {
            Self::None => Bytes::new(),
            Self::Chunks => chunk::LAST_CHUNK,
        }
    }

    /// A message in this framing with its id, in two parts; all of it in the first one where it isn't a chunk, because
    /// it has to leave whole.
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

    /// The first event: which session it is, which channels it is about to join, and when to come back after a break.
    pub(crate) fn open<'a>(self, session: &str, channels: impl Iterator<Item = &'a str>) -> Bytes {
        let mut block = Vec::new();
        sse::retry(&mut block, RETRY);
        self.named(block, "tidings.open", &Open { session, channels: channels.collect() })
    }

    /// All channels are joined, but for those that were refused. Where there is a cursor, a client that breaks off from
    /// here on misses nothing.
    pub(crate) fn joined<'a>(self, cursor: Option<&str>, channels: impl Iterator<Item = &'a str>) -> Bytes {
        let channels: Vec<&str> = channels.collect();
        self.named(with_cursor(cursor), "tidings.joined", &serde_json::json!({ "channels": channels }))
    }

    /// What was missed in a channel is gone.
    pub(crate) fn lost(self, cursor: &str, channel: &str) -> Bytes {
        self.named(with_cursor(Some(cursor)), "tidings.lost", &serde_json::json!({ "channel": channel }))
    }

    /// A channel could not be joined.
    pub(crate) fn refused(self, channel: &str, reason: &str) -> Bytes {
        let data = serde_json::json!({ "channel": channel, "reason": reason });
        self.named(Vec::new(), "tidings.refused", &data)
    }

    /// The server ends the stream; `retry` is when the client is to come back, in milliseconds, if not as ever.
    pub(crate) fn close(self, reason: &str, retry: Option<u32>) -> Bytes {
        let mut block = Vec::new();
        if let Some(retry) = retry {
            sse::retry(&mut block, retry);
        }
        self.named(block, "tidings.close", &serde_json::json!({ "reason": reason }))
    }

    fn named(self, mut block: Vec<u8>, event: &str, data: &impl Serialize) -> Bytes {
        sse::event(&mut block, event);
        // Texts always can be written.
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

/// How long a client waits before it connects again, in milliseconds.
const RETRY: u32 = 2_000;

/// What the first event says.
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

fn encode(said: &ChannelMessage) -> Option<Vec<u8>> {
    let ChannelMessage::Publication(publication) = said else { return None };
    let event = &publication.event;
    let data = event.data.as_json_value();
    // Between JSON's tokens a line break is as good as a space, and inside a text there can be none: so it stays one
    // line.
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
