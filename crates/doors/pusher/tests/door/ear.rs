//! A live session without a connection, which records the messages it receives.

use std::sync::Arc;

use parking_lot::Mutex;
use tidings_broker::{DeliveryMode, JoinRefused, Lost, Welcome};
use tidings_live::{
    CloseReason, Context, JoinRequest, LeaveFailed, Message, Proof, PublishRefused, SessionProtocol, SessionRequest,
};
use tidings_model::channel::{ChannelKey, Member, SessionId};
use tidings_wire::EncodedMessage;
use tokio::sync::oneshot;

/// What all recording sessions of a door have received since it was last taken.
#[derive(Debug, Default)]
pub(crate) struct Heard {
    /// Each message once, with the sessions that received it.
    pub(crate) said: Vec<(Arc<EncodedMessage>, Vec<SessionId>)>,
    /// The users whose sessions the app has disconnected.
    pub(crate) disconnected: Vec<String>,
}

/// A recording session, in one channel or in none.
#[derive(Debug)]
pub(crate) struct Ear {
    pub(crate) channel: Option<String>,
    pub(crate) user: Option<String>,
    pub(crate) heard: Arc<Mutex<Heard>>,
    /// Receives the session's id once it has joined.
    pub(crate) ready: Option<oneshot::Sender<SessionId>>,
}

impl Ear {
    fn is_ready(&mut self, cx: &Context<'_>) {
        if let Some(ready) = self.ready.take() {
            ready.send(cx.session()).unwrap();
        }
    }
}

impl SessionProtocol for Ear {
    fn opened(&mut self, cx: &mut Context<'_>) {
        if let Some(user) = &self.user {
            cx.set_user(user.as_str().into());
        }
        let Some(channel) = &self.channel else { return self.is_ready(cx) };
        let member = self.user.as_deref().map(|user| Arc::new(Member { user: user.into(), info: None }));
        let (channel, mode) = (channel.as_str().into(), DeliveryMode::Session);
        cx.request(SessionRequest::Join(JoinRequest { channel, proof: Proof::Server, member, since: None, mode }));
    }

    fn received(&mut self, _: &mut Context<'_>, message: Message<'_>) {
        panic!("nobody is there to send {message:?}");
    }

    fn joined(&mut self, cx: &mut Context<'_>, _: u32, _: &ChannelKey, outcome: Result<Welcome, JoinRefused>) {
        outcome.unwrap();
        self.is_ready(cx);
    }

    fn left(&mut self, _: &mut Context<'_>, _: u32, channel: &ChannelKey, _: Result<(), LeaveFailed>) {
        panic!("nobody has asked to leave {channel:?}");
    }

    fn published(&mut self, _: &mut Context<'_>, _: u32, outcome: Result<(), PublishRefused>) {
        panic!("nobody has published: {outcome:?}");
    }

    fn channel_message(&mut self, cx: &mut Context<'_>, message: &Arc<EncodedMessage>) {
        let mut heard = self.heard.lock();
        match heard.said.iter_mut().find(|(said, _)| Arc::ptr_eq(said, message)) {
            Some((_, who)) => who.push(cx.session()),
            None => heard.said.push((Arc::clone(message), vec![cx.session()])),
        }
    }

    fn lost(&mut self, _: &mut Context<'_>, lost: &Lost) {
        panic!("{lost:?}");
    }

    fn woken(&mut self, _: &mut Context<'_>) {}

    fn closing(&mut self, cx: &mut Context<'_>, why: CloseReason) {
        if why == CloseReason::Disconnected {
            self.heard.lock().disconnected.extend(self.user.clone());
        }
        cx.end();
    }
}
