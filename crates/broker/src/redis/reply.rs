//! Reads the answers of scripts.

use std::sync::Arc;

use redis::Value;
use tidings_model::channel::{ChannelKey, Epoch, Member, Position, SessionId};
use tidings_wire::EncodedMessage;

use super::pubsub_message;
use crate::broker::{Cached, Occupancy};
use crate::codec;
use crate::shard_message::Recovery;

/// The parts of an answer, by name. Each method returns `None` if the part is missing or malformed.
#[derive(Debug)]
pub(super) struct Reply(Vec<(Vec<u8>, Value)>);

impl Reply {
    /// Reads an array of names, each followed by its value.
    pub(super) fn of(value: Value) -> Option<Self> {
        let Value::Array(parts) = value else { return None };
        let mut parts = parts.into_iter();
        let mut named = Vec::with_capacity(parts.len() / 2);
        while let (Some(name), Some(value)) = (parts.next(), parts.next()) {
            let Value::BulkString(name) = name else { return None };
            named.push((name, value));
        }
        Some(Self(named))
    }

    fn take(&mut self, name: &str) -> Option<Value> {
        let at = self.0.iter().position(|(known, _)| known == name.as_bytes())?;
        Some(self.0.swap_remove(at).1)
    }

    pub(super) fn int(&mut self, name: &str) -> Option<u64> {
        match self.take(name)? {
            Value::Int(int) => u64::try_from(int).ok(),
            other => text(other)?.parse().ok(),
        }
    }

    /// Whether a number is not 0.
    pub(super) fn flag(&mut self, name: &str) -> Option<bool> {
        self.int(name).map(|int| int != 0)
    }

    pub(super) fn text(&mut self, name: &str) -> Option<String> {
        text(self.take(name)?)
    }

    pub(super) fn list(&mut self, name: &str) -> Option<Vec<Value>> {
        match self.take(name)? {
            Value::Array(list) => Some(list),
            _ => None,
        }
    }

    /// Numbers of subscriptions and users.
    pub(super) fn occupancy(&mut self) -> Option<Occupancy> {
        Some(Occupancy { subscriptions: self.int("subscriptions")?, users: self.int("users")? })
    }

    /// Epoch and offset; the inner `None` says that there is no history.
    pub(super) fn position(&mut self) -> Option<Option<Position>> {
        let (epoch, offset) = (self.text("epoch")?, self.int("offset")?);
        if epoch.is_empty() {
            return Some(None);
        }
        Some(Some(Position { offset, epoch: Epoch::parse(&epoch)? }))
    }

    pub(super) fn recovery(&mut self) -> Option<Recovery> {
        match self.text("recovery")?.as_str() {
            "n" => Some(Recovery::NotAsked),
            "c" => Some(Recovery::Complete),
            "l" => Some(Recovery::Lost),
            _ => None,
        }
    }

    /// The entries of the history whose newest position is `newest`, and whether all of the answer's entries could be
    /// read: those that only a newer version can read are skipped.
    pub(super) fn entries(
        &mut self,
        channel: &ChannelKey,
        newest: Option<&Position>,
    ) -> Option<(Vec<HistoryEntry>, bool)> {
        let all = self.list("entries")?;
        let count = all.len();
        let entries: Vec<_> = all.into_iter().filter_map(|entry| read_history_entry(entry, channel, newest)).collect();
        let is_whole = entries.len() == count;
        Some((entries, is_whole))
    }

    /// The members that this version can read, in the order of their users' ids.
    pub(super) fn members(&mut self) -> Option<Vec<Arc<Member>>> {
        let list = self.list("members")?;
        let mut members: Vec<_> = list.iter().filter_map(|member| codec::read_member(bytes(member)?)).collect();
        members.sort_unstable_by(|a, b| a.user.cmp(&b.user));
        Some(members)
    }

    /// A cached event; the inner `None` says that there is none, or that this version cannot read it.
    pub(super) fn cached(&mut self, channel: &ChannelKey) -> Option<Option<Cached>> {
        let value = self.take("cached")?;
        if value == Value::Nil {
            return Some(None);
        }
        let mut parts = Self::of(value)?;
        let position = parts.text("position")?;
        let (epoch, offset) = position.split_once(' ')?;
        let event = parts.take("event")?;
        if event == Value::Nil {
            // Redis has evicted it before its expiry, for lack of memory.
            return Some(None);
        }
        let position = pubsub_message::position(epoch, offset)?;
        let Some((publication, _)) = pubsub_message::publication(bytes(&event)?, channel, position) else {
            return Some(None);
        };
        Some(Some(Cached { publication, ttl: std::time::Duration::from_millis(parts.int("ttl")?) }))
    }
}

/// A publication of a history, and the session that did not receive it.
pub(super) type HistoryEntry = (Arc<EncodedMessage>, Option<SessionId>);

fn read_history_entry(entry: Value, channel: &ChannelKey, newest: Option<&Position>) -> Option<HistoryEntry> {
    let Value::Array(entry) = entry else { return None };
    let [id, Value::Array(fields)] = entry.as_slice() else { return None };
    let offset = std::str::from_utf8(bytes(id)?).ok()?.split_once('-')?.0.parse().ok()?;
    let position = newest.map(|newest| Position { offset, epoch: newest.epoch.clone() });
    let event = fields.chunks_exact(2).find(|pair| bytes(&pair[0]) == Some(b"d")).map(|pair| &pair[1])?;
    pubsub_message::publication(bytes(event)?, channel, position)
}

fn text(value: Value) -> Option<String> {
    match value {
        Value::BulkString(bytes) => String::from_utf8(bytes).ok(),
        Value::SimpleString(text) => Some(text),
        _ => None,
    }
}

/// The bytes of a value.
pub(super) fn bytes(value: &Value) -> Option<&[u8]> {
    match value {
        Value::BulkString(bytes) => Some(bytes),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const NAMES: [&str; 10] =
        ["at", "epoch", "offset", "recovery", "entries", "members", "cached", "subscriptions", "position", "event"];

    fn values() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Nil),
            any::<i64>().prop_map(Value::Int),
            prop::sample::select(&NAMES[..]).prop_map(|name| Value::BulkString(name.into())),
            prop::collection::vec(any::<u8>(), 0..12).prop_map(Value::BulkString),
            prop::sample::select(vec!["1-0", "7-aa 3", "c", "l"]).prop_map(|text| Value::BulkString(text.into())),
        ];
        leaf.prop_recursive(3, 40, 8, |inner| prop::collection::vec(inner, 0..9).prop_map(Value::Array))
    }

    proptest! {
        #[test]
        fn whatever_comes_in_is_read_or_refused(
            parts in prop::collection::vec((prop::sample::select(&NAMES[..]), values()), 0..9),
        ) {
            let key = ChannelKey::new("1".into(), "c");
            let named = parts.into_iter().flat_map(|(name, value)| [Value::BulkString(name.into()), value]).collect();
            let Some(mut reply) = Reply::of(Value::Array(named)) else { return Ok(()) };
            let position = reply.position().flatten();
            let _ = (reply.recovery(), reply.entries(&key, position.as_ref()), reply.members(), reply.cached(&key));
            let _ = (reply.int("at"), reply.occupancy());
        }
    }

    #[test]
    fn names_of_a_newer_version_are_passed_over() {
        let text = |text: &str| Value::BulkString(text.into());
        let all = vec![text("newer"), Value::Array(vec![]), text("at"), Value::Int(3), text("lonely")];
        let mut reply = Reply::of(Value::Array(all)).unwrap();
        assert_eq!((reply.int("at"), reply.int("missing")), (Some(3), None));
    }
}
