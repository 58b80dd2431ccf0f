//! What Redis tells every node that is subscribed to a channel: a line of words, then bytes.
//!
//! `p N EPOCH OFFSET` and what is said; `+ N FIRST SESSION` and `- N LAST SESSION` and the member; `# N COUNT`. N
//! numbers the messages of a channel, without a gap.
//!
//! Every message of every version begins with a kind and its number. A node passes over kinds that it does not know,
//! over words behind those that it knows, and over bytes that it cannot read.

use std::sync::Arc;

use tidings_model::channel::{ChannelKey, Epoch, Position, SessionId};
use tidings_wire::{ChannelMessage, EncodedMessage, MemberChange, Publication};

use crate::codec;

/// A message of a channel.
#[derive(Debug, Clone)]
pub(super) struct PubsubMessage {
    /// Its number.
    pub(super) number: u64,
    pub(super) content: PubsubContent,
}

/// What a message of a channel says.
#[derive(Debug, Clone)]
pub(super) enum PubsubContent {
    /// What sessions are sent, except this one.
    Message(Arc<EncodedMessage>, Option<SessionId>),
    /// An event at this position, which only a newer version can read.
    UnreadableEvent(Option<Position>),
    /// A member has come or gone, whom only a newer version can read.
    UnreadableMember,
    /// A kind that only a newer version knows.
    UnknownKind,
}

impl PubsubMessage {
    /// Reads one; `None` if not even its first line makes sense.
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
                            said(ChannelMessage::Joined(change), Some(session))
                        } else {
                            said(ChannelMessage::Left(change), None)
                        }
                    }
                    None => PubsubContent::UnreadableMember,
                }
            }
            "#" => {
                let count = words.next()?.parse().ok()?;
                said(ChannelMessage::Subscriptions { channel: channel.clone(), count }, None)
            }
            _ => PubsubContent::UnknownKind,
        };
        Some(Self { number, content })
    }

    /// Whether it says anything that this version understands.
    pub(super) fn is_understood(&self) -> bool {
        matches!(self.content, PubsubContent::Message(..))
    }
}

fn said(message: ChannelMessage, except: Option<SessionId>) -> PubsubContent {
    PubsubContent::Message(Arc::new(EncodedMessage::new(message)), except)
}

/// A publication as it is kept, with its position.
pub(super) fn publication(
    bytes: &[u8],
    channel: &ChannelKey,
    position: Option<Position>,
) -> Option<(Arc<EncodedMessage>, Option<SessionId>)> {
    let codec::PublishedEvent { event, user, except } = codec::read_event(bytes, &channel.app)?;
    let said = ChannelMessage::Publication(Publication { event, channel: channel.clone(), position, user });
    Some((Arc::new(EncodedMessage::new(said)), except))
}

/// A position as scripts write it: `None` within for that of a publication without one.
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
