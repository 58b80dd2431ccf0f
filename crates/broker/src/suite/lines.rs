//! Shard messages as readable lines.
//!
//! | line | shard message |
//! |---|---|
//! | `c: e1@3A by ann except s2` | the publication of event `e1`, at offset 3 of the first epoch that was seen |
//! | `c: +ann/1 first`, `c: -ann/1 last` | session 1 of Ann has joined or left, her first or last |
//! | `c: 3 are here` | the number of subscriptions |
//! | `c: s1 in, 2 here @3A Complete [e1@3A] {ann/1 bob/4} cached e1@3A` | session 1 is in, and its welcome |
//! | `c: lost publications members @3A` | what the sessions have missed |
//! | `c: s1 not in: TooManyMembers`, `c: s1 out` | session 1 was refused, session 1 has left |

use tidings_model::channel::{Epoch, Member, Position, SessionId};
use tidings_model::transition::{Change, Transition};
use tidings_wire::{ChannelMessage, EncodedMessage, MemberChange};

use super::samples::{member, session};
use crate::shard_message::{Joined, Recovery, ShardMessage, Welcome};

/// Names epochs by letters, in the order in which they were seen.
#[derive(Debug, Default)]
pub(crate) struct Epochs(Vec<Epoch>);

impl Epochs {
    pub(crate) fn letter(&mut self, epoch: &Epoch) -> char {
        let index = self.0.iter().position(|known| known == epoch).unwrap_or_else(|| {
            self.0.push(epoch.clone());
            self.0.len() - 1
        });
        char::from_u32('A' as u32 + index as u32).unwrap()
    }

    /// A position as it is written, read back.
    pub(crate) fn position(&self, text: &str) -> Position {
        let letter = text.chars().last().unwrap();
        let offset = text[..text.len() - letter.len_utf8()].parse().unwrap();
        Position { offset, epoch: self.0[letter as usize - 'A' as usize].clone() }
    }
}

pub(crate) fn position(position: &Position, epochs: &mut Epochs) -> String {
    format!("{}{}", position.offset, epochs.letter(&position.epoch))
}

/// A publication, by its event and its position.
pub(crate) fn publication(message: &EncodedMessage, epochs: &mut Epochs) -> String {
    let ChannelMessage::Publication(said) = message.content() else { panic!("no publication: {message:?}") };
    match &said.position {
        None => said.event.id.clone(),
        Some(at) => format!("{}@{}", said.event.id, position(at, epochs)),
    }
}

pub(crate) fn publications(all: &[std::sync::Arc<EncodedMessage>], epochs: &mut Epochs) -> String {
    all.iter().map(|message| publication(message, epochs)).collect::<Vec<_>>().join(" ")
}

/// The user, and the session whose member info is shown.
pub(crate) fn who(member: &Member) -> String {
    format!("{}/{}", member.user, std::str::from_utf8(member.info.as_ref().unwrap()).unwrap())
}

pub(crate) fn members(all: &[std::sync::Arc<Member>]) -> String {
    all.iter().map(|member| who(member)).collect::<Vec<_>>().join(" ")
}

fn number(id: SessionId) -> u32 {
    (0..1_000).find(|n| session(*n) == id).unwrap()
}

pub(crate) fn shard_message(received: &ShardMessage, epochs: &mut Epochs) -> String {
    match received {
        ShardMessage::Message { message, except } => {
            let mut line = format!("{}: {}", message.content().channel().name, said(message, epochs));
            if let Some(except) = except {
                line += &format!(" except s{}", number(*except));
            }
            line
        }
        ShardMessage::Joined(received) => joined(received, epochs),
        ShardMessage::Left(left) => {
            assert_eq!(left.request_id, 200 + left.at.slot, "not what was asked: {left:?}");
            format!("{}: s{} out", left.channel.name, left.at.slot)
        }
        ShardMessage::Lost(lost) => {
            let at = lost.position.as_ref().map(|at| format!(" @{}", position(at, epochs))).unwrap_or_default();
            let what = [(lost.publications, " publications"), (lost.members, " members")];
            let what: String = what.into_iter().filter(|(is, _)| *is).map(|(_, what)| what).collect();
            format!("{}: lost{what}{at}", lost.channel.name)
        }
        ShardMessage::Order(order) => format!("{order:?}"),
    }
}

fn said(message: &EncodedMessage, epochs: &mut Epochs) -> String {
    match message.content() {
        ChannelMessage::Publication(said) => {
            let by = said.user.as_ref().map(|user| format!(" by {user}")).unwrap_or_default();
            format!("{}{by}", publication(message, epochs))
        }
        ChannelMessage::Joined(come) => format!("+{}{}", shown(come), if come.changes_users { " first" } else { "" }),
        ChannelMessage::Left(gone) => format!("-{}{}", shown(gone), if gone.changes_users { " last" } else { "" }),
        ChannelMessage::Subscriptions { count, .. } => format!("{count} are here"),
    }
}

/// The user and session of a change. Checks that the member info is the one of that session.
fn shown(presence: &MemberChange) -> String {
    assert_eq!(presence.member, member(number(presence.session), &presence.member.user));
    who(&presence.member)
}

fn joined(joined: &Joined, epochs: &mut Epochs) -> String {
    let Joined { at, request_id, channel, outcome, .. } = joined;
    assert_eq!(*request_id, 100 + at.slot, "not what was asked: {joined:?}");
    match outcome {
        Ok(found) => format!("{}: s{} in, {}", channel.name, at.slot, welcome(found, epochs)),
        Err(refused) => {
            let name = format!("{refused:?}");
            format!("{}: s{} not in: {}", channel.name, at.slot, name.split_whitespace().next().unwrap())
        }
    }
}

fn welcome(welcome: &Welcome, epochs: &mut Epochs) -> String {
    let mut line = format!("{} here", welcome.subscriptions);
    if let Some(at) = &welcome.position {
        line += &format!(" @{}", position(at, epochs));
    }
    if welcome.recovery != Recovery::NotAsked {
        line += &format!(" {:?}", welcome.recovery);
    }
    if !welcome.publications.is_empty() {
        line += &format!(" [{}]", publications(&welcome.publications, epochs));
    }
    if !welcome.members.is_empty() {
        line += &format!(" {{{}}}", members(&welcome.members));
    }
    if let Some(cached) = &welcome.cached {
        line += &format!(" cached {}", publication(cached, epochs));
    }
    line
}

/// A transition as a line.
pub(crate) fn recorded(transition: &Transition) -> String {
    let kind = transition.change.kind().event_name().rsplit('.').next().unwrap_or_default();
    let about = match &transition.change {
        Change::MemberAdded(user) | Change::MemberRemoved(user) => format!(" {user}"),
        Change::SubscriptionCount(count) => format!(" {count}"),
        _ => String::new(),
    };
    format!("{}: {kind}{about}", transition.channel.name)
}
