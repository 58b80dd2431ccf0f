//! The event stream: how what is said looks in Server-Sent Events (WHATWG HTML, "Server-sent events").
//!
//! A message is an `id:` line, which each session writes for itself, and a `data:` line, which all of them share. A client
//! keeps the last id that it was given, also where a message has none.

use bytes::Bytes;
use serde::Serialize;
use serde_json::value::RawValue;
use tidings_model::clock::rfc3339;
use tidings_wire::{Format, Said, Slot, sse};

/// How sessions of the stream are told: one message, without its id.
pub(crate) static STREAM: Format = Format { slot: Slot::Stream, encode };

/// How long a client waits before it connects again, in milliseconds.
const RETRY: u32 = 2_000;

/// A message as clients read it.
#[derive(Serialize)]
struct Message<'a> {
    id: &'a str,
    channel: &'a str,
    name: &'a str,
    data: &'a RawValue,
    time: String,
}

fn encode(said: &Said) -> Option<Bytes> {
    let Said::Publication(publication) = said else { return None };
    let event = &publication.event;
    let data = event.data.as_json_value();
    // Between JSON's tokens a line break is as good as a space, and inside a text there can be none: so it stays one line.
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
    Some(bytes.into())
}

/// The first event: which session it is, which channels it is about to join, and when to come back after a break.
pub(crate) fn open<'a>(session: &str, channels: impl Iterator<Item = &'a str>) -> Bytes {
    #[derive(Serialize)]
    struct Open<'a> {
        session: &'a str,
        channels: Vec<&'a str>,
    }
    let data = Open { session, channels: channels.collect() };
    let mut bytes = Vec::new();
    sse::retry(&mut bytes, RETRY);
    named(bytes, "tidings.open", &data)
}

/// What was missed in a channel is gone.
pub(crate) fn lost(channel: &str) -> Bytes {
    named(Vec::new(), "tidings.lost", &serde_json::json!({ "channel": channel }))
}

/// A channel could not be joined.
pub(crate) fn refused(channel: &str, reason: &str) -> Bytes {
    named(Vec::new(), "tidings.refused", &serde_json::json!({ "channel": channel, "reason": reason }))
}

/// The server ends the stream.
pub(crate) fn close(reason: &str) -> Bytes {
    named(Vec::new(), "tidings.close", &serde_json::json!({ "reason": reason }))
}

fn named(mut bytes: Vec<u8>, event: &str, data: &impl Serialize) -> Bytes {
    sse::event(&mut bytes, event);
    // Texts always can be written.
    sse::data(&mut bytes, &serde_json::to_string(data).unwrap_or_default());
    bytes.into()
}

/// The line that gives the next message its id.
pub(crate) fn id(cursor: &str) -> Bytes {
    let mut bytes = Vec::with_capacity(cursor.len() + 5);
    sse::id(&mut bytes, cursor);
    bytes.into()
}

/// Ends a message of nothing but an id: the client keeps the id, and its program hears nothing.
pub(crate) const END: Bytes = Bytes::from_static(b"\n");
/// A comment, so that neither side nor anybody between takes the connection for dead.
pub(crate) const HEARTBEAT: Bytes = Bytes::from_static(b": \n\n");

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
        let said = Said::Publication(Publication { event: Arc::new(event), channel, position: None, user: None });
        String::from_utf8(encode(&said).unwrap().to_vec()).unwrap()
    }

    #[test]
    fn a_message_is_one_line_with_the_data_as_it_came() {
        let with = |data: &str| {
            format!(
                "data: {{\"id\":\"evt_1\",\"channel\":\"#u\",\"name\":\"a \\\"b\\\"\\n\",\"data\":{data},\"time\":\"2026-11-21T09:56:40.000Z\"}}\n\n"
            )
        };
        assert_eq!(shown(Data::json("{\"n\": 1.50}")), with("{\"n\": 1.50}"));
        assert_eq!(shown(Data::json("{\r\n\"n\":\n1}")), with("{  \"n\": 1}"));
        assert_eq!(shown(Data::text("two\nlines")), with("\"two\\nlines\""));
        assert_eq!(shown(Data::text("")), with("\"\""));
    }
}
