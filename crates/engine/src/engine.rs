//! Building and stopping.

use std::io;
use std::path::Path;
use std::sync::atomic::AtomicI64;
use std::sync::{Arc, Weak};
use std::time::Duration;

use axum::Router;
use parking_lot::Mutex;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use tidings_broker::{Broker, MemoryBroker, MemoryLimits, RedisBroker, RedisUrlError, TransitionSink};
use tidings_bus::{Apps, AppsError, Bus, Catalogue, ManageError, Parts, Transitions};
use tidings_courier::Courier;
use tidings_courier::egress::{Egress, EgressError};
use tidings_door_api::{ApiDoor, StandardWebhooks};
use tidings_door_pusher::{PusherDoor, PusherWebhooks};
use tidings_live::{CloseReason, Inboxes, Live};
use tidings_model::clock::SharedClock;
use tidings_store::postgres::{self, OpenError, PostgresStore};
use tidings_store::queue::Depth;
use tidings_store::seal::{MainKey, MainKeyError};
use tidings_store::sqlite::SqliteStore;
use tidings_store::{Store, StoreError};
use tokio::time::MissedTickBehavior;

use crate::config::{BrokerConfig, Config, StoreConfig};
use crate::counts::{self, Counted, Counts};
use crate::histories::HistoryFile;
use crate::nodes::{self, IncompatibleNode};
use crate::outlets::Outlets;
use crate::retention::Retainer;

/// How often the broker is asked to drop what has expired.
const SWEEP: Duration = Duration::from_secs(1);

/// How long a start waits for the broker. Without it joins are refused, and not every client asks again; a node that never
/// starts would help nobody either.
const MEETING: Duration = Duration::from_secs(5);
/// How often is looked whether the broker is there.
const LOOK: Duration = Duration::from_millis(10);

/// How long clients that nobody takes over may take to hear the last word. They come back a second after it, and the next
/// start should be there by then. A broker elsewhere is given longer, to hear who has gone.
const LAST_WORD: Duration = Duration::from_millis(250);
const LAST_WORD_SHARED: Duration = Duration::from_secs(1);
/// How long the store may take to say whether there are other nodes, when this one stops.
const LAST_LOOK: Duration = Duration::from_secs(1);

/// How often a node looks for what others changed in the catalogue.
const FOLLOW: Duration = Duration::from_millis(250);

/// Why an engine could not be built.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// The store cannot be opened or read.
    #[error("the store cannot be used")]
    Store(#[from] StoreError),
    /// PostgreSQL cannot be used.
    #[error("the store cannot be used")]
    Postgres(#[from] OpenError),
    /// The main key cannot be read or made.
    #[error(transparent)]
    MainKey(#[from] MainKeyError),
    /// The settings of outgoing requests cannot be used.
    #[error(transparent)]
    Egress(#[from] EgressError),
    /// The broker cannot be what it is to be.
    #[error("the broker cannot be used")]
    Broker(#[from] RedisUrlError),
    /// Another node does not go with this one.
    #[error(transparent)]
    Nodes(#[from] IncompatibleNode),
    /// The apps' webhooks cannot be written to the store.
    #[error("the apps' webhooks cannot be kept")]
    Webhooks(#[from] ManageError),
    /// The apps cannot be told apart.
    #[error(transparent)]
    Apps(#[from] AppsError),
    /// The system gives no more threads or file descriptors to live sessions.
    #[error("live sessions cannot be served")]
    Live(#[source] io::Error),
    /// The task that opens the store was broken off.
    #[error("the store was not opened")]
    Broken,
}

/// How the engine stands.
#[derive(Debug, Clone)]
pub struct Readiness {
    /// Which store it is.
    pub store: &'static str,
    /// Why the store cannot be written, when it cannot.
    pub store_error: Option<String>,
    /// How many nodes share the store, this one among them; `None` when the store does not say.
    pub nodes: Option<u64>,
    /// Open work.
    pub depth: Depth,
    /// Which broker it is.
    pub broker: &'static str,
    /// It cannot be reached: what is said reaches this node's sessions only, or is refused.
    pub cut_off: bool,
    /// Live sessions.
    pub sessions: usize,
    /// Attempts under way.
    pub in_flight: usize,
    /// Bytes of deliveries held in memory.
    pub held_bytes: usize,
}

/// Everything that runs. Clones share one engine.
#[derive(Clone)]
pub struct Engine {
    store: Arc<dyn Store>,
    courier: Courier,
    broker: Arc<dyn Broker>,
    bus: Bus,
    live: Live,
    api: ApiDoor,
    pusher: PusherDoor,
    counts: Arc<Counts>,
    registry: Arc<Mutex<Registry>>,
    histories: Option<HistoryFile>,
}

impl Engine {
    /// Builds everything, in order, and starts to deliver what is owed. A broker that other nodes share is waited for, for
    /// a few seconds: what cannot reach it then begins as what has lost it goes on.
    ///
    /// # Errors
    /// [`EngineError`]; nothing runs then.
    pub async fn build(config: Config) -> Result<Self, EngineError> {
        let mut registry = Registry::with_prefix("tidings");
        let apps = Apps::new(config.apps)?;
        let apps = Arc::new(match config.app_reader {
            Some(reader) => apps.read_by(reader),
            None => apps,
        });
        let shared = matches!(config.store, StoreConfig::Postgres { .. });
        let store = open(config.store, config.main_key_file.clone()).await?;
        if shared && let Err(error) = nodes::enter(&*store, config.broker.name()).await {
            store.close().await;
            return Err(error);
        }
        let catalogue = Catalogue::load(Arc::clone(&store), Arc::clone(&apps)).await?;
        if shared {
            tokio::spawn(nodes::stay(Arc::downgrade(&store), config.broker.name()));
            tokio::spawn(follow(Arc::downgrade(&catalogue)));
        }
        let egress = Egress::new(config.egress)?;
        let clock = config.clock;
        let outlets = Arc::new(Outlets {
            standard: StandardWebhooks::new(Arc::clone(&catalogue), &config.courier),
            pusher: PusherWebhooks::new(Arc::clone(&apps), Arc::clone(&catalogue), &config.courier),
            catalogue: Arc::clone(&catalogue),
        });
        let (courier, notices) = Courier::start(
            Arc::clone(&store),
            outlets,
            egress.clone(),
            Arc::clone(&clock),
            config.courier,
            &mut registry,
        )
        .await?;
        let retainer = Retainer::new(Arc::clone(&store), Arc::clone(&clock), config.keep, &mut registry);
        tokio::spawn(retainer.run());
        let inboxes = Inboxes::new(config.shards, &config.live, Arc::clone(&clock)).map_err(EngineError::Live)?;
        let transitions = Transitions::new(Arc::clone(&catalogue), Arc::clone(&clock), config.rejoin_within);
        let last_presence_number = store.last_presence_number().await?;
        let keeps = matches!(config.broker, BrokerConfig::Memory { keep_over_restart: true });
        let (broker, memory) = broker(config.broker, &apps, &clock, &inboxes, &transitions, last_presence_number)?;
        let histories = match memory.filter(|_| keeps) {
            Some(memory) => {
                let key = main_key(config.main_key_file).await?;
                let file =
                    HistoryFile::new(memory, config.histories_file, key, Arc::clone(&clock), store.incarnation());
                file.clone().restore().await;
                Some(file)
            }
            None => {
                HistoryFile::discard(config.histories_file).await;
                None
            }
        };
        let cut_off = Gauge::<i64, AtomicI64>::default();
        registry.register("broker_cut_off", "1 while other nodes cannot be reached", cut_off.clone());
        tokio::spawn(sweep(Arc::downgrade(&broker), cut_off));
        let parts = Parts {
            apps,
            store: Arc::clone(&store),
            catalogue,
            courier: courier.clone(),
            broker: Arc::clone(&broker),
            transitions,
            clock: Arc::clone(&clock),
        };
        let bus = Bus::new(parts, notices, &mut registry);
        for app in bus.apps().all() {
            bus.settle_webhooks(&app).await?;
        }
        let handler = Arc::new(bus.clone());
        let runtime = tokio::runtime::Handle::current();
        let live =
            Live::start(inboxes, config.live, clock, handler, runtime, &mut registry).map_err(EngineError::Live)?;
        let pusher = PusherDoor::new(bus.clone(), live.clone(), config.keep_alive);
        let api = ApiDoor::new(bus.clone(), live.clone(), egress, config.operator_key);
        let counts = Arc::new(Counts::new(Arc::clone(&store), Arc::clone(bus.clock()), &mut registry));
        tokio::spawn(counts::keep_fresh(Arc::downgrade(&counts)));
        meet(&*broker).await;
        Ok(Self {
            store,
            courier,
            broker,
            bus,
            live,
            api,
            pusher,
            counts,
            registry: Arc::new(Mutex::new(registry)),
            histories,
        })
    }

    /// Every door, as one router.
    pub fn router(&self) -> Router {
        tidings_door_api::router(self.api.clone()).merge(tidings_door_pusher::router(self.pusher.clone()))
    }

    /// What to send to a client that asks for a session where there is no room for its connection: the whole answer, in its
    /// protocol's words. `None` for any other request.
    pub fn no_room(&self, request: &http::Request<()>) -> Option<Vec<u8>> {
        let (status, headers, told) = tidings_door_pusher::no_room(request)?;
        let mut answer = tidings_wire::response_head(status, &headers, self.bus.clock().wall_ms());
        answer.extend_from_slice(&told);
        Some(answer.to_vec())
    }

    /// The way in for programs that embed the engine.
    pub fn bus(&self) -> &Bus {
        &self.bus
    }

    /// What is counted, for `/metrics`; a host may mount it under a prefix of its own.
    pub fn registry(&self) -> &Arc<Mutex<Registry>> {
        &self.registry
    }

    /// How it stands, for `/readyz`. The store is asked once a second at most, however often this is.
    pub async fn readiness(&self) -> Readiness {
        let Counted { store_error, nodes, depth } = self.counts.get().await;
        let (in_flight, held_bytes) = self.courier.load();
        let store_error = store_error.or_else(|| Some(self.bus.catalogue().readable().err()?.to_string()));
        Readiness {
            store: self.store.name(),
            store_error,
            nodes,
            depth,
            broker: self.broker.name(),
            cut_off: self.broker.is_cut_off(),
            sessions: self.live.sizes().sessions,
            in_flight,
            held_bytes,
        }
    }

    /// Sends live sessions to the nodes that take over, from where they are expected back: each is told in its protocol's
    /// way, spread over most of `grace`. Where none does, they stay until all else has ended ([`Engine::stop`]), so that the
    /// next start comes as soon as possible after their clients are told; only those that are requests under way end now.
    pub async fn stop_live(&self, grace: Duration) {
        self.bus.transitions().leave();
        if self.is_alone().await {
            self.live.end_streams();
        } else {
            self.live.stop(grace, CloseReason::GoingAway).await;
        }
    }

    /// Stops: lets attempts under way end for at most `grace`, writes their results, sends away the live sessions that are
    /// still there, closes the store.
    pub async fn stop(&self, grace: Duration) {
        self.bus.transitions().leave();
        if self.live.sizes().slots == 0 {
            self.bus.transitions().drain(grace).await;
        }
        self.courier.stop(grace).await;
        let last_word = if self.broker.name() == "memory" { LAST_WORD } else { LAST_WORD_SHARED };
        self.live.stop(last_word, CloseReason::Restarting).await;
        self.bus.transitions().drain(grace).await;
        if let Some(histories) = self.histories.clone() {
            histories.save().await;
        }
        self.store.close().await;
    }

    /// Whether no other node takes over what this one leaves.
    async fn is_alone(&self) -> bool {
        if self.broker.name() == "memory" {
            return true;
        }
        // A database that says nothing holds up the end no longer than this.
        let nodes = tokio::time::timeout(LAST_LOOK, self.store.nodes()).await;
        nodes.is_ok_and(|nodes| nodes.is_ok_and(|nodes| nodes <= 1))
    }
}

impl std::fmt::Debug for Engine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Engine").field("store", &self.store).finish_non_exhaustive()
    }
}

async fn main_key(file: std::path::PathBuf) -> Result<Arc<MainKey>, EngineError> {
    let key = tokio::task::spawn_blocking(move || MainKey::load_or_create(&file));
    Ok(Arc::new(key.await.map_err(|_| EngineError::Broken)??))
}

/// The broker, and once more as what it is where a restart keeps its histories.
type Brokers = (Arc<dyn Broker>, Option<Arc<MemoryBroker>>);

fn broker(
    config: BrokerConfig,
    apps: &Apps,
    clock: &SharedClock,
    inboxes: &Inboxes,
    transitions: &Arc<Transitions>,
    last_presence_number: i64,
) -> Result<Brokers, EngineError> {
    let (clock, shards) = (Arc::clone(clock), Arc::new(inboxes.clone()));
    let watch = Arc::clone(transitions) as Arc<dyn TransitionSink>;
    Ok(match config {
        BrokerConfig::Memory { .. } => {
            let apps = apps.all().iter().map(|app| (app.id.clone(), app.limits.history)).collect();
            let limits = MemoryLimits { apps, ..MemoryLimits::default() };
            // What is numbered now comes after all that was numbered before.
            let last = clock.wall_ms().saturating_mul(1_000).max(last_presence_number).unsigned_abs();
            let memory = Arc::new(MemoryBroker::new(clock, shards, limits).with_transitions(watch, last));
            (Arc::clone(&memory) as Arc<dyn Broker>, Some(memory))
        }
        BrokerConfig::Redis(settings) => (Arc::new(RedisBroker::start(*settings, clock, shards, watch)?), None),
    })
}

/// Waits until other nodes can be reached, or for long enough.
async fn meet(broker: &dyn Broker) {
    let met = tokio::time::timeout(MEETING, async {
        while broker.is_cut_off() {
            tokio::time::sleep(LOOK).await;
        }
    });
    if met.await.is_err() {
        tracing::warn!(
            broker = broker.name(),
            "the broker cannot be reached; starting without it: joins are refused until it is there, and what is said reaches this node's \
             sessions only"
        );
    }
}

/// Has the broker drop what has expired, and tells whether it can be reached, for as long as it is there.
async fn sweep(broker: Weak<dyn Broker>, cut_off: Gauge<i64, AtomicI64>) {
    let mut every = tokio::time::interval(SWEEP);
    loop {
        every.tick().await;
        let Some(broker) = broker.upgrade() else { return };
        cut_off.set(i64::from(broker.is_cut_off()));
        broker.sweep().await;
    }
}

/// Takes over what other nodes change in the catalogue, for as long as it is there.
async fn follow(catalogue: Weak<Catalogue>) {
    let mut every = tokio::time::interval(FOLLOW);
    every.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut failing = false;
    loop {
        every.tick().await;
        let Some(catalogue) = catalogue.upgrade() else { return };
        match catalogue.sync().await {
            Ok(()) => failing = false,
            Err(StoreError::Closed) => return,
            Err(error) => {
                // Once, or each look would fill the log while the database is away.
                if !std::mem::replace(&mut failing, true) {
                    tracing::warn!(%error, "what other nodes changed cannot be read; trying again");
                }
            }
        }
    }
}

async fn open(config: StoreConfig, main_key_file: std::path::PathBuf) -> Result<Arc<dyn Store>, EngineError> {
    match config {
        StoreConfig::Sqlite { path, sync } => {
            // Opening reads files and may migrate: not on a thread that others share.
            let opened = tokio::task::spawn_blocking(move || -> Result<Arc<dyn Store>, EngineError> {
                let key = match MainKey::load(&main_key_file)? {
                    None if SqliteStore::holds_secrets(&path)? => return Err(missing(&main_key_file)),
                    None => MainKey::load_or_create(&main_key_file)?,
                    Some(key) => key,
                };
                Ok(Arc::new(SqliteStore::open(&path, sync, key)?))
            });
            opened.await.map_err(|_| EngineError::Broken)?
        }
        StoreConfig::Postgres { url, node, options } => {
            let file = main_key_file.clone();
            let there = tokio::task::spawn_blocking(move || MainKey::load(&file));
            let key = match there.await.map_err(|_| EngineError::Broken)?? {
                None if postgres::holdings(url.expose(), &options).await?.secrets => {
                    return Err(missing(&main_key_file));
                }
                None => {
                    let made = tokio::task::spawn_blocking(move || MainKey::load_or_create(&main_key_file));
                    made.await.map_err(|_| EngineError::Broken)??
                }
                Some(key) => key,
            };
            Ok(Arc::new(PostgresStore::open(url.expose(), &node, &options, key).await?))
        }
    }
}

fn missing(main_key_file: &Path) -> EngineError {
    MainKeyError::Missing { path: main_key_file.display().to_string() }.into()
}
