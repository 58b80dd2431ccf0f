//! A minimal protocol and bus: commands in text frames, and channels that are lists.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use bytes::Bytes;
use parking_lot::Mutex;
use tidings_broker::{
    Action, DeliveryMode, JoinRefused, Joined, Left, Lost, SessionOrder, SessionRef, ShardMessage, Shards as _, Welcome,
};
use tidings_live::{
    ClientEvent, CloseReason, Context, DoorAnswer, DoorRequest, Inboxes, JoinRequest, LeaveFailed, Message,
    NoDoorAnswer, Proof, PublishRefused, RequestContext, RequestHandler, ResponseFuture, SessionProtocol,
    SessionRequest,
};
use tidings_model::channel::{ChannelKey, SessionId};
use tidings_model::event::{Data, Event};
use tidings_wire::{ChannelMessage, EncodedMessage, Encoding, Publication, ws};
use tokio::sync::Semaphore;

/// How the toy protocol writes channel messages.
pub(crate) static FORMAT: Encoding = Encoding {
    name: "toy",
    encode: |said| match said {
        ChannelMessage::Publication(publication) => Some(ws::text(line(publication).as_bytes())),
        _ => None,
    },
};

/// The same in upper case.
pub(crate) static LOUD: Encoding = Encoding {
    name: "loud",
    encode: |said| match said {
        ChannelMessage::Publication(publication) => Some(ws::text(line(publication).to_uppercase().as_bytes())),
        _ => None,
    },
};

/// A publication as a line of text.
pub(crate) fn line(publication: &Publication) -> String {
    format!("{}: {}", publication.channel.name, publication.event.data.as_text())
}

/// Executes commands that come in text frames: `join c`, `loud c`, `own c`, `leave c`, `say c what`, `user u`,
/// `echo what`, `wake ms`, `close code`, `panic`, `both c` (leaves and joins it at once), `many n` (joins that many
/// channels at once), `last c` (publishes two events in it and closes), `ask how` (a request of the door's own),
/// `handled` (how many requests were handled).
#[derive(Debug, Default)]
pub(crate) struct Toy {
    /// Writes plain lines instead of WebSocket frames.
    pub(crate) bare: bool,
    /// The counter of [`ToyBus::handled`].
    pub(crate) handled: Arc<AtomicUsize>,
}

impl Toy {
    fn write(&self, cx: &mut Context<'_>, text: &str) {
        cx.write(if self.bare { Bytes::from(format!("{text}\n")) } else { ws::text(text.as_bytes()) });
    }
}

fn join(cx: &mut Context<'_>, channel: &str, mode: DeliveryMode) {
    cx.request(SessionRequest::Join(JoinRequest {
        channel: channel.into(),
        proof: Proof::None,
        member: None,
        since: None,
        mode,
    }));
}

fn say(cx: &mut Context<'_>, channel: &str, what: &str) {
    let data = Data::text(what.to_owned());
    cx.request(SessionRequest::Publish(ClientEvent {
        channel: channel.into(),
        name: "n".to_owned(),
        data,
        user: None,
    }));
}

impl SessionProtocol for Toy {
    fn opened(&mut self, cx: &mut Context<'_>) {
        let id = cx.session();
        self.write(cx, &format!("hello {id}"));
        if self.bare {
            join(cx, "stream", DeliveryMode::Session);
        }
    }

    fn received(&mut self, cx: &mut Context<'_>, message: Message<'_>) {
        let Message::Text(text) = message else {
            let Message::Binary(bytes) = message else { return };
            return cx.write(ws::binary(bytes));
        };
        let (verb, rest) = text.split_once(' ').unwrap_or((text, ""));
        match verb {
            "join" => join(cx, rest, DeliveryMode::Shared(&FORMAT)),
            "loud" => join(cx, rest, DeliveryMode::Shared(&LOUD)),
            "own" => join(cx, rest, DeliveryMode::Session),
            "leave" => {
                cx.request(SessionRequest::Leave(rest.into()));
            }
            "both" => {
                cx.request(SessionRequest::Leave(rest.into()));
                join(cx, rest, DeliveryMode::Shared(&FORMAT));
            }
            "many" => (0..rest.parse().unwrap_or(0))
                .for_each(|n: u32| join(cx, &format!("many-{n}"), DeliveryMode::Shared(&FORMAT))),
            "say" => {
                let (channel, what) = rest.split_once(' ').unwrap_or((rest, ""));
                say(cx, channel, what);
            }
            "last" => {
                say(cx, rest, "one");
                say(cx, rest, "two");
                cx.close(1000, "");
            }
            "ask" => {
                let how = rest.to_owned();
                cx.request(SessionRequest::Door(DoorRequest::new(async move {
                    match how.as_str() {
                        "never" => std::future::pending().await,
                        "panic" => panic!("as you wish"),
                        _ => how,
                    }
                })));
            }
            "handled" => self.write(cx, &self.handled.load(Ordering::SeqCst).to_string()),
            "user" => cx.set_user(rest.into()),
            "wake" => cx.wake_at(cx.now() + rest.parse::<i64>().unwrap_or(0)),
            "panic" => panic!("as you wish"),
            "close" => cx.close(rest.parse().unwrap_or(1000), "as you wish"),
            _ => self.write(cx, rest),
        }
    }

    fn joined(&mut self, cx: &mut Context<'_>, _: u32, channel: &ChannelKey, outcome: Result<Welcome, JoinRefused>) {
        let verb = if outcome.is_ok() { "joined" } else { "refused" };
        self.write(cx, &format!("{verb} {}", channel.name));
    }

    fn left(&mut self, cx: &mut Context<'_>, _: u32, channel: &ChannelKey, outcome: Result<(), LeaveFailed>) {
        let verb = if outcome.is_ok() { "left" } else { "still in" };
        self.write(cx, &format!("{verb} {}", channel.name));
    }

    fn lost(&mut self, cx: &mut Context<'_>, lost: &Lost) {
        self.write(cx, &format!("lost {}", lost.channel.name));
    }

    fn published(&mut self, cx: &mut Context<'_>, _: u32, outcome: Result<(), PublishRefused>) {
        self.write(cx, if outcome.is_ok() { "said" } else { "not said" });
    }

    fn answered(&mut self, cx: &mut Context<'_>, _: u32, answer: Result<DoorAnswer, NoDoorAnswer>) {
        match answer {
            Ok(answer) => self.write(cx, &format!("answer {}", answer.downcast::<String>().unwrap())),
            Err(why) => self.write(cx, &format!("{why:?}")),
        }
    }

    fn channel_message(&mut self, cx: &mut Context<'_>, message: &Arc<EncodedMessage>) {
        if let ChannelMessage::Publication(publication) = message.content() {
            self.write(cx, &format!("to you, {}", line(publication)));
        }
    }

    fn woken(&mut self, cx: &mut Context<'_>) {
        self.write(cx, "woken");
    }

    fn ordered(&mut self, cx: &mut Context<'_>, action: &Action) {
        match action {
            Action::Subscribe(channel) => join(cx, channel, DeliveryMode::Shared(&FORMAT)),
            Action::Unsubscribe(channel) => {
                cx.request(SessionRequest::Leave(channel.as_str().into()));
            }
            Action::Refresh(until) => self.write(cx, &format!("until {until:?}")),
            Action::Send(bytes) => cx.write(ws::text(bytes)),
            Action::Disconnect { code, reason } => {
                self.write(cx, "bye Disconnected");
                cx.close(code.unwrap_or(4002), reason.clone().unwrap_or_default());
            }
            Action::Shut | Action::Renew => panic!("{action:?} is not for protocols"),
        }
    }

    fn closing(&mut self, cx: &mut Context<'_>, why: CloseReason) {
        self.write(cx, &format!("bye {why:?}"));
        let code = match why {
            CloseReason::GoingAway => 1001,
            CloseReason::Restarting => 1012,
            CloseReason::Slow => 4001,
            CloseReason::Disconnected => 4002,
            CloseReason::Shut => 4003,
        };
        if self.bare { cx.end() } else { cx.close(code, "bye") }
    }
}

/// An event for a channel of the app `1`.
pub(crate) fn prepare(channel: &str, text: impl Into<Bytes>) -> Arc<EncodedMessage> {
    let event = Event {
        id: "e".to_owned(),
        app: "1".into(),
        name: "n".to_owned(),
        channels: Vec::new(),
        data: Data::text(text),
        time: 0,
        op: None,
        key: None,
        except: None,
    };
    let channel = ChannelKey::new("1".into(), channel);
    let publication = Publication { event: Arc::new(event), channel, position: None, user: None };
    Arc::new(EncodedMessage::new(ChannelMessage::Publication(publication)))
}

/// A broker and a bus in one: a list of sessions for each channel.
pub(crate) struct ToyBus {
    pub(crate) inboxes: Inboxes,
    lists: Mutex<HashMap<ChannelKey, Vec<(SessionRef, SessionId)>>>,
    /// Requests for channels whose names begin with `slow` wait for a permit.
    pub(crate) gate: Arc<Semaphore>,
    /// Leaves fail.
    pub(crate) stuck: AtomicBool,
    /// How many joins and leaves were handled.
    pub(crate) handled: Arc<AtomicUsize>,
    /// Called by the shard with the channel of each join and leave.
    pub(crate) on_request: Mutex<Option<OnRequest>>,
}

pub(crate) type OnRequest = Box<dyn FnMut(&str) + Send>;

impl ToyBus {
    pub(crate) fn new(inboxes: Inboxes) -> Arc<Self> {
        let gate = Arc::new(Semaphore::new(0));
        Arc::new(Self {
            inboxes,
            lists: Mutex::default(),
            gate,
            stuck: AtomicBool::new(false),
            handled: Arc::default(),
            on_request: Mutex::new(None),
        })
    }

    /// Publishes in a channel of the app `1`.
    pub(crate) fn publish(&self, channel: &str, text: impl Into<Bytes>, except: Option<SessionId>) {
        let prepared = prepare(channel, text);
        let lists = self.lists.lock();
        let Some(list) = lists.get(prepared.content().channel()) else { return };
        let is_there = |shard: &u16| list.iter().any(|(at, _)| at.shard == *shard);
        let shards: Vec<u16> = (0..self.inboxes.count()).filter(is_there).collect();
        for &shard in &shards {
            self.inboxes.append(shard, ShardMessage::Message { message: Arc::clone(&prepared), except });
        }
        drop(lists);
        shards.into_iter().for_each(|shard| self.inboxes.write_inline(shard));
    }

    /// Sends these messages to the first shard, whether or not it has subscribers.
    pub(crate) fn tell_all(&self, said: Vec<Arc<EncodedMessage>>) {
        said.into_iter()
            .for_each(|prepared| self.inboxes.send(0, ShardMessage::Message { message: prepared, except: None }));
    }

    pub(crate) fn order(&self, order: SessionOrder) {
        let order = Arc::new(order);
        (0..self.inboxes.count()).for_each(|shard| self.inboxes.send(shard, ShardMessage::Order(Arc::clone(&order))));
    }

    /// The number of sessions in a channel.
    pub(crate) fn count(&self, channel: &str) -> usize {
        self.lists.lock().get(&ChannelKey::new("1".into(), channel)).map_or(0, Vec::len)
    }

    fn note(&self, channel: &str) {
        self.handled.fetch_add(1, Ordering::SeqCst);
        if let Some(on_request) = &mut *self.on_request.lock() {
            on_request(channel);
        }
    }

    fn join(&self, context: &RequestContext, request_id: u32, join: &JoinRequest) -> Result<(), JoinRefused> {
        self.note(&join.channel);
        if &*join.channel == "closed" {
            return Err(JoinRefused::NoProof);
        }
        let channel = ChannelKey::new(context.app.id.clone(), Arc::clone(&join.channel));
        let mut lists = self.lists.lock();
        let list = lists.entry(channel.clone()).or_default();
        if !list.iter().any(|(_, session)| *session == context.session) {
            list.push((context.at, context.session));
        }
        let joined = Joined { at: context.at, request_id, channel, mode: join.mode, outcome: Ok(Welcome::default()) };
        self.inboxes.send(context.at.shard, ShardMessage::Joined(Box::new(joined)));
        Ok(())
    }

    fn leave(&self, context: &RequestContext, request_id: u32, name: &Arc<str>) -> Result<(), LeaveFailed> {
        self.note(name);
        if self.stuck.load(Ordering::SeqCst) {
            return Err(LeaveFailed);
        }
        let channel = ChannelKey::new(context.app.id.clone(), Arc::clone(name));
        let mut lists = self.lists.lock();
        if let Some(list) = lists.get_mut(&channel) {
            list.retain(|(_, session)| *session != context.session);
        }
        self.inboxes.send(context.at.shard, ShardMessage::Left(Left { at: context.at, request_id, channel }));
        Ok(())
    }

    async fn wait_if_slow(&self, channel: &str) {
        if channel.starts_with("slow")
            && let Ok(permit) = self.gate.acquire().await
        {
            permit.forget();
        }
    }
}

/// The bus as sessions see it.
pub(crate) struct Ears(pub(crate) Arc<ToyBus>);

impl RequestHandler for Ears {
    fn join(
        &self,
        context: RequestContext,
        request_id: u32,
        join: JoinRequest,
    ) -> ResponseFuture<Result<(), JoinRefused>> {
        let bus = Arc::clone(&self.0);
        Box::pin(async move {
            bus.wait_if_slow(&join.channel).await;
            bus.join(&context, request_id, &join)
        })
    }

    fn leave(
        &self,
        context: RequestContext,
        request_id: u32,
        channel: Arc<str>,
    ) -> ResponseFuture<Result<(), LeaveFailed>> {
        let bus = Arc::clone(&self.0);
        Box::pin(async move {
            bus.wait_if_slow(&channel).await;
            bus.leave(&context, request_id, &channel)
        })
    }

    fn publish(&self, context: RequestContext, event: ClientEvent) -> ResponseFuture<Result<(), PublishRefused>> {
        let bus = Arc::clone(&self.0);
        Box::pin(async move {
            bus.wait_if_slow(&event.channel).await;
            bus.publish(&event.channel, event.data.bytes, Some(context.session));
            Ok(())
        })
    }
}
