//! Asking, and hearing the answers.
//!
//! A request is polled here first: where the broker is in memory that is all there is to it. One that is not ready goes on in
//! tokio, and its answer comes through the inbox. What a session asks is asked in order.

use std::task::{Context as TaskContext, Poll, Waker};

use tidings_broker::{JoinRefused, SessionRef};
use tidings_model::channel::ChannelKey;
use tidings_model::policy::canonical;

use super::Shard;
use super::closing::RETRY;
use super::session::OpenRequest;
use crate::inbox::{InboxMessage, Inboxes};
use crate::requests::{PublishRefused, SessionRequest, SessionResponse};

impl Shard {
    /// Takes up what the session wants to ask, one after the other.
    pub(super) fn next_request(&mut self, slot: u32) {
        loop {
            let Some(session) = self.sessions.get_mut(slot as usize) else { return };
            let Some(requests) = &mut session.requests else { return };
            if requests.elsewhere || requests.next.is_empty() {
                if requests.is_idle() && requests.unread.is_empty() {
                    session.requests = None;
                }
                return;
            }
            let Some((request_id, request)) = requests.next.pop_front() else { return };
            self.open_request(slot, request_id, request);
        }
    }

    fn open_request(&mut self, slot: u32, request_id: u32, request: SessionRequest) {
        let Some(session) = self.sessions.get_mut(slot as usize) else { return };
        let join = match &request {
            SessionRequest::Join(join) => Some(join.channel.clone()),
            _ => None,
        };
        let requests = session.requests.get_or_insert_default();
        requests.open.push_back(OpenRequest { request_id, join });
        match self.send_request(slot, request_id, request) {
            Some(response) => self.answered(slot, request_id, response),
            None => {
                if let Some(requests) =
                    self.sessions.get_mut(slot as usize).and_then(|session| session.requests.as_mut())
                {
                    requests.elsewhere = true;
                }
            }
        }
    }

    /// Asks. `None`: the answer will come through the inbox.
    pub(super) fn send_request(
        &mut self,
        slot: u32,
        request_id: u32,
        request: SessionRequest,
    ) -> Option<SessionResponse> {
        let session = self.sessions.get(slot as usize)?;
        let at = self.at(slot, session.life);
        let promise = Promise::new(self.inboxes.clone(), at, request_id, &request);
        let mut response = self.handler.handle(session.request_context(at), request_id, request);
        match response.as_mut().poll(&mut TaskContext::from_waker(Waker::noop())) {
            Poll::Ready(response) => {
                promise.forget();
                Some(response)
            }
            Poll::Pending => {
                self.runtime.spawn(async move { promise.keep(response.await) });
                None
            }
        }
    }

    /// A request that went on elsewhere has ended.
    pub(super) fn response_arrived(&mut self, at: SessionRef, request_id: u32, response: SessionResponse) {
        let Some(session) = self.session(at) else { return };
        if request_id != 0
            && let Some(requests) = &mut session.requests
        {
            requests.elsewhere = false;
        }
        self.answered(at.slot, request_id, response);
        self.next_request(at.slot);
        self.resume(at.slot);
    }

    /// A request has been answered. Joining and leaving have ended only when the broker tells so.
    fn answered(&mut self, slot: u32, request_id: u32, response: SessionResponse) {
        match response {
            SessionResponse::Join(Ok(())) | SessionResponse::Leave(Ok(())) => {}
            SessionResponse::Join(Err(refused)) => self.join_refused(slot, request_id, refused),
            SessionResponse::Leave(Err(_)) if request_id == 0 => self.leave_later(slot),
            SessionResponse::Leave(Err(_)) | SessionResponse::Publish(_) => {
                self.request_has_ended(slot, request_id);
                self.call(slot, |protocol, cx| protocol.answered(cx, request_id, response));
            }
        }
    }

    fn join_refused(&mut self, slot: u32, request_id: u32, refused: JoinRefused) {
        let Some(channel) = self.request_has_ended(slot, request_id).and_then(|open| open.join) else { return };
        let Some(session) = self.sessions.get(slot as usize) else { return };
        let key = ChannelKey::new(session.app.id.clone(), canonical(&channel));
        self.call(slot, |protocol, cx| protocol.joined(cx, request_id, &key, Err(refused)));
        self.free(slot);
    }

    /// Takes the request out of those that are open.
    pub(super) fn request_has_ended(&mut self, slot: u32, request_id: u32) -> Option<OpenRequest> {
        self.sessions.get_mut(slot as usize)?.requests.as_mut()?.end(request_id)
    }

    /// A session that is gone could not be taken out of a channel now.
    pub(super) fn leave_later(&mut self, slot: u32) {
        let Some(session) = self.sessions.get_mut(slot as usize) else { return };
        session.subscriptions.iter_mut().for_each(|subscription| subscription.leaving = false);
        let at = self.now.saturating_add(RETRY).min(session.wake_at);
        self.arm(slot, at);
    }
}

/// The promise that a request is answered. One that is dropped unkept says that it was not possible: a session must not wait
/// for ever because whoever was to answer has broken down.
pub(super) struct Promise {
    to: Option<(Inboxes, SessionRef)>,
    request_id: u32,
    unkept: SessionResponse,
}

impl Promise {
    fn new(inboxes: Inboxes, at: SessionRef, request_id: u32, request: &SessionRequest) -> Self {
        let unkept = match request {
            SessionRequest::Join(_) => SessionResponse::Join(Err(JoinRefused::Unavailable)),
            SessionRequest::Leave(_) => SessionResponse::Leave(Err(JoinRefused::Unavailable)),
            SessionRequest::Publish(_) => SessionResponse::Publish(Err(PublishRefused::Unavailable)),
        };
        Self { to: Some((inboxes, at)), request_id, unkept }
    }

    fn forget(mut self) {
        self.to = None;
    }

    fn keep(mut self, response: SessionResponse) {
        self.tell(response);
    }

    fn tell(&mut self, response: SessionResponse) {
        if let Some((inboxes, at)) = self.to.take() {
            inboxes.put(at.shard, InboxMessage::Response { at, request_id: self.request_id, response });
        }
    }
}

impl Drop for Promise {
    fn drop(&mut self) {
        let unkept = self.unkept.clone();
        self.tell(unkept);
    }
}
