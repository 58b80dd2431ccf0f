//! Live sessions without connections that record what they receive.

use std::sync::Arc;

use parking_lot::Mutex;
use tidings_broker::{DeliveryMode, JoinRefused, Lost, Welcome};
use tidings_live::{
    ClientEvent, CloseReason, Context, JoinRequest, LeaveFailed, Message, Proof, PublishRefused, SessionProtocol,
    SessionRequest, Stream,
};
use tidings_model::channel::{ChannelKey, Member, SessionId};
use tidings_wire::{ChannelMessage, EncodedMessage};
use tokio::sync::oneshot;

use crate::kit::{TestNode, eventually};

/// What a session has received.
#[derive(Debug, Default)]
struct Received {
    /// The ids and the data of events.
    events: Vec<(String, String)>,
    closing: Option<CloseReason>,
}

/// A session in at most one channel.
pub(crate) struct Session {
    pub(crate) id: SessionId,
    /// The other end of its socket; dropping it ends the session.
    stream: Stream,
    channel: Option<ChannelKey>,
    received: Arc<Mutex<Received>>,
}

impl TestNode {
    /// Opens a session of an app and joins a channel, as a member if it has a user.
    pub(crate) async fn join(&self, app: &str, channel: &str, user: Option<&str>) -> Session {
        self.open(app, Some(channel), user, None).await
    }

    /// The same, and publishes a client event there.
    pub(crate) async fn join_and_publish(&self, app: &str, event: ClientEvent) -> Session {
        let channel = Arc::clone(&event.channel);
        self.open(app, Some(&channel), None, Some(event)).await
    }

    /// Waits until the only shard has processed everything that was sent to it before.
    pub(crate) async fn flush(&self) {
        self.open("1", None, None, None).await;
    }

    async fn open(&self, app: &str, channel: Option<&str>, user: Option<&str>, event: Option<ClientEvent>) -> Session {
        let app = self.bus().apps().by_id(app).unwrap();
        let key = channel.map(|name| ChannelKey::new(app.id.clone(), name));
        let received = Arc::<Mutex<Received>>::default();
        let (ready, opened) = oneshot::channel();
        let session = RecordingSession {
            channel: channel.map(Into::into),
            user: user.map(Into::into),
            event,
            received: Arc::clone(&received),
            ready: Some(ready),
        };
        let permit = self.node.live().admit(&app, None).unwrap();
        let stream = self.node.live().open_stream(permit, app, Box::new(session));
        Session { id: opened.await.unwrap(), stream, channel: key, received }
    }

    /// Ends a session that is the last one of its channel, and waits until it has left.
    pub(crate) async fn leave(&self, session: Session) {
        let channel = session.channel.unwrap();
        drop(session.stream);
        eventually("the session is to leave", || async {
            let state = self.bus().channel(&channel).await.unwrap();
            state.is_none_or(|state| state.occupancy.subscriptions == 0)
        })
        .await;
    }
}

impl Session {
    /// The events that it has received since the last call: ids and data.
    pub(crate) async fn events(&self, node: &TestNode) -> Vec<(String, String)> {
        node.flush().await;
        std::mem::take(&mut self.received.lock().events)
    }

    /// Why the session was ended, if it was.
    pub(crate) fn closing(&self) -> Option<CloseReason> {
        self.received.lock().closing
    }
}

struct RecordingSession {
    channel: Option<Arc<str>>,
    user: Option<Arc<str>>,
    /// Published when it has joined.
    event: Option<ClientEvent>,
    received: Arc<Mutex<Received>>,
    /// Receives the session's id when the session has joined.
    ready: Option<oneshot::Sender<SessionId>>,
}

impl RecordingSession {
    fn is_ready(&mut self, cx: &Context<'_>) {
        if let Some(ready) = self.ready.take() {
            // A test that has failed waits no longer.
            ready.send(cx.session()).unwrap_or_default();
        }
    }
}

impl SessionProtocol for RecordingSession {
    fn opened(&mut self, cx: &mut Context<'_>) {
        if let Some(user) = &self.user {
            cx.set_user(Arc::clone(user));
        }
        let Some(channel) = self.channel.clone() else { return self.is_ready(cx) };
        let member = self.user.as_deref().map(|user| Arc::new(Member { user: user.into(), info: None }));
        let mode = DeliveryMode::Session;
        cx.request(SessionRequest::Join(JoinRequest { channel, proof: Proof::Server, member, since: None, mode }));
    }

    fn received(&mut self, _: &mut Context<'_>, message: Message<'_>) {
        panic!("there is no client to send {message:?}");
    }

    fn joined(&mut self, cx: &mut Context<'_>, _: u32, _: &ChannelKey, outcome: Result<Welcome, JoinRefused>) {
        outcome.unwrap();
        match self.event.take() {
            Some(event) => drop(cx.request(SessionRequest::Publish(event))),
            None => self.is_ready(cx),
        }
    }

    fn left(&mut self, _: &mut Context<'_>, _: u32, channel: &ChannelKey, _: Result<(), LeaveFailed>) {
        panic!("no session asks to leave {channel:?}");
    }

    fn published(&mut self, cx: &mut Context<'_>, _: u32, outcome: Result<(), PublishRefused>) {
        outcome.unwrap();
        self.is_ready(cx);
    }

    fn channel_message(&mut self, _: &mut Context<'_>, message: &Arc<EncodedMessage>) {
        if let ChannelMessage::Publication(publication) = message.content() {
            let event = &publication.event;
            self.received.lock().events.push((event.id.clone(), event.data.as_text().into_owned()));
        }
    }

    fn lost(&mut self, _: &mut Context<'_>, lost: &Lost) {
        panic!("one node loses nothing: {lost:?}");
    }

    fn woken(&mut self, _: &mut Context<'_>) {}

    fn closing(&mut self, cx: &mut Context<'_>, why: CloseReason) {
        self.received.lock().closing = Some(why);
        cx.end();
    }
}
