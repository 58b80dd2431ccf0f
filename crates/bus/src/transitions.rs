//! Telling what becomes of channels: from what the broker decides to events that somebody wants.
//!
//! The broker appends to a line under a channel's lock; a task takes the line off, so what becomes of one channel is
//! told in its order. Each coming and going is first written down (`tidings_store::standing`), so that it is told once,
//! whichever node says it, and not at all if it is taken back in time.

use std::hash::BuildHasher as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use hashbrown::DefaultHashBuilder;
use serde_json::json;
use tidings_broker::TransitionSink;
use tidings_model::app::App;
use tidings_model::channel::ChannelKey;
use tidings_model::clock::{Millis, SharedClock, millis};
use tidings_model::event::{Data, Event};
use tidings_model::id::{AppId, RESERVED_ID_PREFIX};
use tidings_model::transition::{Change, Kind, Kinds, Transition};
use tidings_store::StoreError;
use tidings_store::presence::{Applied, PresenceChange, PresenceKey};
use tidings_supervisor::{Units, fault};
use tokio::sync::{Notify, mpsc};

use crate::bus::{Bus, Publication};
use crate::catalogue::Catalogue;
use crate::channel_events::{Cause, ChannelEvents};
use crate::error::PublishError;

/// Lines: what becomes of two channels is told at the same time unless they share one.
const LINES: usize = 64;
/// How much may wait in a line while the store is slow; more is not told, and comings and goings are made up for later.
const WAITING: usize = 4_096;
/// How long a going can be taken back by a coming (Pusher Channels, "Webhooks": up to three seconds).
const WINDOW: Duration = Duration::from_secs(3);
/// The first and the longest pause between two attempts to tell.
const PAUSES: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(5));
/// How often is looked whether everything has been told, when the node stops.
const LOOK: Duration = Duration::from_millis(20);

/// What waits to be told.
#[derive(Debug)]
enum Item {
    Happened(Transition, Millis, Option<Cause>),
    Said(Event),
}

impl Item {
    /// The channel that it is about, for the log.
    fn channel(&self) -> String {
        match self {
            Self::Happened(transition, ..) => transition.channel.name.as_ref().to_owned(),
            Self::Said(event) => event.key.clone().unwrap_or_default(),
        }
    }
}

type Lines = Vec<mpsc::Sender<Item>>;

/// Is told by the broker what becomes of channels, and tells whoever wants it.
pub struct Transitions {
    catalogue: Arc<Catalogue>,
    clock: SharedClock,
    lines: Lines,
    hasher: DefaultHashBuilder,
    /// Taken by the bus when it begins to tell.
    ends: parking_lot::Mutex<Vec<mpsc::Receiver<Item>>>,
    waiting: AtomicUsize,
    pub(crate) events: ChannelEvents,
    /// The node stops: who leaves now is expected back elsewhere, or here.
    leaving: AtomicBool,
    /// For how long whoever was here when a node went is waited for.
    pub(crate) rejoin_within: Duration,
    /// Something may have happened without being told.
    pub(crate) unsure: Notify,
}

impl Transitions {
    /// Ready to be told; `rejoin_within` is for how long a channel or member is waited for that was there when a node
    /// started, stopped or died.
    pub fn new(catalogue: Arc<Catalogue>, clock: SharedClock, rejoin_within: Duration) -> Arc<Self> {
        let (lines, ends) = (0..LINES).map(|_| mpsc::channel(WAITING)).unzip();
        let unsure = Notify::new();
        // What stood when the node was last there may have gone since.
        unsure.notify_one();
        Arc::new(Self {
            catalogue,
            clock,
            lines,
            hasher: DefaultHashBuilder::default(),
            ends: parking_lot::Mutex::new(ends),
            waiting: AtomicUsize::new(0),
            events: ChannelEvents::default(),
            leaving: AtomicBool::new(false),
            rejoin_within,
            unsure,
        })
    }

    /// A client has said something in a channel of an app that wants to know.
    pub(crate) fn said(&self, channel: &ChannelKey, event: Event) {
        self.append(channel, Item::Said(event));
    }

    /// From here on whoever leaves is expected back: the node stops, and its sessions are sent elsewhere.
    pub fn leave(&self) {
        self.leaving.store(true, Ordering::Relaxed);
    }

    /// Waits until everything has been told, for at most `grace`.
    pub async fn drain(&self, grace: Duration) {
        let told = async {
            while self.waiting.load(Ordering::Acquire) > 0 {
                tokio::time::sleep(LOOK).await;
            }
        };
        if tokio::time::timeout(grace, told).await.is_err() {
            tracing::warn!("what became of some channels was not told in time; it is made up for after a start");
        }
    }

    fn append(&self, channel: &ChannelKey, item: Item) {
        let line = self.hasher.hash_one(channel) as usize % LINES;
        self.waiting.fetch_add(1, Ordering::AcqRel);
        if self.lines[line].try_send(item).is_err() {
            self.waiting.fetch_sub(1, Ordering::AcqRel);
            tracing::warn!(app = %channel.app, channel = %channel.name,
                "what became of a channel is not told: too much waits");
            self.unsure.notify_one();
        }
    }

    /// How long a going can be taken back.
    fn window(&self) -> Duration {
        if self.leaving.load(Ordering::Relaxed) { self.rejoin_within.max(WINDOW) } else { WINDOW }
    }
}

impl TransitionSink for Transitions {
    fn wanted(&self, app: &AppId) -> Kinds {
        self.catalogue.wanted(app)
    }

    fn record(&self, transition: Transition) {
        if transition.channel.name.starts_with(char::is_control) {
            // No client can name such a channel: it is the server's own.
            return;
        }
        let channel = transition.channel.clone();
        let cause = self.events.cause(&channel);
        self.append(&channel, Item::Happened(transition, self.clock.wall_ms(), cause));
    }

    fn reconcile(&self) {
        self.unsure.notify_one();
    }
}

impl std::fmt::Debug for Transitions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Transitions").field("waiting", &self.waiting).finish_non_exhaustive()
    }
}

/// Begins to tell.
pub(crate) fn start(bus: &Bus) {
    let supervisor = &bus.shared.supervisor;
    let units = supervisor.units("channel-event");
    let ends = std::mem::take(&mut *bus.shared.transitions.ends.lock());
    for end in ends {
        supervisor.service("channel-events", take_off(bus.clone(), end, units.clone()));
    }
}

async fn take_off(bus: Bus, mut line: mpsc::Receiver<Item>, units: Units) {
    let transitions = &bus.shared.transitions;
    while let Some(item) = line.recv().await {
        fault::point("channel-events");
        let channel = item.channel();
        let told = async {
            match item {
                Item::Said(event) => bus.tell(event, None).await,
                Item::Happened(transition, time, cause) => bus.tell_transition(&transition, time, cause).await,
            }
        };
        match units.catch_async(channel, told).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) if is_closed(&error) => {}
            Ok(Err(error)) => {
                tracing::error!(%error, "what became of a channel could not be told");
                transitions.unsure.notify_one();
            }
            // It was logged, and would be told no better by another try.
            Err(_) => {}
        }
        transitions.waiting.fetch_sub(1, Ordering::AcqRel);
    }
}

/// Whether the store is closed: then nobody waits for anything any more.
fn is_closed(error: &PublishError) -> bool {
    *error == PublishError::Store(StoreError::Closed)
}

/// Tries until the store can be written; what it refuses for good is an error.
macro_rules! persist {
    ($attempt:expr) => {{
        let mut pauses = $crate::transitions::Pauses::default();
        loop {
            match $attempt.map_err($crate::error::PublishError::from) {
                Err(error) if pauses.pass(&error).await => {}
                other => break other,
            }
        }
    }};
}
pub(crate) use persist;

/// The pauses between attempts, each longer than the one before.
#[derive(Debug)]
pub(crate) struct Pauses(Duration);

impl Default for Pauses {
    fn default() -> Self {
        Self(PAUSES.0)
    }
}

impl Pauses {
    /// After a while another attempt may succeed; `false` when it would not.
    pub(crate) async fn pass(&mut self, error: &PublishError) -> bool {
        // What was forgotten or changed in between is found by asking again.
        let passes =
            matches!(error, PublishError::Store(error) if error.is_temporary() || *error == StoreError::Conflict);
        if passes {
            tracing::debug!(%error, "what became of a channel is not told yet");
            tokio::time::sleep(self.0).await;
            self.0 = (2 * self.0).min(PAUSES.1);
        }
        passes
    }
}

impl Bus {
    async fn tell_transition(
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
            if !self.is_owed(&event).await? {
                return Ok(());
            }
            return match events.take(&app, cause, now) {
                Ok(()) => self.tell(event, None).await,
                Err(limit) => {
                    events.dropped(&app, limit, cause, now);
                    Ok(())
                }
            };
        };
        let window = self.shared.transitions.window();
        let clock = &self.shared.clock;
        // Where nobody hears of either, nothing need be known.
        if !self.is_owed(&event).await? && !self.is_owed(&opposite(transition, time)).await? {
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

    /// Takes a turn that is a coming, if somebody may cause one more.
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

    /// Writes a turn down and, if it is to be told, tells it.
    pub(crate) async fn apply_change(
        &self,
        change: PresenceChange,
        event: Event,
        not_before: Option<Millis>,
    ) -> Result<Applied, PublishError> {
        let (key, number) = (change.key.clone(), change.number);
        let store = &self.shared.store;
        let applied = persist!(store.apply_change(change.clone()).await)?;
        if applied == Applied::Announce {
            self.tell(event, not_before).await?;
            persist!(store.mark_announced(&key, number).await)?;
        } else if applied == Applied::Reverted {
            // A lane may have got another head.
            self.shared.courier.wake_scheduler();
        }
        Ok(applied)
    }

    /// Publishes an event about a channel, if somebody is to get it.
    pub(crate) async fn tell(&self, event: Event, not_before: Option<Millis>) -> Result<(), PublishError> {
        if !self.is_owed(&event).await? {
            return Ok(());
        }
        let publication = Publication { not_before, ..event.into() };
        match persist!(self.publish_own(publication.clone()).await) {
            // Told before, and then we were broken off; or another node tells it too.
            Ok(_) | Err(PublishError::IdTaken) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Tells of something that a client has said in a channel, where the app wants to know.
    pub(crate) fn tell_said(&self, channel: &ChannelKey, event: &Event, user: Option<&str>) {
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
        transitions.said(channel, about(channel, id, Kind::ClientEvent, &data, event.time));
    }
}

/// Whether a kind is a coming or a going; `None` for what is neither.
fn presence(kind: Kind) -> Option<bool> {
    match kind {
        Kind::Occupied | Kind::MemberAdded => Some(true),
        Kind::Vacated | Kind::MemberRemoved => Some(false),
        Kind::SubscriptionCount | Kind::ClientEvent | Kind::CacheMiss => None,
    }
}

fn key(transition: &Transition) -> PresenceKey {
    PresenceKey {
        app: transition.channel.app.clone(),
        channel: transition.channel.name.as_ref().to_owned(),
        user: transition.change.user().map(str::to_owned),
    }
}

/// The event that would tell the opposite.
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
        // It is about the channel, and said to nobody in it.
        channels: Vec::new(),
        data: Data::json(data.to_string()),
        time,
        op: None,
        key: Some(channel.name.as_ref().to_owned()),
        except: None,
    }
}
