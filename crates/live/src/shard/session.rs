//! A session as its shard keeps it. An idle session consists of this, its protocol's state, and an entry in the timing
//! wheel.

use std::collections::VecDeque;
use std::sync::Arc;

use tidings_broker::SessionRef;
use tidings_model::app::App;
use tidings_model::channel::SessionId;
use tidings_model::clock::Millis;
use tidings_wire::ws::Decoder;

use super::write_queue::WriteQueue;
use crate::new_session::{NewSession, Opening};
use crate::protocol::SessionProtocol;
use crate::requests::{RequestContext, SessionRequest};
use crate::session_limiter::SessionPermit;
use crate::wheel::TimerSlot;

/// The time of a timer that is not set.
pub(super) const NEVER: Millis = Millis::MAX;

/// The phases of a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    /// The protocol is in charge.
    Open,
    /// The closing message is written. Until this time it may leave, and the client may close the connection.
    Ending(Millis),
    /// The connection is gone. The session may still be in channels, or be joining one.
    Gone,
}

pub(super) struct Session {
    /// `None` when the connection is gone.
    pub(super) write_queue: Option<WriteQueue>,
    pub(super) phase: Phase,
    pub(super) life: u32,
    pub(super) id: SessionId,
    /// Set while the session is open.
    pub(super) protocol: Option<Box<dyn SessionProtocol>>,
    /// Set while the session is open, if it is a WebSocket.
    pub(super) decoder: Option<Decoder>,
    pub(super) app: Arc<App>,
    pub(super) user: Option<Arc<str>>,
    pub(super) permit: Option<SessionPermit>,
    pub(super) subscriptions: Vec<Subscription>,
    /// Set while requests are queued or open.
    pub(super) requests: Option<Box<Requests>>,
    pub(super) next_request_id: u32,
    pub(super) last_read_at: Millis,
    pub(super) last_write_at: Millis,
    pub(super) wake_at: Millis,
    pub(super) timer_slot: Option<TimerSlot>,
    /// The client has closed its sending side.
    pub(super) finished: bool,
    /// The socket may have more to read, but too many unread bytes wait for an open request.
    pub(super) stalled: bool,
}

/// A channel in a session's list; its counterpart is `Subscriber` in the channel.
#[derive(Debug, Clone, Copy)]
pub(super) struct Subscription {
    pub(super) channel: u32,
    /// The index of the counterpart in the channel's list.
    pub(super) index_in_channel: u32,
    /// A leave was requested, because the session is closed.
    pub(super) leaving: bool,
}

/// A session's requests, and what waits for them.
#[derive(Debug, Default)]
pub(super) struct Requests {
    /// Requests that were handled and have not ended.
    pub(super) open: VecDeque<OpenRequest>,
    /// Requests to be handled, in this order.
    pub(super) next: VecDeque<(u32, SessionRequest)>,
    /// The last request is being finished in tokio; the next one waits for it.
    pub(super) in_tokio: bool,
    /// Channels that the shard takes the session out of, after the requests that can be handled now.
    pub(super) leaves: VecDeque<Arc<str>>,
    /// The session is in the shard's list of sessions with requests.
    pub(super) listed: bool,
    /// Bytes that the client has sent since, undecoded.
    pub(super) unread: Unread,
}

/// Bytes from a client that are not decoded yet. Removing bytes from the front moves none: otherwise a client that
/// sends many small messages would have the rest moved once for each of them.
#[derive(Debug, Default)]
pub(super) struct Unread {
    bytes: Vec<u8>,
    /// How many bytes at the front are decoded.
    done: usize,
}

impl Unread {
    pub(super) fn len(&self) -> usize {
        self.bytes.len() - self.done
    }

    pub(super) fn bytes(&mut self) -> &mut [u8] {
        &mut self.bytes[self.done..]
    }

    /// Keeps only the last `left` bytes.
    pub(super) fn keep_last(&mut self, left: usize) {
        self.done = self.bytes.len() - left.min(self.len());
    }

    pub(super) fn append(&mut self, bytes: &[u8]) {
        // Moves fewer bytes than were decoded.
        if self.done > self.bytes.len() / 2 {
            self.bytes.drain(..self.done);
            self.done = 0;
        }
        self.bytes.extend_from_slice(bytes);
    }
}

/// A request that has not ended.
#[derive(Debug)]
pub(super) struct OpenRequest {
    pub(super) request_id: u32,
    pub(super) kind: OpenKind,
}

/// The kind of an open request, with the channel as the client wrote it.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum OpenKind {
    Join(Arc<str>),
    Leave(Arc<str>),
    Other,
}

impl Requests {
    pub(super) fn is_idle(&self) -> bool {
        self.open.is_empty() && self.next.is_empty() && self.leaves.is_empty() && !self.in_tokio
    }

    /// Whether a request or leave can be handled now.
    pub(super) fn has_work(&self) -> bool {
        !self.leaves.is_empty() || !self.next.is_empty() && !self.in_tokio
    }

    /// Drops queued requests, but not publishes: a session that closes joins nothing more and leaves all its channels,
    /// but its events are published.
    pub(super) fn keep_publishes(&mut self) {
        self.next.retain(|(_, request)| matches!(request, SessionRequest::Publish(_)));
        self.unread = Unread::default();
    }

    /// Whether a join is open, which may still succeed.
    fn has_open_join(&self) -> bool {
        self.open.iter().any(|open| matches!(open.kind, OpenKind::Join(_)))
    }

    /// Removes a request that has ended from the open ones.
    pub(super) fn end(&mut self, request_id: u32) -> Option<OpenRequest> {
        let index = self.open.iter().position(|open| open.request_id == request_id)?;
        self.open.remove(index)
    }
}

impl Session {
    pub(super) fn new(newcomer: NewSession, life: u32, now: Millis) -> (Self, Opening) {
        let NewSession { id, app, permit, transport, opening, protocol } = newcomer;
        let session = Self {
            write_queue: Some(WriteQueue::new(transport)),
            phase: Phase::Open,
            life,
            id,
            protocol: Some(protocol),
            decoder: matches!(opening, Opening::WebSocket(_)).then(|| Decoder::new(app.limits.message)),
            app,
            user: None,
            permit: Some(permit),
            subscriptions: Vec::new(),
            requests: None,
            next_request_id: 0,
            last_read_at: now,
            last_write_at: now,
            wake_at: NEVER,
            timer_slot: None,
            finished: false,
            stalled: false,
        };
        (session, opening)
    }

    pub(super) fn is_open(&self) -> bool {
        self.phase == Phase::Open
    }

    /// Whether a request is open or queued, for which the client's next messages wait.
    pub(super) fn has_open_request(&self) -> bool {
        self.requests.as_ref().is_some_and(|requests| !requests.is_idle())
    }

    /// Whether no message can refer to the session any more, so that its slot can be used again.
    pub(super) fn is_over(&self) -> bool {
        let asks = self.requests.as_ref().is_some_and(|requests| requests.has_open_join() || !requests.next.is_empty());
        self.phase == Phase::Gone && self.subscriptions.is_empty() && !asks
    }

    pub(super) fn request_context(&self, at: SessionRef) -> RequestContext {
        let client = self.permit.as_ref().and_then(|permit| permit.client);
        RequestContext { app: Arc::clone(&self.app), session: self.id, at, user: self.user.clone(), client }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // covers: G027
    #[test]
    fn what_waits_is_taken_off_the_front_without_being_moved() {
        let mut unread = Unread::default();
        unread.append(&[1; 60_000]);
        let before = unread.bytes().as_ptr();
        for left in (0..60_000).rev().step_by(45) {
            assert_eq!(unread.bytes().as_ptr(), before.wrapping_add(60_000 - unread.len()));
            unread.keep_last(left);
        }
        unread.keep_last(3);
        unread.append(&[2; 4]);
        assert_eq!(unread.bytes(), [1, 1, 1, 2, 2, 2, 2]);
        assert_eq!((unread.len(), unread.done), (7, 0), "what was done with is given back");
    }

    #[test]
    fn a_session_that_does_nothing_is_small() {
        assert!(size_of::<Session>() <= 272, "a session takes {} bytes", size_of::<Session>());
    }
}
