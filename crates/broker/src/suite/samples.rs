//! Channels, sessions, members and events for tests, by a short name or a number.

use std::sync::Arc;

use tidings_model::channel::{ChannelKey, Member, SessionId};
use tidings_model::event::{Data, Event};

use crate::shard_message::SessionRef;

/// How many shards there are.
pub(crate) const SHARDS: u16 = 2;

pub(crate) fn key(channel: &str) -> ChannelKey {
    ChannelKey::new("1".into(), channel)
}

pub(crate) fn session(n: u32) -> SessionId {
    let mut bits = [7; 16];
    bits[12..].copy_from_slice(&n.to_be_bytes());
    SessionId::from_random(bits)
}

pub(crate) fn at(n: u32) -> SessionRef {
    SessionRef { shard: (n % u32::from(SHARDS)) as u16, slot: n, life: 1 }
}

/// A user, as session `n` shows them.
pub(crate) fn member(n: u32, user: &str) -> Arc<Member> {
    Arc::new(Member { user: user.into(), info: Some(format!("{n}").into()) })
}

/// An event with this id, and so many bytes of data.
pub(crate) fn event(id: &str, bytes: usize) -> Arc<Event> {
    Arc::new(Event {
        id: id.to_owned(),
        app: "1".into(),
        name: "said".to_owned(),
        channels: Vec::new(),
        data: Data::json(format!("\"{}\"", "x".repeat(bytes - 2))),
        time: 0,
        op: None,
        key: None,
        except: None,
    })
}
