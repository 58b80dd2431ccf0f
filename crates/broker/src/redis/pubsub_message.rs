//! The messages that scripts publish to all nodes that subscribe to a channel: a line of words, then bytes.
//!
//! `p N EPOCH OFFSET` and the event; `+ N FIRST SESSION` and `- N LAST SESSION` and the member; `# N COUNT`. N numbers
//! the messages of a channel, without a gap.
//!
//! In every version, a message begins with its kind and its number. A node skips kinds that it does not know, words
//! after those that it knows, and bytes that it cannot read.

use std::sync::Arc;

use tidings_model::channel::{ChannelKey, Epoch, Position, SessionId};
use tidings_wire::{ChannelMessage, EncodedMessage, MemberChange, Publication};

use crate::codec;

/// A message of a channel.
#[derive(Debug, Clone)]
pub(super) struct PubsubMessage {
    /// Its number in the channel.
    pub(super) number: u64,
    pub(super) content: PubsubContent,
}

/// The content of a message.
#[derive(Debug, Clone)]
pub(super) enum PubsubContent {
    /// A message for all sessions except this one.
    Message(Arc<EncodedMessage>, Option<SessionId>),
    /// An event at this position that only a newer version can read.
    UnreadableEvent(Option<Position>),
    /// The join or leave of a member that only a newer version can read.
    UnreadableMember,
    /// A kind that only a newer version knows.
    UnknownKind,
}

impl PubsubMessage {
    /// Reads a message; `None` if not even its first line can be read.
    pub(super) fn read(payload: &[u8], channel: &ChannelKey) -> Option<Self> {
        let end = payload.iter().position(|byte| *byte == b'\n')?;
        let (head, body) = (std::str::from_utf8(&payload[..end]).ok()?, &payload[end + 1..]);
        let mut words = head.split(' ');
        let (kind, number) = (words.next()?, words.next()?.parse().ok()?);
        let content = match kind {
            "p" => {
                let position = position(words.next()?, words.next()?)?;
                match publication(body, channel, position.clone()) {
                    Some((message, except)) => PubsubContent::Message(message, except),
                    None => PubsubContent::UnreadableEvent(position),
                }
            }
            "+" | "-" => {
                let changes_users = words.next()? == "1";
                let session: SessionId = words.next()?.parse().ok()?;
                match codec::read_member(body) {
                    Some(member) => {
                        let change = MemberChange { channel: channel.clone(), session, member, changes_users };
                        if kind == "+" {
                            for_sessions(ChannelMessage::Joined(change), Some(session))
                        } else {
                            for_sessions(ChannelMessage::Left(change), None)
                        }
                    }
                    None => PubsubContent::UnreadableMember,
                }
            }
            "#" => {
                let count = words.next()?.parse().ok()?;
                for_sessions(ChannelMessage::Subscriptions { channel: channel.clone(), count }, None)
            }
            _ => PubsubContent::UnknownKind,
        };
        Some(Self { number, content })
    }

    /// Whether this version can read its content.
    pub(super) fn is_understood(&self) -> bool {
        matches!(self.content, PubsubContent::Message(..))
    }
}

fn for_sessions(message: ChannelMessage, except: Option<SessionId>) -> PubsubContent {
    PubsubContent::Message(Arc::new(EncodedMessage::new(message)), except)
}

/// Reads a stored publication, and gives it its position.
pub(super) fn publication(
    bytes: &[u8],
    channel: &ChannelKey,
    position: Option<Position>,
) -> Option<(Arc<EncodedMessage>, Option<SessionId>)> {
    let codec::PublishedEvent { event, user, except } = codec::read_event(bytes, &channel.app)?;
    let content = ChannelMessage::Publication(Publication { event, channel: channel.clone(), position, user });
    Some((Arc::new(EncodedMessage::new(content)), except))
}

/// Reads a position as scripts write it. The inner `None` says that the publication has none.
pub(super) fn position(epoch: &str, offset: &str) -> Option<Option<Position>> {
    if epoch == "-" {
        return Some(None);
    }
    Some(Some(Position { offset: offset.parse().ok()?, epoch: Epoch::parse(epoch)? }))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn key() -> ChannelKey {
        ChannelKey::new("1".into(), "c")
    }

    proptest! {
        #[test]
        fn kinds_and_words_of_a_newer_version_are_passed_over(
            kind in "[^ \n]{1,6}", words in "[^\n]{0,20}", number in any::<u64>(),
            body in prop::collection::vec(any::<u8>(), 0..20),
        ) {
            prop_assume!(!["p", "+", "-", "#"].contains(&&*kind));
            let payload = [format!("{kind} {number} {words}\n").as_bytes(), &body].concat();
            let read = PubsubMessage::read(&payload, &key()).unwrap();
            prop_assert_eq!(read.number, number);
            prop_assert!(matches!(read.content, PubsubContent::UnknownKind));
            let payload = [format!("# {number} 3 {words}\n").as_bytes(), &body].concat();
            let read = PubsubMessage::read(&payload, &key()).unwrap();
            let PubsubContent::Message(message, None) = read.content else { panic!("{read:?}") };
            let is_count = matches!(message.content(), ChannelMessage::Subscriptions { count: 3, .. });
            prop_assert!(is_count && read.number == number);
        }

        #[test]
        fn whatever_comes_in_is_read_or_refused(
            head in "[p+#x-]( [0-9a-f.-]{0,9}){0,4}", body in prop::collection::vec(any::<u8>(), 0..60),
        ) {
            PubsubMessage::read(&[head.as_bytes(), b"\n", &body].concat(), &key());
            PubsubMessage::read(&body, &key());
        }
    }
}
