//! Handles sessions' requests and their responses.
//!
//! A session's requests are a queue, handled in order. Sessions with requests take turns, one request each. A turn of
//! the loop handles [`REQUESTS_PER_TURN`] of all sessions together, so that a session that requests ten thousand joins
//! at once does not delay the others' reads by more.
//!
//! A request is polled here first; with the memory broker it is then complete. A request that is not ready continues in
//! tokio, its response comes through the inbox, and the session's next request waits for it.

use std::collections::VecDeque;
use std::sync::Arc;
use std::task::{Context as TaskContext, Poll, Waker};

use tidings_broker::{JoinRefused, SessionRef};
use tidings_model::channel::ChannelKey;
use tidings_model::policy::canonical;

use super::Shard;
use super::closing::LEAVE_RETRY;
use super::session::{OpenKind, OpenRequest, Requests};
use crate::inbox::{InboxMessage, Inboxes};
use crate::requests::{
    DoorRequest, LeaveFailed, NoDoorAnswer, PublishRefused, ResponseFuture, SessionRequest, SessionResponse,
};

/// Requests of all sessions that are handled before reads and timers get their turn. Fewer than the inbox's messages:
/// a join costs several times as much as a send.
const REQUESTS_PER_TURN: usize = 128;
/// The list of sessions with requests is freed when it is empty, if it has grown beyond this many.
const KEPT_REQUESTERS: usize = 8_192;

impl Shard {
    /// Adds a session to the list of those with requests, if it has any that can be handled now.
    pub(super) fn list_requests(&mut self, slot: u32) {
        let Some(session) = self.sessions.get_mut(slot as usize) else { return };
        let life = session.life;
        if let Some(requests) = &mut session.requests
            && requests.has_work()
            && !std::mem::replace(&mut requests.listed, true)
        {
            self.requesters.push_back(self.at(slot, life));
        }
    }

    /// Handles this turn's share of requests.
    pub(super) fn handle_requests(&mut self) {
        for _ in 0..REQUESTS_PER_TURN {
            let Some(at) = self.requesters.pop_front() else {
                if self.requesters.capacity() > KEPT_REQUESTERS {
                    self.requesters = VecDeque::new();
                }
                return;
            };
            let Some(requests) = self.session(at).and_then(|session| session.requests.as_mut()) else { continue };
            requests.listed = false;
            let next = if requests.in_tokio { None } else { requests.next.pop_front() };
            if let Some((request_id, request)) = next {
                self.open_request(at.slot, request_id, request);
            } else if let Some(channel) = requests.leaves.pop_front()
                && let Some(response) = self.send_request(at.slot, 0, SessionRequest::Leave(channel))
            {
                self.responded(at.slot, 0, response);
            }
            self.list_requests(at.slot);
            self.resume(at.slot);
            self.free(at.slot);
            self.handle_failed_writes();
        }
    }

    fn open_request(&mut self, slot: u32, request_id: u32, request: SessionRequest) {
        let kind = match &request {
            SessionRequest::Join(join) => OpenKind::Join(Arc::clone(&join.channel)),
            SessionRequest::Leave(channel) => OpenKind::Leave(Arc::clone(channel)),
            SessionRequest::Publish(_) | SessionRequest::Door(_) => OpenKind::Other,
        };
        if let Some(requests) = self.requests(slot) {
            requests.open.push_back(OpenRequest { request_id, kind });
        }
        match self.send_request(slot, request_id, request) {
            Some(response) => self.responded(slot, request_id, response),
            None => {
                if let Some(requests) = self.requests(slot) {
                    requests.in_tokio = true;
                }
            }
        }
    }

    fn requests(&mut self, slot: u32) -> Option<&mut Requests> {
        self.sessions.get_mut(slot as usize)?.requests.as_deref_mut()
    }

    /// Passes a request to its handler. `None`: the response will come through the inbox.
    fn send_request(&mut self, slot: u32, request_id: u32, request: SessionRequest) -> Option<SessionResponse> {
        let session = self.sessions.get(slot as usize)?;
        let at = self.at(slot, session.life);
        let context = session.request_context(at);
        match request {
            SessionRequest::Join(join) => {
                let response = self.handler.join(context, request_id, join);
                self.poll_once(at, request_id, response, SessionResponse::Join, Err(JoinRefused::Unavailable))
            }
            SessionRequest::Leave(channel) => {
                let response = self.handler.leave(context, request_id, channel);
                self.poll_once(at, request_id, response, SessionResponse::Leave, Err(LeaveFailed))
            }
            SessionRequest::Publish(event) => {
                let response = self.handler.publish(context, event);
                self.poll_once(at, request_id, response, SessionResponse::Publish, Err(PublishRefused::Unavailable))
            }
            // Not polled here: a door's code may take long.
            SessionRequest::Door(DoorRequest(answer)) => {
                let answer = tokio::time::timeout(self.settings.door_timeout, answer);
                let answer = async move { SessionResponse::Door(answer.await.map_err(|_| NoDoorAnswer::TimedOut)) };
                self.finish_in_tokio(at, request_id, answer, SessionResponse::Door(Err(NoDoorAnswer::BrokenOff)));
                None
            }
        }
    }

    /// Polls a response once, and lets tokio finish it if it is not ready. `fallback` is the response after a panic.
    fn poll_once<T: Send + 'static>(
        &self,
        at: SessionRef,
        request_id: u32,
        mut response: ResponseFuture<T>,
        to_response: fn(T) -> SessionResponse,
        fallback: T,
    ) -> Option<SessionResponse> {
        let mut polled = || response.as_mut().poll(&mut TaskContext::from_waker(Waker::noop()));
        match self.request_units.catch(at.slot, &mut polled) {
            Ok(Poll::Ready(response)) => Some(to_response(response)),
            Ok(Poll::Pending) => {
                self.finish_in_tokio(at, request_id, async move { to_response(response.await) }, to_response(fallback));
                None
            }
            Err(_) => Some(to_response(fallback)),
        }
    }

    /// Lets tokio finish a request; the response comes through the inbox.
    fn finish_in_tokio(
        &self,
        at: SessionRef,
        request_id: u32,
        response: impl Future<Output = SessionResponse> + Send + 'static,
        fallback: SessionResponse,
    ) {
        let guard = ResponseGuard { to: Some((self.inboxes.clone(), at)), request_id, fallback: Some(fallback) };
        drop(self.request_units.spawn(at.slot, async move { guard.respond(response.await) }));
    }

    /// Handles the response to a request that tokio finished.
    pub(super) fn response_arrived(&mut self, at: SessionRef, request_id: u32, response: SessionResponse) {
        let Some(session) = self.session(at) else { return };
        if request_id != 0
            && let Some(requests) = &mut session.requests
        {
            requests.in_tokio = false;
        }
        self.responded(at.slot, request_id, response);
        self.list_requests(at.slot);
        self.resume(at.slot);
        self.free(at.slot);
    }

    /// Handles a response. A join or leave that succeeded ends only with the broker's message.
    fn responded(&mut self, slot: u32, request_id: u32, response: SessionResponse) {
        match response {
            SessionResponse::Join(Ok(())) | SessionResponse::Leave(Ok(())) => {}
            SessionResponse::Join(Err(refused)) => {
                let Some(channel) = self.channel_of_ended(slot, request_id) else { return };
                self.act(slot, |protocol, cx| protocol.joined(cx, request_id, &channel, Err(refused)));
            }
            SessionResponse::Leave(Err(_)) if request_id == 0 => self.leave_later(slot),
            SessionResponse::Leave(Err(failed)) => {
                let Some(channel) = self.channel_of_ended(slot, request_id) else { return };
                self.act(slot, |protocol, cx| protocol.left(cx, request_id, &channel, Err(failed)));
            }
            SessionResponse::Publish(outcome) => {
                self.request_has_ended(slot, request_id);
                self.act(slot, |protocol, cx| protocol.published(cx, request_id, outcome));
            }
            SessionResponse::Door(answer) => {
                self.request_has_ended(slot, request_id);
                self.act(slot, |protocol, cx| protocol.answered(cx, request_id, answer));
            }
        }
    }

    /// Removes a join or leave from the open requests, and returns its channel.
    fn channel_of_ended(&mut self, slot: u32, request_id: u32) -> Option<ChannelKey> {
        let (OpenKind::Join(name) | OpenKind::Leave(name)) = self.request_has_ended(slot, request_id)?.kind else {
            return None;
        };
        let session = self.sessions.get(slot as usize)?;
        Some(ChannelKey::new(session.app.id.clone(), canonical(&name)))
    }

    /// Removes a request from the open ones.
    pub(super) fn request_has_ended(&mut self, slot: u32, request_id: u32) -> Option<OpenRequest> {
        self.requests(slot)?.end(request_id)
    }

    /// A closed session could not be taken out of a channel: tries again after [`LEAVE_RETRY`].
    pub(super) fn leave_later(&mut self, slot: u32) {
        let Some(session) = self.sessions.get_mut(slot as usize) else { return };
        session.subscriptions.iter_mut().for_each(|subscription| subscription.leaving = false);
        let at = self.now.saturating_add(LEAVE_RETRY).min(session.wake_at);
        self.arm(slot, at);
    }
}

/// Guarantees a response: dropped without one, it sends the fallback. Otherwise a session would wait for ever for a
/// handler that panicked or was aborted.
struct ResponseGuard {
    to: Option<(Inboxes, SessionRef)>,
    request_id: u32,
    fallback: Option<SessionResponse>,
}

impl ResponseGuard {
    fn respond(mut self, response: SessionResponse) {
        self.send(response);
    }

    fn send(&mut self, response: SessionResponse) {
        if let Some((inboxes, at)) = self.to.take() {
            inboxes.put(at.shard, InboxMessage::Response { at, request_id: self.request_id, response });
        }
    }
}

impl Drop for ResponseGuard {
    fn drop(&mut self) {
        if let Some(fallback) = self.fallback.take() {
            self.send(fallback);
        }
    }
}
