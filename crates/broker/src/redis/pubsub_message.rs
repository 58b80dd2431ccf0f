//! What Redis tells every node that is subscribed to a channel: a line of words, then bytes.
//!
//! `p N EPOCH OFFSET` and what is said; `+ N FIRST SESSION` and `- N LAST SESSION` and the member; `# N COUNT`. N numbers the
//! messages of a channel, without a gap.

use std::sync::Arc;

use tidings_model::channel::{ChannelKey, Epoch, Position, SessionId};
use tidings_wire::{ChannelMessage, EncodedMessage, MemberChange, Publication};

use crate::codec;

/// A message of a channel.
#[derive(Debug, Clone)]
pub(super) struct PubsubMessage {
    /// Its number.
    pub(super) number: u64,
    /// What it says.
    pub(super) message: Arc<EncodedMessage>,
    /// Who isn't told.
    pub(super) except: Option<SessionId>,
}

impl PubsubMessage {
    /// Reads one; `None` if it makes no sense.
    pub(super) fn read(payload: &[u8], channel: &ChannelKey) -> Option<Self> {
        let end = payload.iter().position(|byte| *byte == b'\n')?;
        let (head, body) = (std::str::from_utf8(&payload[..end]).ok()?, &payload[end + 1..]);
        let mut words = head.split(' ');
        let (kind, number) = (words.next()?, words.next()?.parse().ok()?);
        let channel = channel.clone();
        let (said, except) = match kind {
            "p" => {
                let position = position(words.next()?, words.next()?)?;
                let (message, except) = publication(body, &channel, position)?;
                return Some(Self { number, message, except });
            }
            "+" | "-" => {
                let changes_users = words.next()? == "1";
                let session: SessionId = words.next()?.parse().ok()?;
                let presence = MemberChange { channel, session, member: codec::read_member(body)?, changes_users };
                if kind == "+" {
                    (ChannelMessage::Joined(presence), Some(session))
                } else {
                    (ChannelMessage::Left(presence), None)
                }
            }
            "#" => (ChannelMessage::Subscriptions { channel, count: words.next()?.parse().ok()? }, None),
            _ => return None,
        };
        Some(Self { number, message: Arc::new(EncodedMessage::new(said)), except })
    }
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
