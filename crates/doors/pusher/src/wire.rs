//! Frames of Pusher's protocol: the server's are made here, the clients' are read in [`incoming`]. No I/O.
//!
//! `data` of the server's frames is JSON encoded in a JSON string, except in `pusher:error` (Pusher Channels protocol,
//! "Double encoding"). Some clients ignore frames with other data.

pub(crate) mod codes;
pub(crate) mod incoming;
pub(crate) mod json;

use std::sync::{Arc, LazyLock};

use bytes::Bytes;
use tidings_model::channel::{Member, Position, SessionId};
use tidings_model::policy::user_online;
use tidings_wire::{ChannelMessage, Encoding, Publication, ws};

use crate::channel::{is_presence, shown};
use codes::Code;
use json::Object;

/// Channel messages as WebSocket frames of Pusher's protocol.
pub static FORMAT: Encoding = Encoding { name: "pusher", encode: |message| encode(message, false) };
/// The same for sessions that want to recover missed events later: each event with its position, in a member that other
/// clients ignore.
pub(crate) static POSITIONED: Encoding = Encoding { name: "pusher-positions", encode: |message| encode(message, true) };

/// The answer to a client's ping.
pub(crate) static PONG: LazyLock<Bytes> = LazyLock::new(|| envelope("pusher:pong", None, "{}"));
/// Asks a silent client for a pong.
pub(crate) static PING: LazyLock<Bytes> = LazyLock::new(|| envelope("pusher:ping", None, "{}"));
/// The same for clients that do not know that event: their WebSocket library answers (RFC 6455 § 5.5.2).
pub(crate) static SOCKET_PING: LazyLock<Bytes> = LazyLock::new(|| ws::ping(b""));

/// The first frame of every session. pusher-js requires both keys.
pub(crate) fn connection_established(session: SessionId, activity_timeout_secs: u32) -> Bytes {
    let mut data = Object::new();
    data.text("socket_id", &session.to_string()).raw("activity_timeout", &activity_timeout_secs.to_string());
    envelope("pusher:connection_established", None, &data.end())
}

/// An error; by itself it does not end the session. The only event whose `data` is an object.
pub(crate) fn error(code: Option<Code>, message: &str) -> Bytes {
    let mut data = Object::new();
    data.raw("code", &code.map_or_else(|| "null".to_owned(), |code| code.number().to_string()))
        .text("message", message);
    let mut frame = Object::new();
    frame.text("event", "pusher:error").raw("data", &data.end());
    text(&frame.end())
}

/// Why a channel was not joined, for handlers that are bound to the channel.
pub(crate) fn subscription_error(channel: &str, kind: &str, error: &str, status: u16) -> Bytes {
    let mut data = Object::new();
    data.text("type", kind).text("error", error).raw("status", &status.to_string());
    envelope("pusher:subscription_error", Some(channel), &data.end())
}

/// A channel was joined. Lists the members of a presence channel. Later events follow the position, if there is one.
pub(crate) fn subscription_succeeded(channel: &str, members: &[Arc<Member>], position: Option<&Position>) -> Bytes {
    let data = if is_presence(channel) { presence(members) } else { "{}".to_owned() };
    positioned("pusher_internal:subscription_succeeded", channel, &data, position)
}

/// The session missed events of a channel with a history that cannot be recovered. Later events follow the position.
pub(crate) fn lost(channel: &str, position: Option<&Position>) -> Bytes {
    positioned("tidings.lost", channel, "{}", position)
}

/// The cache channel has no cached event.
pub(crate) fn cache_miss(channel: &str) -> Bytes {
    envelope("pusher:cache_miss", Some(channel), "{}")
}

/// The sign-in succeeded. `user_data` is repeated as the client sent it.
pub(crate) fn signin_success(user_data: &str) -> Bytes {
    let mut data = Object::new();
    data.text("user_data", user_data);
    envelope("pusher:signin_success", None, &data.end())
}

/// The watched users who are or came online, and those who are or went offline.
pub(crate) fn watchlist_events(events: &[(&str, &[Arc<str>])]) -> Bytes {
    let mut list = json::Array::new();
    for (name, users) in events.iter().filter(|(_, users)| !users.is_empty()) {
        let mut ids = json::Array::new();
        users.iter().for_each(|user| ids.text(user));
        let mut event = Object::new();
        event.text("name", name).raw("user_ids", &ids.end());
        list.raw(&event.end());
    }
    let mut data = Object::new();
    data.raw("events", &list.end());
    envelope("pusher_internal:watchlist_events", None, &data.end())
}

fn presence(members: &[Arc<Member>]) -> String {
    let mut ids = json::Array::new();
    let mut hash = Object::new();
    for member in members {
        ids.user(&member.user);
        hash.raw(&member.user, info(member).unwrap_or("null"));
    }
    let mut presence = Object::new();
    presence.raw("ids", &ids.end()).raw("hash", &hash.end()).raw("count", &members.len().to_string());
    let mut data = Object::new();
    data.raw("presence", &presence.end());
    data.end()
}

/// A member's `user_info`: one JSON value.
fn info(member: &Member) -> Option<&str> {
    member.info.as_deref().and_then(|info| std::str::from_utf8(info).ok())
}

fn encode(message: &ChannelMessage, with_position: bool) -> Option<Bytes> {
    match message {
        ChannelMessage::Publication(publication) => Some(event(publication, with_position)),
        ChannelMessage::Joined(presence) | ChannelMessage::Left(presence)
            if user_online(&presence.channel.name).is_some() =>
        {
            let name = if matches!(message, ChannelMessage::Joined(_)) { "online" } else { "offline" };
            let user = [Arc::clone(presence.member.user.text())];
            presence.changes_users.then(|| watchlist_events(&[(name, &user)]))
        }
        ChannelMessage::Joined(presence) if presence.changes_users && is_presence(&presence.channel.name) => {
            let mut data = Object::new();
            data.user("user_id", &presence.member.user);
            if let Some(info) = info(&presence.member) {
                data.raw("user_info", info);
            }
            Some(envelope("pusher_internal:member_added", Some(&presence.channel.name), &data.end()))
        }
        ChannelMessage::Left(presence) if presence.changes_users && is_presence(&presence.channel.name) => {
            let mut data = Object::new();
            data.user("user_id", &presence.member.user);
            Some(envelope("pusher_internal:member_removed", Some(&presence.channel.name), &data.end()))
        }
        ChannelMessage::Subscriptions { channel, count } if !is_presence(&channel.name) => {
            let mut data = Object::new();
            data.raw("subscription_count", &count.to_string());
            Some(envelope("pusher_internal:subscription_count", Some(&shown(&channel.name)), &data.end()))
        }
        ChannelMessage::Joined(_) | ChannelMessage::Left(_) | ChannelMessage::Subscriptions { .. } => None,
    }
}

fn event(publication: &Publication, with_position: bool) -> Bytes {
    let data = publication.event.data.as_text();
    let mut frame = Object::with_capacity(128 + data.len() + data.len() / 4);
    frame.text("event", &publication.event.name).text("channel", &shown(&publication.channel.name)).text("data", &data);
    if let Some(user) = &publication.user {
        frame.user("user_id", user);
    }
    if let Some(position) = publication.position.as_ref().filter(|_| with_position) {
        frame.text("id", &position.to_string());
    }
    text(&frame.end())
}

fn positioned(event: &str, channel: &str, data: &str, position: Option<&Position>) -> Bytes {
    let mut frame = Object::with_capacity(160 + data.len() + data.len() / 4);
    frame.text("event", event).text("channel", channel).text("data", data);
    if let Some(position) = position {
        frame.text("id", &position.to_string());
    }
    text(&frame.end())
}

fn envelope(event: &str, channel: Option<&str>, data: &str) -> Bytes {
    let mut frame = Object::with_capacity(96 + data.len() + data.len() / 4);
    frame.text("event", event);
    if let Some(channel) = channel {
        frame.text("channel", channel);
    }
    frame.text("data", data);
    text(&frame.end())
}

/// A text frame. A channel message is framed once for all sessions, so copying it behind its header costs little.
fn text(payload: &str) -> Bytes {
    ws::text(payload.as_bytes())
}
