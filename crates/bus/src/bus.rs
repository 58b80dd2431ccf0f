//! Publishing.

use std::sync::Arc;

use prometheus_client::registry::Registry;
use serde_json::value::RawValue;
use tidings_broker::{Broker, BrokerError, PublishOutcome};
use tidings_courier::Courier;
use tidings_model::app::App;
use tidings_model::clock::{Millis, SharedClock};
use tidings_model::event::{Data, Event};
use tidings_model::hook::{FieldsFor, Hook};
use tidings_model::id::AppId;
use tidings_model::idempotency::IdempotencyKey;
use tidings_model::listener::Listener;
use tidings_model::matcher::Document;
use tidings_model::pattern::check_event_name;
use tidings_model::payload::{self, FieldTypeError};
use tidings_store::log::{Destination, Idempotency, Logged, Publish, Published};
use tidings_store::{Store, StoreError};
use tidings_supervisor::{Supervisor, Units};
use tokio::sync::Semaphore;
use tracing::{Instrument as _, Span};

use crate::apps::Apps;
use crate::audience;
use crate::catalogue::{Catalogue, Matched};
use crate::error::PublishError;
use crate::metrics::Metrics;
use crate::rate::Rate;
use crate::throttle::Throttle;
use crate::transition_queue::TransitionQueue;

/// How long an idempotency key is remembered.
pub(crate) const REMEMBERED: Millis = 24 * 3_600 * 1_000;
/// The event of a test, unless another is asked for.
pub const TEST_EVENT: &str = "tidings.test";
/// How often a publish is matched anew when the catalogue changes under it.
const MAX_MATCHES: usize = 20;

/// What a door hands in.
#[derive(Debug, Clone)]
pub struct Publication {
    /// What happened. Its data has been checked to be what it says it is.
    pub event: Event,
    /// The caller's idempotency key, and what it was used for.
    pub idempotency: Option<IdempotencyKey>,
    /// Nothing is attempted before this wall time.
    pub not_before: Option<Millis>,
}

impl From<Event> for Publication {
    fn from(event: Event) -> Self {
        Self { event, idempotency: None, not_before: None }
    }
}

/// Who wants an event, and what it looks like to them.
struct Wanted {
    hook: Option<Arc<Hook>>,
    matched: Matched,
    /// The data without the fields that the hook does not declare; `None` when that is all of it.
    selected: Option<Data>,
}

/// What became of a publication.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Receipt {
    /// The event's id; the first one's for a repeat.
    pub id: String,
    /// It is in the log, and on disk.
    pub logged: bool,
    /// It would survive a power cut.
    pub durable: bool,
    /// How many destinations it is owed to.
    pub deliveries: u64,
    /// Who was in its channels when it was said there, in the order of the event's channels; empty for a repeat, which
    /// is said to nobody.
    pub channels: Vec<PublishOutcome>,
    /// The same was published before, and this is what became of it then.
    pub repeated: bool,
}

impl Receipt {
    /// Whether only sessions of this node have heard it in one of its channels.
    pub fn is_degraded(&self) -> bool {
        self.channels.iter().any(|heard| heard.local_only)
    }
}

/// What a bus stands on.
pub struct Parts {
    /// The tenants.
    pub apps: Arc<Apps>,
    /// What survives.
    pub store: Arc<dyn Store>,
    /// Hooks and listeners of that store.
    pub catalogue: Arc<Catalogue>,
    /// The way out that keeps trying, started on that store.
    pub courier: Courier,
    /// The way out to live sessions.
    pub broker: Arc<dyn Broker>,
    /// What the broker tells of channels.
    pub transitions: Arc<TransitionQueue>,
    /// The time.
    pub clock: SharedClock,
    /// Who owns its tasks.
    pub supervisor: Supervisor,
}

pub(crate) struct Shared {
    pub(crate) apps: Arc<Apps>,
    pub(crate) store: Arc<dyn Store>,
    pub(crate) catalogue: Arc<Catalogue>,
    pub(crate) courier: Courier,
    pub(crate) broker: Arc<dyn Broker>,
    pub(crate) transitions: Arc<TransitionQueue>,
    pub(crate) clock: SharedClock,
    pub(crate) metrics: Metrics,
    pub(crate) supervisor: Supervisor,
    /// Publishes: one that panics is answered so, and the others go on.
    pub(crate) publishing: Units,
    publishes: Throttle<AppId>,
    pub(crate) hints: Throttle<AppId>,
    /// Lets one at a time try matches that take long.
    late_matches: Semaphore,
}

/// The one way in. Clones share one bus.
#[derive(Clone)]
pub struct Bus {
    pub(crate) shared: Arc<Shared>,
}

impl Bus {
    /// A bus over its parts, whose tasks are yet to be started.
    pub(crate) fn assemble(parts: Parts, registry: &mut Registry) -> Self {
        let metrics = Metrics::default();
        metrics.register(registry.sub_registry_with_prefix("bus"));
        parts.transitions.events.register(registry.sub_registry_with_prefix("bus"));
        let Parts { apps, store, catalogue, courier, broker, transitions, clock, supervisor } = parts;
        let (publishes, hints) = (Throttle::default(), Throttle::default());
        let late_matches = Semaphore::new(1);
        let shared = Shared {
            apps,
            store,
            catalogue,
            courier,
            broker,
            transitions,
            clock,
            metrics,
            publishing: supervisor.units("publish"),
            supervisor,
            publishes,
            hints,
            late_matches,
        };
        Self { shared: Arc::new(shared) }
    }

    /// What is known of hooks and listeners.
    pub fn catalogue(&self) -> &Arc<Catalogue> {
        &self.shared.catalogue
    }

    /// The tenants.
    pub fn apps(&self) -> &Arc<Apps> {
        &self.shared.apps
    }

    /// What becomes of channels, on its way to whoever wants to know.
    pub fn transitions(&self) -> &Arc<TransitionQueue> {
        &self.shared.transitions
    }

    /// The time.
    pub fn clock(&self) -> &SharedClock {
        &self.shared.clock
    }

    /// Counts so many events that a server of the app is about to publish, through whichever door.
    ///
    /// # Errors
    /// After how many seconds it may, when these would be more than `publishes_per_second` of the app's limits.
    pub fn may_publish(&self, app: &App, events: u32) -> Result<(), u64> {
        let count = app.limits.publishes_per_second;
        if count > 0 {
            let rate = Rate::per_second(count);
            self.shared.publishes.take(app.id.clone(), events, rate, self.shared.clock.steady_ms())?;
        }
        self.shared.metrics.app_publishes(&app.id, events);
        Ok(())
    }

    /// Says that something happened. Returns after the sync when the event is logged, and after it was handed to the
    /// shards of live sessions. A publication that has begun is finished, even when the caller goes away meanwhile.
    ///
    /// # Errors
    /// [`PublishError`]; nothing of the event is kept then, unless it is [`PublishError::Panicked`].
    pub async fn publish(&self, publication: Publication) -> Result<Receipt, PublishError> {
        check_event_name(&publication.event.name)?;
        self.publish_own(publication).await
    }

    /// Sends an event to one listener alone, whatever it wants: a test of it.
    ///
    /// # Errors
    /// [`PublishError`]; nothing of the event is kept then, unless it is [`PublishError::Panicked`].
    pub async fn test(&self, listener: Arc<Listener>, event: Event) -> Result<Receipt, PublishError> {
        self.working()?;
        if event.name != TEST_EVENT {
            check_event_name(&event.name)?;
        }
        let span = publish_span(&event);
        self.publish_logged(event.into(), Some(listener)).instrument(span).await
    }

    /// [`Bus::publish`] for events of the server's own, whose names are reserved.
    pub(crate) async fn publish_own(&self, publication: Publication) -> Result<Receipt, PublishError> {
        let span = publish_span(&publication.event);
        self.publish_checked(publication).instrument(span).await
    }

    async fn publish_checked(&self, publication: Publication) -> Result<Receipt, PublishError> {
        self.working()?;
        if !publication.event.channels.is_empty() && self.shared.broker.overloaded() {
            self.shared.metrics.publish("overloaded");
            return Err(PublishError::Live(BrokerError::Overloaded));
        }
        self.readable().await?;
        if !self.is_wanted(&publication.event) && publication.idempotency.is_none() {
            self.shared.metrics.publish("unlogged");
            let event = Arc::new(publication.event);
            let said = self.shared.publishing.catch_async(&event.id, self.say(&event)).await;
            let channels = said.map_err(|panicked| PublishError::Panicked { id: event.id.clone(), panicked })??;
            tracing::debug!(logged = false, "published");
            return Ok(Receipt { id: event.id.clone(), channels, ..Receipt::default() });
        }
        self.publish_logged(publication, None).await
    }

    /// Refuses where some part of the node has ended that it cannot do without: what is published would be swallowed.
    fn working(&self) -> Result<(), PublishError> {
        self.shared.supervisor.failure().map_or(Ok(()), |failure| {
            self.shared.metrics.publish("failed");
            Err(PublishError::Failed(failure))
        })
    }

    /// Whether it is known who wants what. Where what changed could not be read, it is tried again: nothing else may
    /// ask for it.
    async fn readable(&self) -> Result<(), PublishError> {
        if self.shared.catalogue.readable().is_ok() {
            return Ok(());
        }
        let read = self.shared.catalogue.sync().await;
        Ok(read.inspect_err(|_| self.shared.metrics.publish("failed"))?)
    }

    /// Whether something durable wants an event of this name.
    pub(crate) fn is_wanted(&self, event: &Event) -> bool {
        self.shared.catalogue.hook(&event.app, &event.name).is_some()
    }

    /// Whether somebody would get a delivery of this event now.
    pub(crate) async fn is_owed(&self, event: &Event) -> Result<bool, PublishError> {
        Ok(!self.wanted(event, None).await?.matched.destinations.is_empty())
    }

    /// Logs, then says it to live sessions.
    async fn publish_logged(
        &self,
        publication: Publication,
        only: Option<Arc<Listener>>,
    ) -> Result<Receipt, PublishError> {
        let (bus, id) = (self.clone(), publication.event.id.clone());
        // Between the commit and the hand-over to the courier nothing may break off: the deliveries are leased to this
        // node, and live sessions hear of everything that is on disk.
        let work = async move { bus.log(publication, only, true).await };
        let receipt = match self.shared.publishing.spawn(id.clone(), work).await {
            Ok(Ok(receipt)) => receipt,
            Ok(Err(panicked)) => Err(PublishError::Panicked { id, panicked }),
            // The runtime ends.
            Err(_) => Err(PublishError::Store(StoreError::Closed)),
        };
        self.shared.metrics.publish(match &receipt {
            Ok(_) => "logged",
            Err(PublishError::Store(_) | PublishError::Panicked { .. }) => "failed",
            Err(_) => "refused",
        });
        receipt
    }

    /// Writes an event to the log, then hands it to the courier and, where it is to be said, to live sessions.
    pub(crate) async fn log(
        &self,
        publication: Publication,
        only: Option<Arc<Listener>>,
        say: bool,
    ) -> Result<Receipt, PublishError> {
        let shared = &self.shared;
        let Publication { event: whole, idempotency, not_before } = publication;
        for _ in 0..MAX_MATCHES {
            let Wanted { hook, matched, selected } = self.wanted(&whole, only.as_deref()).await?;
            // What is kept and said is what the hook lets out: by this version of it, which the store holds the publish
            // to.
            let kept = selected.filter(|_| hook.as_deref().is_some_and(|hook| hook.fields_for == FieldsFor::All));
            let trimmed = kept.map(|data| Event { data, ..whole.clone() });
            let mut destinations = matched.destinations;
            shared.courier.admit(&whole.app, &mut destinations);
            let lease = shared.courier.lease();
            let (now, received_at) = (shared.clock.steady_ms(), shared.clock.wall_ms());
            let publish = Publish {
                event: trimmed.as_ref().unwrap_or(&whole).clone(),
                hook_version: hook.map(|hook| hook.version),
                destinations: destinations.clone(),
                // Schedules go by the steady clock: what counts is how long it is until then.
                not_before: not_before.map(|time| now.saturating_add(time - received_at)),
                catalogue_version: matched.version,
                idempotency: idempotency.clone().map(|key| {
                    let (key, digest) = key.into_parts();
                    Idempotency { key, digest, forget_before: received_at - REMEMBERED }
                }),
                lease,
                now,
                received_at,
            };
            let hook_version = publish.hook_version;
            let deliveries = destinations.len() as u64;
            let durable = shared.store.durable();
            match shared.store.publish(publish).await? {
                Published::Stored { no, leased, queued } => {
                    let (event, whole) = match trimmed {
                        Some(event) => (event, Some(Arc::new(whole))),
                        None => (whole, None),
                    };
                    let id = event.id.clone();
                    shared.metrics.deliveries.inc_by(deliveries);
                    let said = (say && !event.channels.is_empty()).then(|| Arc::new(event.clone()));
                    tracing::debug!(logged = true, deliveries, "published");
                    let logged = Logged { no, event, hook_version, received_at, deliveries };
                    shared.courier.take(logged, &destinations, &leased, lease, queued);
                    let channels = match said {
                        Some(said) => self.say_logged(&said, whole.as_ref()).await,
                        None => Vec::new(),
                    };
                    return Ok(Receipt { id, logged: true, durable, deliveries, channels, repeated: false });
                }
                Published::Repeated { id, deliveries } => {
                    tracing::debug!(first = id, "published before");
                    return Ok(Receipt { id, logged: true, durable, deliveries, channels: Vec::new(), repeated: true });
                }
                Published::IdTaken => return Err(PublishError::IdTaken),
                Published::KeyTaken => return Err(PublishError::KeyTaken),
                Published::StaleCatalogue => shared.catalogue.sync().await?,
            }
        }
        Err(PublishError::Store(StoreError::Overloaded))
    }

    /// The event's hook, and who wants the event: matched on exactly what would be sent.
    async fn wanted(&self, event: &Event, only: Option<&Listener>) -> Result<Wanted, PublishError> {
        let catalogue = &self.shared.catalogue;
        for _ in 0..MAX_MATCHES {
            let hook = catalogue.hook(&event.app, &event.name);
            let selected = hook.as_deref().map(|hook| selected(hook, event)).transpose()?.flatten();
            if let Some(listener) = only {
                let destinations = vec![audience::destination(listener)];
                let matched = Matched { version: catalogue.version(), destinations, late: Vec::new() };
                return Ok(Wanted { hook, matched, selected });
            }
            let version = hook.as_ref().map(|hook| hook.version);
            let found = catalogue.matching(&event.app, &event.name, version, &document(event, selected.as_ref()));
            if let Some(mut matched) = found {
                if !matched.late.is_empty() {
                    let late = std::mem::take(&mut matched.late);
                    matched.destinations.extend(self.match_late(event, selected.clone(), late).await?);
                    matched.destinations.sort_unstable_by_key(|destination| destination.no);
                }
                return Ok(Wanted { hook, matched, selected });
            }
        }
        Err(PublishError::Store(StoreError::Overloaded))
    }

    /// Which of these listeners want the event: their matches are compiled now, on a thread that nobody waits for, one
    /// event after the other.
    async fn match_late(
        &self,
        event: &Event,
        selected: Option<Data>,
        late: Vec<Arc<Listener>>,
    ) -> Result<Vec<Destination>, PublishError> {
        let closed = |_| PublishError::Store(StoreError::Closed);
        let _one_at_a_time =
            self.shared.late_matches.acquire().await.map_err(|_| PublishError::Store(StoreError::Closed))?;
        let event = event.clone();
        let work = move || {
            let document = document(&event, selected.as_ref());
            late.iter()
                .filter(|listener| listener.filter.matches(&document))
                .map(|l| audience::destination(l))
                .collect()
        };
        tokio::task::spawn_blocking(work).await.map_err(closed)
    }
}

/// What the lines of the log about a publish are written in. Nothing of the event's data.
fn publish_span(event: &Event) -> Span {
    tracing::debug_span!("publish", app = %event.app, event = event.id, event_name = event.name)
}

/// What of an event would be sent, as matches see it.
fn document<'e>(event: &'e Event, selected: Option<&'e Data>) -> Document<'e> {
    Document::of(event.op.as_deref(), selected.unwrap_or(&event.data))
}

impl std::fmt::Debug for Bus {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Bus").field("catalogue", &self.shared.catalogue).finish_non_exhaustive()
    }
}

/// What of the event's data its hook lets out; `None` when that is all of it, byte for byte. What the app has encrypted
/// for its clients has no fields that anybody else could see.
pub(crate) fn selected(hook: &Hook, event: &Event) -> Result<Option<Data>, PublishError> {
    let Some(fields) = hook.fields.as_ref().filter(|_| !event.is_encrypted()) else { return Ok(None) };
    let fault = |source| PublishError::Fields { hook: hook.name.clone(), source };
    let raw: &RawValue = event
        .data
        .as_json()
        .and_then(|text| serde_json::from_str(text).ok())
        .ok_or_else(|| fault(FieldTypeError::NotAnObject(payload::NotAnObject)))?;
    payload::check_types(raw, fields).map_err(fault)?;
    payload::select_fields(raw, fields).map_err(|error| fault(FieldTypeError::NotAnObject(error)))
}
