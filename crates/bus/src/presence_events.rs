//! Presence events: from the broker's transitions to the events that listeners subscribe to.
//!
//! The broker appends to a queue under a channel's lock ([`TransitionQueue`]); a task of each queue takes them off, so
//! the events of a channel are published in order. Each arrival and departure is first recorded in the presence
//! journal, so that it is announced once, whichever node reports it, and not at all if it is reverted in time.

use serde_json::json;
use tidings_broker::TransitionSink as _;
use tidings_model::app::App;
use tidings_model::channel::ChannelKey;
use tidings_model::clock::{Millis, millis};
use tidings_model::event::{Data, Event};
use tidings_model::id::RESERVED_ID_PREFIX;
use tidings_model::transition::{Change, Kind, Transition};
use tidings_store::StoreError;
use tidings_store::presence::{Applied, PresenceChange, PresenceKey};
use tidings_supervisor::{Units, fault};
use tokio::sync::mpsc;

use crate::bus::{Bus, Publication};
use crate::channel_events::Cause;
use crate::error::PublishError;
use crate::retry::retry;
use crate::transition_queue::Queued;

/// Starts a task for each queue.
pub(crate) fn start(bus: &Bus) {
    let supervisor = &bus.shared.supervisor;
    let units = supervisor.units("channel-event");
    for queue in bus.shared.transitions.take_receivers() {
        supervisor.service("channel-events", publish_from(bus.clone(), queue, units.clone()));
    }
}

async fn publish_from(bus: Bus, mut queue: mpsc::Receiver<Queued>, units: Units) {
    let transitions = &bus.shared.transitions;
    while let Some(item) = queue.recv().await {
        fault::point("channel-events");
        let channel = item.channel();
        let published = async {
            match item {
                Queued::ClientEvent(event) => bus.publish_about(event, None).await,
                Queued::Transition(transition, time, cause) => bus.publish_transition(&transition, time, cause).await,
            }
        };
        match units.catch_async(channel, published).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) if is_closed(&error) => {}
            Ok(Err(error)) => {
                tracing::error!(%error, "channel event not published");
                transitions.reconcile_needed.notify_one();
            }
            // The panic was logged, and another attempt would panic too.
            Err(_) => {}
        }
        transitions.done();
    }
}

/// Whether the store is closed, because the node has stopped.
fn is_closed(error: &PublishError) -> bool {
    *error == PublishError::Store(StoreError::Closed)
}

impl Bus {
    async fn publish_transition(
        &self,
        transition: &Transition,
        time: Millis,
        cause: Option<Cause>,
    ) -> Result<(), PublishError> {
        let event = event(transition, time);
        let events = &self.shared.transitions.events;
        let now = self.shared.clock.steady_ms();
        let Some(app) = self.shared.apps.by_id(event.app.as_str()) else { return Ok(()) };
        let Some(present) = presence(transition.change.kind()) else {
            if !self.has_destinations(&event).await? {
                return Ok(());
            }
            return match events.take(&app, cause, now) {
                Ok(()) => self.publish_about(event, None).await,
                Err(limit) => {
                    events.dropped(&app, limit, cause, now);
                    Ok(())
                }
            };
        };
        let window = self.shared.transitions.window();
        let clock = &self.shared.clock;
        // If no listener gets this event or the opposite one, nothing need be recorded.
        if !self.has_destinations(&event).await? && !self.has_destinations(&opposite(transition, time)).await? {
            return Ok(());
        }
        let change = PresenceChange {
            key: key(transition),
            present,
            suppress: false,
            number: i64::try_from(transition.number).unwrap_or(i64::MAX),
            event: event.id.clone(),
            window: millis(window),
            now: clock.steady_ms(),
            wall: clock.wall_ms(),
        };
        let not_before = (!present).then(|| clock.wall_ms().saturating_add(millis(window)));
        if present {
            self.arrive(&app, change, event, cause).await
        } else {
            self.apply_change(change, event, not_before).await.map(drop)
        }
    }

    /// Applies an arrival. Its event is suppressed if the session, its address or the app has reached its limit of
    /// channel events.
    pub(crate) async fn arrive(
        &self,
        app: &App,
        change: PresenceChange,
        event: Event,
        cause: Option<Cause>,
    ) -> Result<(), PublishError> {
        let (events, now) = (&self.shared.transitions.events, change.now);
        let taken = events.take(app, cause, now);
        let change = PresenceChange { suppress: taken.is_err(), ..change };
        match (self.apply_change(change, event, None).await?, taken) {
            (Applied::Suppressed, Err(limit)) => events.dropped(app, limit, cause, now),
            (Applied::Known | Applied::Reverted, Ok(())) => events.give_back(app, cause),
            _ => {}
        }
        Ok(())
    }

    /// Records a change and, if it is to be announced, publishes its event.
    pub(crate) async fn apply_change(
        &self,
        change: PresenceChange,
        event: Event,
        not_before: Option<Millis>,
    ) -> Result<Applied, PublishError> {
        let (key, number) = (change.key.clone(), change.number);
        let store = &self.shared.store;
        let applied = retry!(store.apply_change(change.clone()).await)?;
        if applied == Applied::Announce {
            self.publish_about(event, not_before).await?;
            retry!(store.mark_announced(&key, number).await)?;
        } else if applied == Applied::Reverted {
            // A pending departure was canceled, so another delivery may now be the first of its lane.
            self.shared.courier.wake_scheduler();
        }
        Ok(applied)
    }

    /// Publishes an event about a channel, if a listener gets it.
    pub(crate) async fn publish_about(&self, event: Event, not_before: Option<Millis>) -> Result<(), PublishError> {
        if !self.has_destinations(&event).await? {
            return Ok(());
        }
        let publication = Publication { not_before, ..event.into() };
        match retry!(self.publish_own(publication.clone()).await) {
            // This node published it before and was interrupted, or another node has published it.
            Ok(_) | Err(PublishError::IdTaken) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Queues the channel event of a client event, if a listener subscribes to that kind.
    pub(crate) fn queue_client_event(&self, channel: &ChannelKey, event: &Event, user: Option<&str>) {
        let transitions = &self.shared.transitions;
        if !transitions.wanted(&channel.app).has(Kind::ClientEvent) {
            return;
        }
        let mut data = json!({
            "channel": channel.name.as_ref(),
            "event": event.name,
            "data": event.data.as_text(),
            "socket_id": event.except,
        });
        if let Some(user) = user {
            data["user_id"] = user.into();
        }
        let id = format!("{RESERVED_ID_PREFIX}{}", event.id);
        transitions.client_event(channel, about(channel, id, Kind::ClientEvent, &data, event.time));
    }
}

/// Whether a kind is an arrival (true) or a departure (false); `None` if it is neither.
fn presence(kind: Kind) -> Option<bool> {
    match kind {
        Kind::Occupied | Kind::MemberAdded => Some(true),
        Kind::Vacated | Kind::MemberRemoved => Some(false),
        Kind::SubscriptionCount | Kind::ClientEvent | Kind::CacheMiss => None,
    }
}

/// The channel or member whose presence a transition changes.
pub(crate) fn key(transition: &Transition) -> PresenceKey {
    PresenceKey {
        app: transition.channel.app.clone(),
        channel: transition.channel.name.as_ref().to_owned(),
        user: transition.change.user().map(str::to_owned),
    }
}

/// The event of the opposite transition.
fn opposite(transition: &Transition, time: Millis) -> Event {
    let change = match &transition.change {
        Change::Occupied => Change::Vacated,
        Change::Vacated => Change::Occupied,
        Change::MemberAdded(user) => Change::MemberRemoved(user.clone()),
        Change::MemberRemoved(user) => Change::MemberAdded(user.clone()),
        other => other.clone(),
    };
    event(&Transition { change, ..transition.clone() }, time)
}

/// The event of a transition.
pub(crate) fn event(transition: &Transition, time: Millis) -> Event {
    let mut data = json!({"channel": transition.channel.name.as_ref()});
    if let Some(user) = transition.change.user() {
        data["user_id"] = user.into();
    }
    if let Change::SubscriptionCount(count) = transition.change {
        data["subscription_count"] = count.into();
    }
    about(&transition.channel, transition.event_id(), transition.change.kind(), &data, time)
}

fn about(channel: &ChannelKey, id: String, kind: Kind, data: &serde_json::Value, time: Millis) -> Event {
    Event {
        id,
        app: channel.app.clone(),
        name: kind.event_name().to_owned(),
        // The event is about a channel, but is not published in any.
        channels: Vec::new(),
        data: Data::json(data.to_string()),
        time,
        op: None,
        key: Some(channel.name.as_ref().to_owned()),
        except: None,
    }
}
