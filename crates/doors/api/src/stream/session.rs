//! A live client of the event stream: joins its channels, tells what is said in them, and how far it has come.
//!
//! The cursor counts what was written: of a channel that isn't joined yet it holds what the client came with, so that a
//! break at any time loses nothing. Channels without history never move it, so what is said in them is written by the
//! shard from the bytes that all sessions share; the others pass through here to get their `id:` line.

#[cfg(test)]
mod tests;

use std::sync::Arc;

use tidings_broker::{DeliveryMode, JoinRefused, Lost, Recovery, Since, Welcome};
use tidings_live::{
    CloseReason, Context, JoinRequest, LeaveFailed, Message, Proof, PublishRefused, Refused, SessionProtocol,
    SessionRequest,
};
use tidings_model::channel::{ChannelKey, Member, Position};
use tidings_model::clock::Millis;
use tidings_wire::{ChannelMessage, EncodedMessage};

use super::cursor;
use crate::wire::stream::Framing;

/// How often something is written at least.
const HEARTBEAT: Millis = 25_000;

/// After which time a node that restarts is expected to be back, in milliseconds.
pub(super) const BACK_IN: u32 = 1_000;

/// A channel that a client wants and may have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Wanted {
    /// Its canonical name.
    pub(crate) name: Arc<str>,
    /// What was verified.
    pub(crate) proof: Proof,
    /// Whether what is said in it has a position.
    pub(crate) history: bool,
    /// Where the client was.
    pub(crate) since: Option<Position>,
}

/// What a client wants, verified.
#[derive(Debug, Clone, Default)]
pub(crate) struct Wish {
    /// In the order of the request, each once.
    pub(crate) channels: Vec<Wanted>,
    /// The user that it is.
    pub(crate) user: Option<Arc<str>>,
    /// What it shows of itself in channels with presence.
    pub(crate) member: Option<Arc<Member>>,
    /// The steady time until which all this holds.
    pub(crate) until: Option<Millis>,
}

/// One channel of the session.
#[derive(Debug)]
struct Part {
    name: Arc<str>,
    history: bool,
    joined: bool,
    position: Option<Position>,
}

/// The session.
#[derive(Debug)]
pub(crate) struct StreamSession {
    framing: Framing,
    wish: Wish,
    parts: Vec<Part>,
    /// The parts' places, by name.
    by_name: Vec<u16>,
    /// Joins that are under way.
    joining: usize,
    /// Joins that came to nothing.
    refused: usize,
}

impl StreamSession {
    /// A session that is going to have this.
    pub(crate) fn new(wish: Wish, framing: Framing) -> Self {
        let part = |wanted: &Wanted| Part {
            name: Arc::clone(&wanted.name),
            history: wanted.history,
            joined: false,
            position: wanted.since.clone(),
        };
        let parts: Vec<Part> = wish.channels.iter().map(part).collect();
        let mut by_name: Vec<u16> = (0..=u16::MAX).take(parts.len()).collect();
        by_name.sort_by(|a, b| parts[usize::from(*a)].name.cmp(&parts[usize::from(*b)].name));
        Self { framing, wish, parts, by_name, joining: 0, refused: 0 }
    }

    fn part(&mut self, channel: &str) -> Option<&mut Part> {
        let found = self.by_name.binary_search_by(|&n| self.parts[usize::from(n)].name.as_ref().cmp(channel)).ok()?;
        self.parts.get_mut(usize::from(self.by_name[found]))
    }

    fn cursor(&self) -> String {
        cursor::write(self.parts.iter().map(|part| part.position.as_ref()))
    }

    /// Writes something that was said.
    fn tell(&mut self, cx: &mut Context<'_>, prepared: &EncodedMessage) {
        let Some(message) = prepared.bytes(self.framing.format()) else { return };
        if let ChannelMessage::Publication(publication) = prepared.content()
            && let Some(position) = &publication.position
            && let Some(part) = self.part(&publication.channel.name)
        {
            part.position = Some(position.clone());
            let (first, second) = self.framing.with_id(&self.cursor(), message);
            cx.write_parts(first, second);
        } else {
            cx.write(message.clone());
        }
    }

    fn write_lost(&self, cx: &mut Context<'_>, channel: &str) {
        cx.write(self.framing.lost(&self.cursor(), channel));
    }

    fn welcome(&mut self, cx: &mut Context<'_>, channel: &ChannelKey, welcome: Welcome) {
        let Some(part) = self.part(&channel.name) else { return };
        part.joined = true;
        if welcome.recovery == Recovery::Lost {
            // What follows counts from here.
            let before = |newest: &Position| Position {
                offset: newest.offset.saturating_sub(welcome.publications.len() as u64),
                epoch: newest.epoch.clone(),
            };
            part.position = welcome.position.as_ref().map(before);
            self.write_lost(cx, &channel.name);
        }
        for publication in &welcome.publications {
            self.tell(cx, publication);
        }
        let Some(part) = self.part(&channel.name) else { return };
        part.position = welcome.position;
        // The last words of a channel that keeps them are for whoever doesn't know what was said before.
        if welcome.recovery != Recovery::Complete
            && welcome.publications.is_empty()
            && let Some(cached) = welcome.cached.as_deref().and_then(|cached| cached.bytes(self.framing.format()))
        {
            cx.write(cached.clone());
        }
    }

    fn refuse(&mut self, cx: &mut Context<'_>, channel: &str, why: &JoinRefused) {
        if *why == JoinRefused::Unavailable {
            // It comes back by itself, with its cursor.
            self.close(cx, "unavailable");
            return;
        }
        self.refused += 1;
        if let Some(why) = Refused::join(why) {
            cx.refused(why);
        }
        cx.write(self.framing.refused(channel, &why.to_string()));
        if self.refused == self.parts.len() {
            self.close(cx, "refused");
        }
    }

    /// One join less is under way. After the last one the client learns where it is, although nothing was said yet.
    fn settled(&mut self, cx: &mut Context<'_>) {
        self.joining = self.joining.saturating_sub(1);
        if self.joining == 0 && self.parts.iter().any(|part| part.joined) {
            let cursor = self.parts.iter().any(|part| part.history).then(|| self.cursor());
            let joined = self.parts.iter().filter(|part| part.joined).map(|part| part.name.as_ref());
            cx.write(self.framing.joined(cursor.as_deref(), joined));
        }
    }

    fn close(&self, cx: &mut Context<'_>, reason: &str) {
        self.close_until(cx, reason, None);
    }

    fn close_until(&self, cx: &mut Context<'_>, reason: &str, retry: Option<u32>) {
        cx.write(self.framing.close(reason, retry));
        cx.write(self.framing.end());
        cx.end();
    }

    fn wake_later(&self, cx: &mut Context<'_>) {
        let heartbeat = cx.now() + HEARTBEAT;
        cx.wake_at(self.wish.until.map_or(heartbeat, |until| until.min(heartbeat)));
    }
}

/// A number below `end` that differs from session to session, so that not all come back at once.
fn spread(cx: &Context<'_>, end: u32) -> u32 {
    let id = cx.session().to_string();
    id.bytes().fold(0, |sum: u32, byte| sum.wrapping_mul(31).wrapping_add(byte.into())) % end
}

impl SessionProtocol for StreamSession {
    fn opened(&mut self, cx: &mut Context<'_>) {
        let names = self.parts.iter().map(|part| part.name.as_ref());
        cx.write(self.framing.open(&cx.session().to_string(), names));
        if let Some(user) = &self.wish.user {
            cx.set_user(Arc::clone(user));
        }
        let member = self.wish.member.take();
        for wanted in std::mem::take(&mut self.wish.channels) {
            cx.request(SessionRequest::Join(JoinRequest {
                channel: wanted.name,
                proof: wanted.proof,
                member: member.clone(),
                since: wanted.since.map(Since::Position),
                mode: if wanted.history { DeliveryMode::Session } else { DeliveryMode::Shared(self.framing.format()) },
            }));
            self.joining += 1;
        }
        self.wake_later(cx);
    }

    /// Nobody can send into a stream.
    fn received(&mut self, _: &mut Context<'_>, _: Message<'_>) {}

    fn joined(&mut self, cx: &mut Context<'_>, _: u32, channel: &ChannelKey, outcome: Result<Welcome, JoinRefused>) {
        match outcome {
            Ok(welcome) => self.welcome(cx, channel, welcome),
            Err(why) => self.refuse(cx, &channel.name, &why),
        }
        self.settled(cx);
    }

    /// A stream leaves nothing and publishes nothing.
    fn left(&mut self, _: &mut Context<'_>, _: u32, _: &ChannelKey, _: Result<(), LeaveFailed>) {}

    fn published(&mut self, _: &mut Context<'_>, _: u32, _: Result<(), PublishRefused>) {}

    fn channel_message(&mut self, cx: &mut Context<'_>, message: &Arc<EncodedMessage>) {
        self.tell(cx, message);
    }

    fn lost(&mut self, cx: &mut Context<'_>, lost: &Lost) {
        if !lost.publications {
            return;
        }
        if let Some(part) = self.part(&lost.channel.name).filter(|part| part.history) {
            part.position = lost.position.clone();
            self.write_lost(cx, &lost.channel.name);
        }
    }

    fn woken(&mut self, cx: &mut Context<'_>) {
        if self.wish.until.is_some_and(|until| until <= cx.now()) {
            self.close(cx, "token_expired");
            return;
        }
        cx.write(self.framing.heartbeat());
        self.wake_later(cx);
    }

    fn closing(&mut self, cx: &mut Context<'_>, why: CloseReason) {
        let (reason, retry) = match why {
            // Another node is there, or this one with what has changed.
            CloseReason::GoingAway => ("going_away", Some(100 + spread(cx, 900))),
            CloseReason::Restarting => ("going_away", Some(BACK_IN + spread(cx, 500))),
            CloseReason::Slow => ("slow", None),
            CloseReason::Disconnected => ("disconnected", None),
            CloseReason::Shut => ("app_disabled", None),
        };
        self.close_until(cx, reason, retry);
    }
}
