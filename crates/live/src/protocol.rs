//! A session's side of a protocol, as a state machine without I/O.

use std::sync::Arc;

use bytes::Bytes;
use tidings_broker::{Action, JoinRefused, Lost, Welcome};
use tidings_model::channel::{ChannelKey, SessionId};
use tidings_model::clock::Millis;
use tidings_wire::EncodedMessage;

use crate::refusals::Refused;
use crate::requests::{DoorAnswer, LeaveFailed, NoDoorAnswer, PublishRefused, SessionRequest};

/// A whole message from a client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Message<'a> {
    /// Of a text frame.
    Text(&'a str),
    /// Of a binary frame.
    Binary(&'a [u8]),
}

/// Why a session is about to be ended by the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CloseReason {
    /// The client should come back at once: others take over from a server that stops, or its app has changed.
    GoingAway,
    /// The server stops and nobody takes over: the client should come back in a moment, when it may have started again.
    Restarting,
    /// The client did not read fast enough, and its queue is full.
    Slow,
    /// The app ended it ([`Action::Disconnect`]).
    Disconnected,
    /// The app is not served any more.
    Shut,
}

/// How a protocol speaks with one client. Every method is called by the session's shard, one at a time, in order; none
/// may wait. While a request is open, what the client sends next waits.
pub trait SessionProtocol: Send {
    /// The connection is there.
    fn opened(&mut self, cx: &mut Context<'_>);

    /// The client has sent a message.
    fn received(&mut self, cx: &mut Context<'_>, message: Message<'_>);

    /// A join has ended. From here on the session hears what is said in the channel.
    fn joined(
        &mut self,
        cx: &mut Context<'_>,
        request_id: u32,
        channel: &ChannelKey,
        outcome: Result<Welcome, JoinRefused>,
    );

    /// A leave has ended. From here on the session hears nothing of the channel; or it is still in it, if that failed.
    fn left(&mut self, cx: &mut Context<'_>, request_id: u32, channel: &ChannelKey, outcome: Result<(), LeaveFailed>);

    /// A publish has ended.
    fn published(&mut self, cx: &mut Context<'_>, request_id: u32, outcome: Result<(), PublishRefused>);

    /// A [request of the door's own](SessionRequest::Door) has ended: for protocols that make such.
    fn answered(&mut self, _cx: &mut Context<'_>, _request_id: u32, _answer: Result<DoorAnswer, NoDoorAnswer>) {}

    /// Something is said in a channel that was joined [`tidings_broker::DeliveryMode::Session`].
    fn said(&mut self, cx: &mut Context<'_>, prepared: &Arc<EncodedMessage>);

    /// Something of a channel is lost to the session, because its node was cut off from the others. It is still in the
    /// channel, and hears what is said next.
    fn lost(&mut self, cx: &mut Context<'_>, lost: &Lost);

    /// The time that was set with [`Context::wake_at`] has come (within half a second).
    fn woken(&mut self, cx: &mut Context<'_>);

    /// The app orders something of the session. Orders that end it for the server's own reasons come as
    /// [`closing`](Self::closing); what a protocol does not know it passes over.
    fn ordered(&mut self, cx: &mut Context<'_>, action: &Action) {
        if matches!(action, Action::Disconnect { .. }) {
            self.closing(cx, CloseReason::Disconnected);
        }
    }

    /// The server ends the session: the protocol says so in its own way, with [`Context::close`] or [`Context::end`]
    /// last.
    fn closing(&mut self, cx: &mut Context<'_>, why: CloseReason);
}

/// What a protocol may do while it is called.
#[derive(Debug)]
pub struct Context<'a> {
    pub(crate) session: SessionId,
    pub(crate) now: Millis,
    pub(crate) last_read_at: Millis,
    pub(crate) last_write_at: Millis,
    pub(crate) effects: &'a mut Effects,
}

/// What a protocol has done while it was called; the shard carries it out afterwards, in order.
#[derive(Debug, Default)]
pub(crate) struct Effects {
    pub(crate) writes: Vec<Piece>,
    pub(crate) requests: Vec<(u32, SessionRequest)>,
    pub(crate) next_request_id: u32,
    pub(crate) wake_at: Option<Millis>,
    pub(crate) user: Option<Arc<str>>,
    pub(crate) refusals: Vec<Refused>,
    pub(crate) end: Option<CloseWith>,
}

impl Effects {
    /// Nothing of it is to be carried out; the session ends with an internal error (RFC 6455 § 7.4.1).
    pub(crate) fn break_off(&mut self) {
        let end = Some(CloseWith::Frame(1011, String::new()));
        *self = Self { next_request_id: self.next_request_id, end, ..Self::default() };
    }
}

/// Bytes that a protocol has written.
#[derive(Debug)]
pub(crate) struct Piece {
    pub(crate) bytes: Bytes,
    /// What follows completes it: without that, the client could not read on.
    pub(crate) goes_on: bool,
}

/// How a protocol ends its session, after all that it has written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CloseWith {
    /// With a WebSocket close frame.
    Frame(u16, String),
    /// With the end of the stream.
    EndOfStream,
}

impl Context<'_> {
    /// The session's id.
    pub fn session(&self) -> SessionId {
        self.session
    }

    /// The steady time.
    pub fn now(&self) -> Millis {
        self.now
    }

    /// When bytes of the client were last read, in steady time.
    pub fn last_read_at(&self) -> Millis {
        self.last_read_at
    }

    /// When bytes were last written to the client before this call, in steady time.
    pub fn last_write_at(&self) -> Millis {
        self.last_write_at
    }

    /// Writes bytes as they are: for a WebSocket, whole frames.
    pub fn write(&mut self, bytes: Bytes) {
        if !bytes.is_empty() {
            self.effects.writes.push(Piece { bytes, goes_on: false });
        }
    }

    /// Writes two parts of which neither may leave without the other: a beginning of the session's own, and what it
    /// shares with others.
    pub fn write_parts(&mut self, first: Bytes, second: Bytes) {
        self.effects.writes.push(Piece { bytes: first, goes_on: !second.is_empty() });
        self.write(second);
    }

    /// Asks for something; the number comes back with the answer. Never 0.
    pub fn request(&mut self, request: SessionRequest) -> u32 {
        self.effects.next_request_id = self.effects.next_request_id.checked_add(1).unwrap_or(1);
        self.effects.requests.push((self.effects.next_request_id, request));
        self.effects.next_request_id
    }

    /// Has [`SessionProtocol::woken`] called at this steady time; it replaces what was set before.
    pub fn wake_at(&mut self, time: Millis) {
        self.effects.wake_at = Some(time);
    }

    /// The session has proved to be of this user.
    pub fn set_user(&mut self, user: Arc<str>) {
        self.effects.user = Some(user);
    }

    /// Notes that the client is refused something: it is counted, and told in the log.
    pub fn refused(&mut self, why: Refused) {
        self.effects.refusals.push(why);
    }

    /// Ends a WebSocket with this code and reason (cut to the 123 bytes that a close frame holds), after what was
    /// written.
    pub fn close(&mut self, code: u16, reason: impl Into<String>) {
        self.effects.end.get_or_insert(CloseWith::Frame(code, reason.into()));
    }

    /// Ends the stream, after what was written.
    pub fn end(&mut self) {
        self.effects.end.get_or_insert(CloseWith::EndOfStream);
    }
}
