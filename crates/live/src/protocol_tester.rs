//! A harness for a [`SessionProtocol`](crate::SessionProtocol) without sockets and shards: for tests of protocols.

use std::sync::Arc;

use bytes::Bytes;
use tidings_model::channel::SessionId;
use tidings_model::clock::Millis;

use crate::protocol::{CloseWith, Context, Effects};
use crate::refusals::Refused;
use crate::requests::SessionRequest;

/// Plays the shard's part for one session, in tests of protocols: it gives [`Context`]s, and keeps what was done with
/// them until it is looked at. Unlike a shard it carries nothing out, and goes on after an end.
///
/// ```
/// # use bytes::Bytes;
/// # use tidings_live::{CloseWith, ProtocolTester};
/// # use tidings_model::channel::SessionId;
/// let mut tester = ProtocolTester::new(SessionId::from_random([7; 16]));
/// tester.now = 1_000;
/// let mut cx = tester.context(); // protocol.received(&mut tester.context(), Message::Text("..."))
/// cx.write(Bytes::from_static(b"hello"));
/// cx.wake_at(31_000);
/// cx.close(4009, "not allowed");
/// assert_eq!(tester.written(), ["hello"]);
/// assert_eq!(tester.wake_at(), Some(31_000));
/// assert_eq!(tester.ended(), Some(CloseWith::Frame(4009, "not allowed".to_owned())));
/// assert!(tester.written().is_empty(), "what was looked at is gone");
/// ```
#[derive(Debug)]
pub struct ProtocolTester {
    /// What [`Context::now`] answers.
    pub now: Millis,
    /// What [`Context::last_read_at`] answers.
    pub last_read_at: Millis,
    /// What [`Context::last_write_at`] answers.
    pub last_write_at: Millis,
    session: SessionId,
    user: Option<Arc<str>>,
    wake_at: Option<Millis>,
    effects: Effects,
}

impl ProtocolTester {
    /// A harness for the session with this id, at time 0.
    pub fn new(session: SessionId) -> Self {
        Self {
            now: 0,
            last_read_at: 0,
            last_write_at: 0,
            session,
            user: None,
            wake_at: None,
            effects: Effects::default(),
        }
    }

    /// What the next call of the protocol is given.
    pub fn context(&mut self) -> Context<'_> {
        let Self { session, now, last_read_at, last_write_at, .. } = *self;
        Context { session, now, last_read_at, last_write_at, effects: &mut self.effects }
    }

    /// The bytes that were written since this was last called, one item for each [`Context::write`], and two for each
    /// [`Context::write_parts`].
    pub fn written(&mut self) -> Vec<Bytes> {
        self.effects.writes.drain(..).map(|piece| piece.bytes).collect()
    }

    /// What was asked since this was last called, with the numbers of the requests.
    pub fn asked(&mut self) -> Vec<(u32, SessionRequest)> {
        std::mem::take(&mut self.effects.requests)
    }

    /// When the protocol wants to be woken: what was set last. A shard forgets it when it wakes the protocol, so tests
    /// that do that set [`ProtocolTester::now`] and call `woken`; what is set then replaces it.
    pub fn wake_at(&mut self) -> Option<Millis> {
        self.wake_at = self.effects.wake_at.take().or(self.wake_at);
        self.wake_at
    }

    /// The user that the session has proved to be.
    pub fn user(&mut self) -> Option<Arc<str>> {
        self.user = self.effects.user.take().or(self.user.take());
        self.user.clone()
    }

    /// What the client was refused since this was last called.
    pub fn refused(&mut self) -> Vec<Refused> {
        std::mem::take(&mut self.effects.refusals)
    }

    /// How the protocol has ended the session since this was last called, if it has.
    pub fn ended(&mut self) -> Option<CloseWith> {
        self.effects.end.take()
    }
}
