//! What scripts answer, taken apart.

use std::sync::Arc;

use redis::Value;
use tidings_model::channel::{ChannelKey, Epoch, Member, Position, SessionId};
use tidings_wire::EncodedMessage;

use super::pubsub_message;
use crate::broker::{Cached, Occupancy};
use crate::codec;
use crate::shard_message::Recovery;

/// The parts of an answer, one after the other. Each is `None` when it isn't what it should be.
#[derive(Debug)]
pub(super) struct Reply(std::vec::IntoIter<Value>);

impl Reply {
    pub(super) fn of(value: Value) -> Option<Self> {
        match value {
            Value::Array(parts) => Some(Self(parts.into_iter())),
            _ => None,
        }
    }

    pub(super) fn int(&mut self) -> Option<u64> {
        match self.0.next()? {
            Value::Int(int) => u64::try_from(int).ok(),
            other => text(other)?.parse().ok(),
        }
    }

    pub(super) fn text(&mut self) -> Option<String> {
        text(self.0.next()?)
    }

    pub(super) fn list(&mut self) -> Option<Vec<Value>> {
        match self.0.next()? {
            Value::Array(list) => Some(list),
            _ => None,
        }
    }

    /// Numbers of subscriptions and users.
    pub(super) fn occupancy(&mut self) -> Option<Occupancy> {
        Some(Occupancy { subscriptions: self.int()?, users: self.int()? })
    }

    /// An epoch and an offset; `None` within where there is no history.
    pub(super) fn position(&mut self) -> Option<Option<Position>> {
        let (epoch, offset) = (self.text()?, self.int()?);
        if epoch.is_empty() {
            return Some(None);
        }
        Some(Some(Position { offset, epoch: Epoch::parse(&epoch)? }))
    }

    pub(super) fn recovery(&mut self) -> Option<Recovery> {
        match self.text()?.as_str() {
            "n" => Some(Recovery::NotAsked),
            "c" => Some(Recovery::Complete),
            "l" => Some(Recovery::Lost),
            _ => None,
        }
    }

    /// What the history holds that `newest` is the position in, and whether that is all of the answer: entries that this
    /// version cannot read are passed over.
    pub(super) fn entries(
        &mut self,
        channel: &ChannelKey,
        newest: Option<&Position>,
    ) -> Option<(Vec<HistoryEntry>, bool)> {
        let all = self.list()?;
        let count = all.len();
        let entries: Vec<_> = all.into_iter().filter_map(|entry| read_history_entry(entry, channel, newest)).collect();
        let is_whole = entries.len() == count;
        Some((entries, is_whole))
    }

    /// Members that this version can read, in the order of their users' ids.
    pub(super) fn members(&mut self) -> Option<Vec<Arc<Member>>> {
        let list = self.list()?;
        let mut members: Vec<_> = list.iter().filter_map(|member| codec::read_member(bytes(member)?)).collect();
        members.sort_unstable_by(|a, b| a.user.cmp(&b.user));
        Some(members)
    }

    /// A cached event; `None` within where there is none that this version can read.
    pub(super) fn cached(&mut self, channel: &ChannelKey) -> Option<Option<Cached>> {
        let value = self.0.next()?;
        if value == Value::Nil {
            return Some(None);
        }
        let mut parts = Self::of(value)?;
        let position = parts.text()?;
        let (epoch, offset) = position.split_once(' ')?;
        let event = parts.0.next()?;
        if event == Value::Nil {
            // Redis has dropped it before its time, for want of memory.
            return Some(None);
        }
        let position = pubsub_message::position(epoch, offset)?;
        let Some((publication, _)) = pubsub_message::publication(bytes(&event)?, channel, position) else {
            return Some(None);
        };
        Some(Some(Cached { publication, ttl: std::time::Duration::from_millis(parts.int()?) }))
    }
}

/// A publication of a history, and who wasn't told.
pub(super) type HistoryEntry = (Arc<EncodedMessage>, Option<SessionId>);

fn read_history_entry(entry: Value, channel: &ChannelKey, newest: Option<&Position>) -> Option<HistoryEntry> {
    let mut parts = Reply::of(entry)?;
    let id = parts.text()?;
    let offset = id.split_once('-')?.0.parse().ok()?;
    let fields = parts.list()?;
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
