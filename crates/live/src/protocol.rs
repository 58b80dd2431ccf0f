//! The server's side of a protocol with one client, as a state machine without I/O.

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
    /// From text frames.
    Text(&'a str),
    /// From binary frames.
    Binary(&'a [u8]),
}

/// Why the server closes a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CloseReason {
    /// The client should reconnect at once: another node takes over from a node that stops, or its app has changed.
    GoingAway,
    /// The server stops and no other node takes over: the client should reconnect in a moment, after a restart.
    Restarting,
    /// The client did not read fast enough, and its write queue is full.
    Slow,
    /// The app ended the session ([`Action::Disconnect`]).
    Disconnected,
    /// The app was disabled or removed.
    Shut,
}

/// How a protocol speaks with one client. The session's shard calls the methods one at a time, in order; no method may
/// block. While a request is open, the shard holds back the client's next messages.
pub trait SessionProtocol: Send {
    /// The session begins.
    fn opened(&mut self, cx: &mut Context<'_>);

    /// The client has sent a message.
    fn received(&mut self, cx: &mut Context<'_>, message: Message<'_>);

    /// A join has ended. If it succeeded, the session receives the channel's messages from here on.
    fn joined(
        &mut self,
        cx: &mut Context<'_>,
        request_id: u32,
        channel: &ChannelKey,
        outcome: Result<Welcome, JoinRefused>,
    );

    /// A leave has ended. If it succeeded, the session receives nothing more from the channel; if it failed, it is
    /// still in the channel.
    fn left(&mut self, cx: &mut Context<'_>, request_id: u32, channel: &ChannelKey, outcome: Result<(), LeaveFailed>);

    /// A publish has ended.
    fn published(&mut self, cx: &mut Context<'_>, request_id: u32, outcome: Result<(), PublishRefused>);

    /// A [request of the door's own](SessionRequest::Door) has ended. Only for protocols that make such requests.
    fn answered(&mut self, _cx: &mut Context<'_>, _request_id: u32, _answer: Result<DoorAnswer, NoDoorAnswer>) {}

    /// A message in a channel that was joined with [`tidings_broker::DeliveryMode::Session`].
    fn channel_message(&mut self, cx: &mut Context<'_>, message: &Arc<EncodedMessage>);

    /// The session has missed messages of a channel, because its node was cut off from the others. It is still in the
    /// channel and receives later messages.
    fn lost(&mut self, cx: &mut Context<'_>, lost: &Lost);

    /// The time that was set with [`Context::wake_at`] has come (within half a second).
    fn woken(&mut self, cx: &mut Context<'_>);

    /// The app orders the session to do something. Orders that end the session for the server's own reasons come as
    /// [`closing`](Self::closing). A protocol ignores actions that it does not know.
    fn ordered(&mut self, cx: &mut Context<'_>, action: &Action) {
        if matches!(action, Action::Disconnect { .. }) {
            self.closing(cx, CloseReason::Disconnected);
        }
    }

    /// The server ends the session: the protocol informs the client in its own way, and finishes with
    /// [`Context::close`] or [`Context::end`].
    fn closing(&mut self, cx: &mut Context<'_>, why: CloseReason);
}

/// What a protocol may read and do while it is called.
#[derive(Debug)]
pub struct Context<'a> {
    pub(crate) session: SessionId,
    pub(crate) now: Millis,
    pub(crate) last_read_at: Millis,
    pub(crate) last_write_at: Millis,
    pub(crate) effects: &'a mut Effects,
}

/// What a protocol did while it was called; the shard carries it out after the call, in order.
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
    /// Drops all effects but one: the session ends with an internal error (RFC 6455 § 7.4.1).
    pub(crate) fn break_off(&mut self) {
        let end = Some(CloseWith::Frame(1011, String::new()));
        *self = Self { next_request_id: self.next_request_id, end, ..Self::default() };
    }
}

/// Bytes that a protocol has written.
#[derive(Debug)]
pub(crate) struct Piece {
    pub(crate) bytes: Bytes,
    /// The next piece completes it. Without that piece, the client could not decode anything that follows.
    pub(crate) goes_on: bool,
}

/// How a protocol ends its session, after the bytes it has written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CloseWith {
    /// With a WebSocket close frame: its code and reason.
    Frame(u16, String),
    /// By ending the stream, without a close frame.
    EndOfStream,
}

impl Context<'_> {
    /// The session's id.
    pub fn session(&self) -> SessionId {
        self.session
    }

    /// The steady time at which the shard's current turn began.
    pub fn now(&self) -> Millis {
        self.now
    }

    /// When bytes from the client were last read, in steady time.
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

    /// Writes a frame in two parts, of which neither may leave without the other: a start of this session's own, and
    /// bytes that it shares with other sessions.
    pub fn write_parts(&mut self, first: Bytes, second: Bytes) {
        self.effects.writes.push(Piece { bytes: first, goes_on: !second.is_empty() });
        self.write(second);
    }

    /// Makes a request and returns its id, which the outcome repeats. The id is never 0.
    pub fn request(&mut self, request: SessionRequest) -> u32 {
        self.effects.next_request_id = self.effects.next_request_id.checked_add(1).unwrap_or(1);
        self.effects.requests.push((self.effects.next_request_id, request));
        self.effects.next_request_id
    }

    /// Has [`SessionProtocol::woken`] called at this steady time. Replaces the time that was set before.
    pub fn wake_at(&mut self, time: Millis) {
        self.effects.wake_at = Some(time);
    }

    /// Sets the session's user, whose identity the protocol has verified.
    pub fn set_user(&mut self, user: Arc<str>) {
        self.effects.user = Some(user);
    }

    /// Counts and logs that the client is refused something.
    pub fn refused(&mut self, why: Refused) {
        self.effects.refusals.push(why);
    }

    /// Ends a WebSocket with this code and reason (cut to the 123 bytes that a close frame holds), after the bytes
    /// written so far.
    pub fn close(&mut self, code: u16, reason: impl Into<String>) {
        self.effects.end.get_or_insert(CloseWith::Frame(code, reason.into()));
    }

    /// Ends the stream, after the bytes written so far.
    pub fn end(&mut self) {
        self.effects.end.get_or_insert(CloseWith::EndOfStream);
    }
}
