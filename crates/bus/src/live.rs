//! Publishes to live sessions, and answers sessions' requests.

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

use crate::bus::{Bus, select_fields};
use crate::channel_events::Cause;
use crate::error::PublishError;

/// How often a publish of a logged event is tried again while the broker is overloaded or away, and the pause between.
const TRIES: u32 = 50;
const PAUSE: Duration = Duration::from_millis(100);

impl Bus {
    /// Sends an order to sessions of an app, on every node.
    ///
    /// # Errors
    /// The broker's error.
    pub async fn order(&self, order: SessionOrder) -> Result<(), BrokerError> {
        self.shared.broker.order(order).await
    }

    /// Publishes an event that is not logged in each of its channels, in their order.
    ///
    /// # Errors
    /// [`BrokerError`] when the publish in the first channel failed; then the event is published in no channel.
    pub(crate) async fn publish_live(&self, event: &Arc<Event>) -> Result<Vec<PublishOutcome>, BrokerError> {
        let Some(first) = event.channels.first() else { return Ok(Vec::new()) };
        let first = self.publish_in(event, first).await?;
        Ok(self.publish_remaining(event, None, vec![first]).await)
    }

    /// Publishes an event that is on disk in its channels. The event counts as published already, so a broker that is
    /// overloaded or away gets some time. `whole` is the event with its undeclared fields: it is sent to channels whose
    /// data is encrypted for clients.
    pub(crate) async fn publish_logged_live(
        &self,
        event: &Arc<Event>,
        whole: Option<&Arc<Event>>,
    ) -> Vec<PublishOutcome> {
        self.publish_remaining(event, whole, Vec::with_capacity(event.channels.len())).await
    }

    /// Publishes an event in the rest of its channels; `outcomes` are those of the first ones. Only the failed channel
    /// is
    /// tried again, so no session receives the event twice.
    async fn publish_remaining(
        &self,
        event: &Arc<Event>,
        whole: Option<&Arc<Event>>,
        mut outcomes: Vec<PublishOutcome>,
    ) -> Vec<PublishOutcome> {
        let mut tries = 0;
        while let Some(name) = event.channels.get(outcomes.len()) {
            let its_event = whole.filter(|_| policy::is_encrypted(name)).unwrap_or(event);
            match self.publish_in(its_event, name).await {
                Ok(outcome) => outcomes.push(outcome),
                Err(error) if tries < TRIES => {
                    tracing::debug!(%error, app = %event.app, event = event.id, "publish to sessions failed; retrying");
                    tries += 1;
                    tokio::time::sleep(PAUSE).await;
                }
                Err(error) => {
                    tracing::warn!(%error, app = %event.app, event = event.id,
                        "publish to sessions failed; a channel misses the logged event");
                    self.shared.metrics.not_live.inc();
                    outcomes.push(PublishOutcome::default());
                }
            }
        }
        outcomes
    }

    async fn publish_in(&self, event: &Arc<Event>, name: &str) -> Result<PublishOutcome, BrokerError> {
        let Some(app) = self.shared.apps.by_id(event.app.as_str()) else { return Ok(PublishOutcome::default()) };
        let (channel, options) = channel(&app, name);
        let except = event.except.as_deref().and_then(|session| session.parse().ok());
        let event = Arc::clone(event);
        let publish = Publish { channel, options, event, except, user: None, by_client: false };
        self.shared.broker.publish(publish).await
    }

    async fn join_for(&self, context: RequestContext, request_id: u32, join: JoinRequest) -> Result<(), JoinRefused> {
        // Look the app up: the session has it as it was when it connected.
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
        // A session that watches users is in internal channels without being a member.
        let user = context.user.clone().filter(|_| !policy::is_internal(&channel.name));
        let known = || user.map(|user| Arc::new(Member { user: user.into(), info: None }));
        let has_member = options.presence || options.join_leave;
        let member = if has_member { join.member.or_else(known) } else { None };
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

    /// Publishes a client's event: first to live sessions, then to the log, if its name is a hook.
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
            && let Some(data) = select_fields(hook, &event).map_err(refused_for)?
        {
            event.data = data;
        }
        let event = Arc::new(event);
        let except = Some(context.session);
        let shared_event = Arc::clone(&event);
        let publish = Publish { channel, options, event: shared_event, except, user: what.user, by_client: true };
        let (key, user) = (publish.channel.clone(), publish.user.clone());
        self.shared.broker.publish(publish).await.map_err(refused)?;
        self.queue_client_event(&key, &event, user.as_deref());
        if hook.is_some() {
            let (bus, id) = (self.clone(), event.id.clone());
            // The client gets no answer about the log, so the result is not awaited.
            drop(self.shared.publishing.spawn(id, async move { bus.log_client_event(event).await }));
        }
        Ok(())
    }

    async fn log_client_event(&self, event: Arc<Event>) {
        if let Err(error) = self.log(Arc::unwrap_or_clone(event).into(), None, false).await {
            tracing::warn!(%error, "logging a client event failed");
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

/// The app's channel with this name, and its options.
fn channel(app: &App, name: &str) -> (ChannelKey, Arc<ChannelOptions>) {
    let name = policy::canonical(name);
    let options = Arc::clone(app.namespaces.options(&name));
    (ChannelKey::new(app.id.clone(), name.as_ref()), options)
}

fn unavailable(_: BrokerError) -> JoinRefused {
    JoinRefused::Unavailable
}
