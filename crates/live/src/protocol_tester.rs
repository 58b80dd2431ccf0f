//! A harness for a [`SessionProtocol`](crate::SessionProtocol) without sockets and shards: for tests of protocols.

use std::sync::Arc;

use bytes::Bytes;
use tidings_model::channel::SessionId;
use tidings_model::clock::Millis;

use crate::protocol::{CloseWith, Context, Effects};
use crate::refusals::Refused;
use crate::requests::SessionRequest;

/// Plays the shard's part for one session, in tests of protocols: it hands out [`Context`]s and records their effects
/// until a getter takes them. Unlike a shard it carries no effect out, and it goes on after a close.
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

    /// The context to pass to the next call of the protocol.
    pub fn context(&mut self) -> Context<'_> {
        let Self { session, now, last_read_at, last_write_at, .. } = *self;
        Context { session, now, last_read_at, last_write_at, effects: &mut self.effects }
    }

    /// The bytes that were written since this was last called, one item for each [`Context::write`], and two for each
    /// [`Context::write_parts`].
    pub fn written(&mut self) -> Vec<Bytes> {
        self.effects.writes.drain(..).map(|piece| piece.bytes).collect()
    }

    /// The requests made since this was last called, with their ids.
    pub fn asked(&mut self) -> Vec<(u32, SessionRequest)> {
        std::mem::take(&mut self.effects.requests)
    }

    /// The time that the protocol last set with [`Context::wake_at`]. A shard clears it when it wakes the protocol; a
    /// test sets [`ProtocolTester::now`] and calls `woken` itself, and the next `wake_at` replaces the time.
    pub fn wake_at(&mut self) -> Option<Millis> {
        self.wake_at = self.effects.wake_at.take().or(self.wake_at);
        self.wake_at
    }

    /// The user that the protocol last set with [`Context::set_user`].
    pub fn user(&mut self) -> Option<Arc<str>> {
        self.user = self.effects.user.take().or(self.user.take());
        self.user.clone()
    }

    /// The refusals noted since this was last called.
    pub fn refused(&mut self) -> Vec<Refused> {
        std::mem::take(&mut self.effects.refusals)
    }

    /// How the protocol has ended the session since this was last called, if it has.
    pub fn ended(&mut self) -> Option<CloseWith> {
        self.effects.end.take()
    }
}
