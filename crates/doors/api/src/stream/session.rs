//! The session of an event stream: joins its channels, and writes their messages and its progress.
//!
//! The cursor covers the messages that were written. For a channel that is not joined yet it has the position that the
//! client sent, so that a disconnect at any time loses nothing. Messages of channels without history do not change the
//! cursor, so the shard writes them from the bytes that all sessions share. Messages of the others pass through here to
//! get their `id:` line.

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

/// The interval of heartbeats, in milliseconds.
const HEARTBEAT: Millis = 25_000;

/// After how many milliseconds clients of a restarting node should reconnect.
pub(super) const RESTART_RETRY: u32 = 1_000;

/// A channel that a client requests and may read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct AuthorizedChannel {
    /// The channel's canonical name.
    pub(crate) name: Arc<str>,
    /// What was verified of the client's right to join.
    pub(crate) proof: Proof,
    /// Whether the channel has a history, so that its messages have positions.
    pub(crate) history: bool,
    /// The client's last position in the channel.
    pub(crate) since: Option<Position>,
}

/// A request for a stream that the client may have.
#[derive(Debug, Clone, Default)]
pub(crate) struct AuthorizedRequest {
    /// In the order of the request, each once.
    pub(crate) channels: Vec<AuthorizedChannel>,
    /// The authenticated user.
    pub(crate) user: Option<Arc<str>>,
    /// The member that it joins channels with.
    pub(crate) member: Option<Arc<Member>>,
    /// When the client's token expires, in steady time.
    pub(crate) expires_at: Option<Millis>,
}

/// One channel of the session.
#[derive(Debug)]
struct StreamChannel {
    name: Arc<str>,
    history: bool,
    joined: bool,
    position: Option<Position>,
}

/// The session of one stream.
#[derive(Debug)]
pub(crate) struct StreamSession {
    framing: Framing,
    request: AuthorizedRequest,
    channels: Vec<StreamChannel>,
    /// Indexes into `channels`, sorted by the channels' names.
    by_name: Vec<u16>,
    /// The number of open joins.
    joining: usize,
    /// The number of refused joins.
    refused: usize,
}

impl StreamSession {
    /// A session for this request.
    pub(crate) fn new(request: AuthorizedRequest, framing: Framing) -> Self {
        let new = |channel: &AuthorizedChannel| StreamChannel {
            name: Arc::clone(&channel.name),
            history: channel.history,
            joined: false,
            position: channel.since.clone(),
        };
        let channels: Vec<StreamChannel> = request.channels.iter().map(new).collect();
        let mut by_name: Vec<u16> = (0..=u16::MAX).take(channels.len()).collect();
        by_name.sort_by(|a, b| channels[usize::from(*a)].name.cmp(&channels[usize::from(*b)].name));
        Self { framing, request, channels, by_name, joining: 0, refused: 0 }
    }

    fn channel_mut(&mut self, channel: &str) -> Option<&mut StreamChannel> {
        let found =
            self.by_name.binary_search_by(|&n| self.channels[usize::from(n)].name.as_ref().cmp(channel)).ok()?;
        self.channels.get_mut(usize::from(self.by_name[found]))
    }

    fn cursor(&self) -> String {
        cursor::write(self.channels.iter().map(|channel| channel.position.as_ref()))
    }

    /// Writes a channel message, with the new cursor if the message has a position.
    fn write_message(&mut self, cx: &mut Context<'_>, message: &EncodedMessage) {
        let Some(bytes) = message.bytes(self.framing.encoding()) else { return };
        if let ChannelMessage::Publication(publication) = message.content()
            && let Some(position) = &publication.position
            && let Some(state) = self.channel_mut(&publication.channel.name)
        {
            state.position = Some(position.clone());
            let (first, second) = self.framing.with_id(&self.cursor(), bytes);
            cx.write_parts(first, second);
        } else {
            cx.write(bytes.clone());
        }
    }

    fn write_lost(&self, cx: &mut Context<'_>, channel: &str) {
        cx.write(self.framing.lost(&self.cursor(), channel));
    }

    fn join_succeeded(&mut self, cx: &mut Context<'_>, channel: &ChannelKey, welcome: Welcome) {
        let Some(state) = self.channel_mut(&channel.name) else { return };
        state.joined = true;
        if welcome.recovery == Recovery::Lost {
            // The publications that follow continue from this position.
            let before = |newest: &Position| Position {
                offset: newest.offset.saturating_sub(welcome.publications.len() as u64),
                epoch: newest.epoch.clone(),
            };
            state.position = welcome.position.as_ref().map(before);
            self.write_lost(cx, &channel.name);
        }
        for publication in &welcome.publications {
            self.write_message(cx, publication);
        }
        let Some(state) = self.channel_mut(&channel.name) else { return };
        state.position = welcome.position;
        // The cached event is only for a client that has not received the channel's last events.
        if welcome.recovery != Recovery::Complete
            && welcome.publications.is_empty()
            && let Some(cached) = welcome.cached.as_deref().and_then(|cached| cached.bytes(self.framing.encoding()))
        {
            cx.write(cached.clone());
        }
    }

    fn join_failed(&mut self, cx: &mut Context<'_>, channel: &str, why: &JoinRefused) {
        if *why == JoinRefused::Unavailable {
            // The client reconnects by itself, with its cursor.
            self.close(cx, "unavailable");
            return;
        }
        self.refused += 1;
        if let Some(why) = Refused::join(why) {
            cx.refused(why);
        }
        cx.write(self.framing.refused(channel, &why.to_string()));
        if self.refused == self.channels.len() {
            self.close(cx, "refused");
        }
    }

    /// A join has ended. After the last one the client is sent its cursor, even if no message was published yet.
    fn join_ended(&mut self, cx: &mut Context<'_>) {
        self.joining = self.joining.saturating_sub(1);
        if self.joining == 0 && self.channels.iter().any(|channel| channel.joined) {
            let cursor = self.channels.iter().any(|channel| channel.history).then(|| self.cursor());
            let joined = self.channels.iter().filter(|channel| channel.joined).map(|channel| channel.name.as_ref());
            cx.write(self.framing.joined(cursor.as_deref(), joined));
        }
    }

    fn close(&self, cx: &mut Context<'_>, reason: &str) {
        self.close_with_retry(cx, reason, None);
    }

    fn close_with_retry(&self, cx: &mut Context<'_>, reason: &str, retry: Option<u32>) {
        cx.write(self.framing.close(reason, retry));
        cx.write(self.framing.end());
        cx.end();
    }

    fn wake_later(&self, cx: &mut Context<'_>) {
        let heartbeat = cx.now() + HEARTBEAT;
        cx.wake_at(self.request.expires_at.map_or(heartbeat, |expires_at| expires_at.min(heartbeat)));
    }
}

/// A number below `end` that differs between sessions, so that their clients do not reconnect all at once.
fn spread(cx: &Context<'_>, end: u32) -> u32 {
    let id = cx.session().to_string();
    id.bytes().fold(0, |sum: u32, byte| sum.wrapping_mul(31).wrapping_add(byte.into())) % end
}

impl SessionProtocol for StreamSession {
    fn opened(&mut self, cx: &mut Context<'_>) {
        let names = self.channels.iter().map(|channel| channel.name.as_ref());
        cx.write(self.framing.open(&cx.session().to_string(), names));
        if let Some(user) = &self.request.user {
            cx.set_user(Arc::clone(user));
        }
        let member = self.request.member.take();
        for channel in std::mem::take(&mut self.request.channels) {
            cx.request(SessionRequest::Join(JoinRequest {
                channel: channel.name,
                proof: channel.proof,
                member: member.clone(),
                since: channel.since.map(Since::Position),
                mode: if channel.history {
                    DeliveryMode::Session
                } else {
                    DeliveryMode::Shared(self.framing.encoding())
                },
            }));
            self.joining += 1;
        }
        self.wake_later(cx);
    }

    /// Clients cannot send into a stream.
    fn received(&mut self, _: &mut Context<'_>, _: Message<'_>) {}

    fn joined(&mut self, cx: &mut Context<'_>, _: u32, channel: &ChannelKey, outcome: Result<Welcome, JoinRefused>) {
        match outcome {
            Ok(welcome) => self.join_succeeded(cx, channel, welcome),
            Err(why) => self.join_failed(cx, &channel.name, &why),
        }
        self.join_ended(cx);
    }

    /// A stream requests no leaves and no publishes.
    fn left(&mut self, _: &mut Context<'_>, _: u32, _: &ChannelKey, _: Result<(), LeaveFailed>) {}

    fn published(&mut self, _: &mut Context<'_>, _: u32, _: Result<(), PublishRefused>) {}

    fn channel_message(&mut self, cx: &mut Context<'_>, message: &Arc<EncodedMessage>) {
        self.write_message(cx, message);
    }

    fn lost(&mut self, cx: &mut Context<'_>, lost: &Lost) {
        if !lost.publications {
            return;
        }
        if let Some(state) = self.channel_mut(&lost.channel.name).filter(|channel| channel.history) {
            state.position = lost.position.clone();
            self.write_lost(cx, &lost.channel.name);
        }
    }

    fn woken(&mut self, cx: &mut Context<'_>) {
        if self.request.expires_at.is_some_and(|expires_at| expires_at <= cx.now()) {
            self.close(cx, "token_expired");
            return;
        }
        cx.write(self.framing.heartbeat());
        self.wake_later(cx);
    }

    fn closing(&mut self, cx: &mut Context<'_>, why: CloseReason) {
        let (reason, retry) = match why {
            // Another node serves the client, or this one with the changed app.
            CloseReason::GoingAway => ("going_away", Some(100 + spread(cx, 900))),
            CloseReason::Restarting => ("going_away", Some(RESTART_RETRY + spread(cx, 500))),
            CloseReason::Slow => ("slow", None),
            CloseReason::Disconnected => ("disconnected", None),
            CloseReason::Shut => ("app_disabled", None),
        };
        self.close_with_retry(cx, reason, retry);
    }
}
