//! The way out to live sessions, and what sessions ask.

use std::sync::Arc;
use std::time::Duration;

use tidings_broker::{BrokerError, Join, JoinRefused, Leave, Publish, PublishOutcome, SessionOrder};
use tidings_live::{
    ClientEvent, JoinRequest, LeaveFailed, Proof, PublishRefused, RequestContext, RequestHandler, ResponseFuture,
};
use tidings_model::app::App;
use tidings_model::channel::{ChannelKey, ChannelOptions, Member};
use tidings_model::event::Event;
use tidings_model::hook::FieldsFor;
use tidings_model::id::new_id;
use tidings_model::pattern::check_event_name;
use tidings_model::policy::{self, Access};
use tracing::Instrument as _;

use crate::bus::{Bus, selected};
use crate::channel_events::Cause;
use crate::error::PublishError;

/// How often something is offered again to shards that have too much to do, and how long they get in between.
const TRIES: u32 = 50;
const PAUSE: Duration = Duration::from_millis(100);

impl Bus {
    /// Orders something of sessions of an app, on every node.
    ///
    /// # Errors
    /// What the broker answers.
    pub async fn order(&self, order: SessionOrder) -> Result<(), BrokerError> {
        self.shared.broker.order(order).await
    }

    /// Says an event that is not logged, in each of its channels, in the order in which it names them.
    ///
    /// # Errors
    /// [`BrokerError`] when it could not be said in the first one; then it was said in none.
    pub(crate) async fn say(&self, event: &Arc<Event>) -> Result<Vec<PublishOutcome>, BrokerError> {
        let Some(first) = event.channels.first() else { return Ok(Vec::new()) };
        let first = self.say_in(event, first).await?;
        Ok(self.say_on(event, None, vec![first]).await)
    }

    /// Says an event that is on disk: its publisher is told that it was published, so a broker that is busy or away
    /// gets some time. `whole` is the event with the fields that its hook keeps back: channels whose data only clients
    /// can read get that one.
    pub(crate) async fn say_logged(&self, event: &Arc<Event>, whole: Option<&Arc<Event>>) -> Vec<PublishOutcome> {
        self.say_on(event, whole, Vec::with_capacity(event.channels.len())).await
    }

    /// Goes on with an event that has been said in the first of its channels, which answered `said`. Nobody hears it
    /// twice: what is tried again is the channel that could not be told.
    async fn say_on(
        &self,
        event: &Arc<Event>,
        whole: Option<&Arc<Event>>,
        mut said: Vec<PublishOutcome>,
    ) -> Vec<PublishOutcome> {
        let mut tries = 0;
        while let Some(name) = event.channels.get(said.len()) {
            let its_event = whole.filter(|_| policy::is_encrypted(name)).unwrap_or(event);
            match self.say_in(its_event, name).await {
                Ok(heard) => said.push(heard),
                Err(error) if tries < TRIES => {
                    tracing::debug!(%error, app = %event.app, event = event.id, "not said yet");
                    tries += 1;
                    tokio::time::sleep(PAUSE).await;
                }
                Err(error) => {
                    tracing::warn!(%error, app = %event.app, event = event.id,
                        "an event could not be said in a channel");
                    self.shared.metrics.unsaid.inc();
                    said.push(PublishOutcome::default());
                }
            }
        }
        said
    }

    async fn say_in(&self, event: &Arc<Event>, name: &str) -> Result<PublishOutcome, BrokerError> {
        let Some(app) = self.shared.apps.by_id(event.app.as_str()) else { return Ok(PublishOutcome::default()) };
        let (channel, options) = channel(&app, name);
        let except = event.except.as_deref().and_then(|session| session.parse().ok());
        let event = Arc::clone(event);
        let publish = Publish { channel, options, event, except, user: None, by_client: false };
        self.shared.broker.publish(publish).await
    }

    async fn join_for(&self, context: RequestContext, request_id: u32, join: JoinRequest) -> Result<(), JoinRefused> {
        // As the app is now: the session holds it as it was when it came.
        let app = self.shared.apps.by_id(context.app.id.as_str()).filter(|app| app.enabled);
        let app = app.ok_or(JoinRefused::NoProof)?;
        let (channel, options) = channel(&app, &join.channel);
        let user = context.user.as_deref();
        match policy::access(&channel.name, &options) {
            _ if join.proof == Proof::Server => {}
            Access::Open => {}
            Access::Proof if join.proof == Proof::Channel => {}
            Access::Proof => return Err(JoinRefused::NoProof),
            Access::Users(users) if user.is_some_and(|user| users.contains(&user)) => {}
            Access::Users(_) => return Err(JoinRefused::OtherUser),
        }
        // Who watches a user is in the channel that knows of them as nobody.
        let user = context.user.clone().filter(|_| !policy::is_internal(&channel.name));
        let known = || user.map(|user| Arc::new(Member { user: user.into(), info: None }));
        let is_told = options.presence || options.join_leave;
        let member = if is_told { join.member.or_else(known) } else { None };
        let JoinRequest { since, mode, .. } = join;
        let join = Join { channel, options, session: context.session, at: context.at, request_id, member, since, mode };
        if self.catalogue().wanted(&app.id).is_empty() {
            return self.shared.broker.join(join).await.map_err(unavailable);
        }
        let (channel, events) = (join.channel.clone(), &self.shared.transitions.events);
        events.joins(&channel, Cause { session: context.session, client: context.client });
        let joined = self.shared.broker.join(join).await.map_err(unavailable);
        events.joined(&channel);
        joined
    }

    async fn leave_for(&self, context: RequestContext, request_id: u32, name: &str) -> Result<(), LeaveFailed> {
        let (channel, _) = channel(&context.app, name);
        let leave = Leave { channel, session: context.session, at: context.at, request_id };
        self.shared.broker.leave(leave).await.map_err(|_| LeaveFailed)
    }

    /// A client's event: said first, logged after, if a hook has its name.
    async fn publish_for(&self, context: RequestContext, id: String, what: ClientEvent) -> Result<(), PublishRefused> {
        let refused = |error| match error {
            BrokerError::Overloaded => PublishRefused::Overloaded,
            BrokerError::Unavailable => PublishRefused::Unavailable,
        };
        if self.shared.broker.overloaded() {
            return Err(PublishRefused::Overloaded);
        }
        let refused_for = |error: PublishError| PublishRefused::Wrong(error.to_string());
        check_event_name(&what.name).map_err(|error| refused_for(error.into()))?;
        let (channel, options) = channel(&context.app, &what.channel);
        let mut event = Event {
            id,
            app: context.app.id.clone(),
            name: what.name,
            channels: vec![channel.name.as_ref().to_owned()],
            data: what.data,
            time: self.shared.clock.wall_ms(),
            op: None,
            key: None,
            except: Some(context.session.to_string()),
        };
        let hook = self.shared.catalogue.hook(&event.app, &event.name);
        if let Some(hook) = hook.as_deref().filter(|hook| hook.fields_for == FieldsFor::All)
            && let Some(data) = selected(hook, &event).map_err(refused_for)?
        {
            event.data = data;
        }
        let event = Arc::new(event);
        let except = Some(context.session);
        let said = Arc::clone(&event);
        let publish = Publish { channel, options, event: said, except, user: what.user, by_client: true };
        let (key, user) = (publish.channel.clone(), publish.user.clone());
        self.shared.broker.publish(publish).await.map_err(refused)?;
        self.queue_client_event(&key, &event, user.as_deref());
        if hook.is_some() {
            let (bus, id) = (self.clone(), event.id.clone());
            // The client isn't told whether it was logged, so nobody waits for it.
            drop(self.shared.publishing.spawn(id, async move { bus.log_said(event).await }));
        }
        Ok(())
    }

    async fn log_said(&self, event: Arc<Event>) {
        if let Err(error) = self.log(Arc::unwrap_or_clone(event).into(), None, false).await {
            tracing::warn!(%error, "a client's event could not be logged");
        }
    }
}

impl RequestHandler for Bus {
    fn join(
        &self,
        context: RequestContext,
        request_id: u32,
        join: JoinRequest,
    ) -> ResponseFuture<Result<(), JoinRefused>> {
        let bus = self.clone();
        let (app, session) = (&context.app.id, context.session);
        let span = tracing::debug_span!("join", %app, channel = &*join.channel, %session);
        let joins = async move {
            let joined = bus.join_for(context, request_id, join).await;
            match &joined {
                Ok(()) => tracing::debug!("join handled"),
                Err(error) => tracing::debug!(%error, "join refused"),
            }
            joined
        };
        Box::pin(joins.instrument(span))
    }

    fn leave(
        &self,
        context: RequestContext,
        request_id: u32,
        channel: Arc<str>,
    ) -> ResponseFuture<Result<(), LeaveFailed>> {
        let bus = self.clone();
        Box::pin(async move { bus.leave_for(context, request_id, &channel).await })
    }

    fn publish(&self, context: RequestContext, event: ClientEvent) -> ResponseFuture<Result<(), PublishRefused>> {
        let (bus, id) = (self.clone(), new_id("evt"));
        let (app, session) = (&context.app.id, context.session);
        let span = tracing::debug_span!("publish", %app, event = id, event_name = event.name, %session);
        Box::pin(async move { bus.publish_for(context, id, event).await }.instrument(span))
    }
}

/// The channel that an app means by a name, and how it behaves.
fn channel(app: &App, name: &str) -> (ChannelKey, Arc<ChannelOptions>) {
    let name = policy::canonical(name);
    let options = Arc::clone(app.namespaces.options(&name));
    (ChannelKey::new(app.id.clone(), name.as_ref()), options)
}

fn unavailable(_: BrokerError) -> JoinRefused {
    JoinRefused::Unavailable
}
