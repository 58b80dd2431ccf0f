//! Publishing: match, log, and hand over to the courier and to live sessions.

use std::pin::pin;
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

/// How long an idempotency key is kept, in milliseconds.
pub(crate) const IDEMPOTENCY_TTL: Millis = 24 * 3_600 * 1_000;
/// The event's name for a test of a listener, unless the caller names another.
pub const TEST_EVENT: &str = "tidings.test";
/// How often a publish is matched again when the catalogue changes meanwhile.
const MAX_MATCHES: usize = 20;

/// An event as a door submits it.
#[derive(Debug, Clone)]
pub struct Publication {
    /// The event. The door has checked that its data is of its content type.
    pub event: Event,
    /// The caller's idempotency key, with a digest of the request.
    pub idempotency: Option<IdempotencyKey>,
    /// No delivery is attempted before this wall time.
    pub not_before: Option<Millis>,
}

impl From<Event> for Publication {
    fn from(event: Event) -> Self {
        Self { event, idempotency: None, not_before: None }
    }
}

/// An event's hook and destinations, and the data that they get.
struct MatchedEvent {
    hook: Option<Arc<Hook>>,
    matched: Matched,
    /// The data without the fields that the hook does not declare; `None` when no field was removed.
    selected: Option<Data>,
}

/// The result of a publish.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Receipt {
    /// The event's id; for a repeat, the id of the first event.
    pub id: String,
    /// Whether the event is in the log.
    pub logged: bool,
    /// Whether the event would survive a power cut.
    pub durable: bool,
    /// The number of deliveries that were created.
    pub deliveries: u64,
    /// The outcome in each of the event's channels, in their order; empty for a repeat, which is not sent to sessions
    /// again.
    pub channels: Vec<PublishOutcome>,
    /// Whether the request repeats an earlier one; then this is the earlier one's receipt.
    pub repeated: bool,
}

impl Receipt {
    /// Whether the event has reached only this node's sessions in one of its channels.
    pub fn is_degraded(&self) -> bool {
        self.channels.iter().any(|outcome| outcome.local_only)
    }
}

/// What a bus is built from.
pub struct Parts {
    /// The apps (tenants).
    pub apps: Arc<Apps>,
    /// The store.
    pub store: Arc<dyn Store>,
    /// The hooks and listeners of that store.
    pub catalogue: Arc<Catalogue>,
    /// The courier, started on that store.
    pub courier: Courier,
    /// The broker, which sends to live sessions.
    pub broker: Arc<dyn Broker>,
    /// The queue of the broker's transitions.
    pub transitions: Arc<TransitionQueue>,
    /// The clock.
    pub clock: SharedClock,
    /// Owns the bus's tasks.
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
    /// Publishes, as units: a panic fails that publish alone.
    pub(crate) publishing: Units,
    publishes: Throttle<AppId>,
    pub(crate) hints: Throttle<AppId>,
    /// Lets only one event at a time try expensive matches.
    late_matches: Semaphore,
}

/// The one way in. Clones share one bus.
#[derive(Clone)]
pub struct Bus {
    pub(crate) shared: Arc<Shared>,
}

impl Bus {
    /// A bus from its parts; its tasks are not started yet.
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

    /// The hooks and listeners.
    pub fn catalogue(&self) -> &Arc<Catalogue> {
        &self.shared.catalogue
    }

    /// The apps (tenants).
    pub fn apps(&self) -> &Arc<Apps> {
        &self.shared.apps
    }

    /// The queue of channel transitions that are to be published as events.
    pub fn transitions(&self) -> &Arc<TransitionQueue> {
        &self.shared.transitions
    }

    /// The clock.
    pub fn clock(&self) -> &SharedClock {
        &self.shared.clock
    }

    /// Applies the app's limit `publishes_per_second` to this many events of the app's servers, through any door.
    ///
    /// # Errors
    /// When the limit would be exceeded: the number of seconds after which to try again.
    pub fn may_publish(&self, app: &App, events: u32) -> Result<(), u64> {
        let count = app.limits.publishes_per_second;
        if count > 0 {
            let rate = Rate::per_second(count);
            self.shared.publishes.take(app.id.clone(), events, rate, self.shared.clock.steady_ms())?;
        }
        self.shared.metrics.app_publishes(&app.id, events);
        Ok(())
    }

    /// Publishes an event. Returns after the event is on disk, if it is logged, and is in the inboxes of the shards. A
    /// publish that has begun is finished even if the caller goes away meanwhile.
    ///
    /// # Errors
    /// [`PublishError`]; then nothing of the event is kept, except perhaps after [`PublishError::Panicked`].
    pub async fn publish(&self, publication: Publication) -> Result<Receipt, PublishError> {
        check_event_name(&publication.event.name)?;
        self.publish_own(publication).await
    }

    /// Tests a listener: sends an event to it alone, whatever its hooks and match are.
    ///
    /// # Errors
    /// [`PublishError`]; then nothing of the event is kept, except perhaps after [`PublishError::Panicked`].
    pub async fn test(&self, listener: Arc<Listener>, event: Event) -> Result<Receipt, PublishError> {
        self.check_running()?;
        if event.name != TEST_EVENT {
            check_event_name(&event.name)?;
        }
        let span = publish_span(&event);
        self.publish_logged(event.into(), Some(listener)).instrument(span).await
    }

    /// [`Bus::publish`] for Tidings' own events, whose names are reserved.
    pub(crate) async fn publish_own(&self, publication: Publication) -> Result<Receipt, PublishError> {
        let span = publish_span(&publication.event);
        // Pinned here, because each wrapper around a future copies it.
        pin!(self.publish_checked(publication)).instrument(span).await
    }

    async fn publish_checked(&self, publication: Publication) -> Result<Receipt, PublishError> {
        self.check_running()?;
        if !publication.event.channels.is_empty() && self.shared.broker.overloaded() {
            self.shared.metrics.publish("overloaded");
            return Err(PublishError::Live(BrokerError::Overloaded));
        }
        self.check_catalogue().await?;
        if !self.has_hook(&publication.event) && publication.idempotency.is_none() {
            self.shared.metrics.publish("unlogged");
            let event = Arc::new(publication.event);
            let live = pin!(self.publish_live(&event));
            let result = self.shared.publishing.catch_async(&event.id, live).await;
            let channels = result.map_err(|panicked| PublishError::Panicked { id: event.id.clone(), panicked })??;
            tracing::debug!(logged = false, "published");
            return Ok(Receipt { id: event.id.clone(), channels, ..Receipt::default() });
        }
        self.publish_logged(publication, None).await
    }

    /// Refuses if a required thread or task of the node has ended, because events might be lost.
    fn check_running(&self) -> Result<(), PublishError> {
        self.shared.supervisor.failure().map_or(Ok(()), |failure| {
            self.shared.metrics.publish("failed");
            Err(PublishError::Failed(failure))
        })
    }

    /// Checks that the catalogue is up to date. If the last change of it could not be read, reads it again, since
    /// nothing else may do so.
    async fn check_catalogue(&self) -> Result<(), PublishError> {
        if self.shared.catalogue.readable().is_ok() {
            return Ok(());
        }
        let read = self.shared.catalogue.sync().await;
        Ok(read.inspect_err(|_| self.shared.metrics.publish("failed"))?)
    }

    /// Whether the event's name is a hook, so that the event is logged.
    pub(crate) fn has_hook(&self, event: &Event) -> bool {
        self.shared.catalogue.hook(&event.app, &event.name).is_some()
    }

    /// Whether a listener would get a delivery of this event now.
    pub(crate) async fn has_destinations(&self, event: &Event) -> Result<bool, PublishError> {
        Ok(!self.match_event(event, None).await?.matched.destinations.is_empty())
    }

    /// Logs an event, then sends it to live sessions.
    async fn publish_logged(
        &self,
        publication: Publication,
        only: Option<Arc<Listener>>,
    ) -> Result<Receipt, PublishError> {
        let (bus, id) = (self.clone(), publication.event.id.clone());
        // A task of its own, because the work between the commit and the hand-over must not be cancelled: the
        // deliveries
        // are leased to this node, and live sessions must get every event that is on disk.
        let work = async move { bus.log(publication, only, true).await };
        let receipt = match self.shared.publishing.spawn(id.clone(), work).await {
            Ok(Ok(receipt)) => receipt,
            Ok(Err(panicked)) => Err(PublishError::Panicked { id, panicked }),
            // The runtime is shutting down.
            Err(_) => Err(PublishError::Store(StoreError::Closed)),
        };
        self.shared.metrics.publish(match &receipt {
            Ok(_) => "logged",
            Err(PublishError::Store(_) | PublishError::Panicked { .. }) => "failed",
            Err(_) => "refused",
        });
        receipt
    }

    /// Writes an event to the log, then hands it to the courier and, if `live`, to live sessions.
    pub(crate) async fn log(
        &self,
        publication: Publication,
        only: Option<Arc<Listener>>,
        live: bool,
    ) -> Result<Receipt, PublishError> {
        let shared = &self.shared;
        let Publication { event: whole, idempotency, not_before } = publication;
        for _ in 0..MAX_MATCHES {
            let MatchedEvent { hook, matched, selected } = self.match_event(&whole, only.as_deref()).await?;
            // Log and sessions get the hook's declared fields only, by this version of the hook. The store refuses the
            // publish if the hook has changed since.
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
                // Schedules use the steady clock, so the wall time is converted to a duration from now.
                not_before: not_before.map(|time| now.saturating_add(time - received_at)),
                catalogue_version: matched.version,
                idempotency: idempotency.clone().map(|key| {
                    let (key, digest) = key.into_parts();
                    Idempotency { key, digest, forget_before: received_at - IDEMPOTENCY_TTL }
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
                    let live_event = (live && !event.channels.is_empty()).then(|| Arc::new(event.clone()));
                    tracing::debug!(logged = true, deliveries, "published");
                    let logged = Logged { no, event, hook_version, received_at, deliveries };
                    shared.courier.take(logged, &destinations, &leased, lease, queued);
                    let channels = match live_event {
                        Some(live_event) => self.publish_logged_live(&live_event, whole.as_ref()).await,
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

    /// Finds the event's hook and destinations. Matches see exactly the data that would be sent.
    async fn match_event(&self, event: &Event, only: Option<&Listener>) -> Result<MatchedEvent, PublishError> {
        let catalogue = &self.shared.catalogue;
        for _ in 0..MAX_MATCHES {
            let hook = catalogue.hook(&event.app, &event.name);
            let selected = hook.as_deref().map(|hook| select_fields(hook, event)).transpose()?.flatten();
            if let Some(listener) = only {
                let destinations = vec![audience::destination(listener)];
                let matched = Matched { version: catalogue.version(), destinations, late: Vec::new() };
                return Ok(MatchedEvent { hook, matched, selected });
            }
            let version = hook.as_ref().map(|hook| hook.version);
            let found = catalogue.matching(&event.app, &event.name, version, &document(event, selected.as_ref()));
            if let Some(mut matched) = found {
                if !matched.late.is_empty() {
                    let late = std::mem::take(&mut matched.late);
                    matched.destinations.extend(self.match_late(event, selected.clone(), late).await?);
                    matched.destinations.sort_unstable_by_key(|destination| destination.no);
                }
                return Ok(MatchedEvent { hook, matched, selected });
            }
        }
        Err(PublishError::Store(StoreError::Overloaded))
    }

    /// Which of these listeners get the event. Their expensive matches are compiled now, on a blocking thread, for one
    /// event at a time.
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

/// The span of a publish. It has nothing of the event's data.
fn publish_span(event: &Event) -> Span {
    tracing::debug_span!("publish", app = %event.app, event = event.id, event_name = event.name)
}

/// The data that would be sent, as matches see it.
fn document<'e>(event: &'e Event, selected: Option<&'e Data>) -> Document<'e> {
    Document::of(event.op.as_deref(), selected.unwrap_or(&event.data))
}

impl std::fmt::Debug for Bus {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Bus").field("catalogue", &self.shared.catalogue).finish_non_exhaustive()
    }
}

/// The declared fields of the event's data; `None` when all of the data is sent, byte for byte. Data that the app has
/// encrypted for its clients has no visible fields, so it is sent whole.
pub(crate) fn select_fields(hook: &Hook, event: &Event) -> Result<Option<Data>, PublishError> {
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
