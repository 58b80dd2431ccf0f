//! The transitions that scripts record: which kinds they are to record, and reading them from an answer.

use redis::Value;
use tidings_model::channel::ChannelKey;
use tidings_model::transition::{Change, Kind, Kinds, Transition};

use super::reply::{Reply, bytes};

/// The letters by which scripts know the kinds of transitions.
const LETTERS: [(Kind, char); 6] = [
    (Kind::Occupied, 'o'),
    (Kind::Vacated, 'v'),
    (Kind::MemberAdded, 'a'),
    (Kind::MemberRemoved, 'r'),
    (Kind::SubscriptionCount, 'c'),
    (Kind::CacheMiss, 'm'),
];

/// The wanted kinds, as an argument of scripts.
pub(super) fn letters(wanted: Kinds) -> String {
    LETTERS.iter().filter(|(kind, _)| wanted.has(*kind)).map(|(_, letter)| letter).collect()
}

/// Takes the transitions from a script's answer, in their order.
pub(super) fn take(reply: &mut Reply, channel: &ChannelKey) -> Vec<Transition> {
    let noted = reply.list("transitions").unwrap_or_default();
    noted.iter().filter_map(|note| read(note, channel)).collect()
}

fn read(note: &Value, channel: &ChannelKey) -> Option<Transition> {
    let text = std::str::from_utf8(bytes(note)?).ok()?;
    // A user's id may contain spaces, so the third part is the rest of the text.
    let mut words = text.splitn(3, ' ');
    let (letter, number, about) = (words.next()?, words.next()?.parse().ok()?, words.next()?);
    let change = match letter {
        "o" => Change::Occupied,
        "v" => Change::Vacated,
        "a" => Change::MemberAdded(about.to_owned()),
        "r" => Change::MemberRemoved(about.to_owned()),
        "c" => Change::SubscriptionCount(about.parse().ok()?),
        "m" => Change::CacheMiss,
        _ => return None,
    };
    Some(Transition { channel: channel.clone(), number, change })
}
