//! Starting and stopping a node.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use prometheus_client::encoding::text;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use tidings_broker::{Broker, MemoryBroker};
use tidings_bus::{Apps, Bus, Catalogue, Parts, TransitionQueue};
use tidings_courier::Courier;
use tidings_courier::egress::Egress;
use tidings_live::{CloseReason, Inboxes, Live};
use tidings_model::clock::SharedClock;
use tidings_store::Store;
use tidings_supervisor::{Failure, Supervisor, Units};
use tokio::runtime::Handle;

use crate::config::{BrokerConfig, Config, StoreConfig};
use crate::counts::{self, Counts, StoreStatus};
use crate::error::NodeError;
use crate::histories::HistoryFile;
use crate::opening::{self, BrokerParts};
use crate::readiness::Readiness;
use crate::retention::Retainer;
use crate::webhooks::{NamedFormat, WebhookParts, Webhooks};
use crate::{membership, upkeep};

/// How long sessions may take to receive their close message at a stop that no other node takes over. Clients reconnect
/// a second after it, and the next start should be ready by then. A shared broker gets longer, to receive the leaves.
const CLOSE_TIMEOUT: Duration = Duration::from_millis(250);
const CLOSE_TIMEOUT_SHARED: Duration = Duration::from_secs(1);
/// How long a stop waits for the store to say whether there are other nodes.
const NODES_TIMEOUT: Duration = Duration::from_secs(1);

/// A running node.
///
/// Dropping it ends all of its threads and tasks and closes its files and sockets, a moment later and without waiting
/// for anything; [`Node::stop`] is the orderly way. Clones of its bus or its live sessions then answer that it is
/// closing.
pub struct Node {
    supervisor: Supervisor,
    runtime: Handle,
    store: Arc<dyn Store>,
    courier: Courier,
    broker: Arc<dyn Broker>,
    bus: Bus,
    live: Live,
    egress: Egress,
    counts: Arc<Counts>,
    registry: Mutex<Registry>,
    histories: Option<HistoryFile>,
    has_stopped: AtomicBool,
}

impl Node {
    /// Starts all parts in order, and begins with pending deliveries. `formats` are the doors' webhook formats. Waits a
    /// few seconds for a shared broker; if it cannot be reached, the node starts in the same state as a node that has
    /// lost its broker.
    ///
    /// Must be called in a Tokio runtime.
    ///
    /// # Errors
    /// [`NodeError`]; then nothing is left running.
    pub async fn start(
        config: Config,
        formats: impl FnOnce(&WebhookParts<'_>) -> Vec<NamedFormat> + Send,
    ) -> Result<Self, NodeError> {
        let mut registry = Registry::with_prefix("tidings");
        let supervisor = Supervisor::new(&mut registry);
        // Ends what was started, even if this future is dropped before it completes.
        let mut guard = StartGuard { supervisor: supervisor.clone(), store: None, has_started: false };
        match assemble(config, formats, registry, &mut guard).await {
            Ok(node) => {
                guard.has_started = true;
                Ok(node)
            }
            Err(error) => {
                supervisor.join().await;
                if let Some(store) = guard.store.take() {
                    store.close().await;
                }
                Err(error)
            }
        }
    }

    /// The bus, through which doors publish.
    pub fn bus(&self) -> &Bus {
        &self.bus
    }

    /// The live sessions.
    pub fn live(&self) -> &Live {
        &self.live
    }

    /// The HTTP client, which checks URLs when listeners are created.
    pub fn egress(&self) -> &Egress {
        &self.egress
    }

    /// All metrics, as OpenMetrics text.
    pub fn metrics(&self) -> String {
        let mut metrics = String::new();
        // Writing to a string does not fail.
        text::encode(&mut metrics, &self.registry.lock()).unwrap_or_default();
        metrics
    }

    /// Waits until a required thread or task has ended. From then on the node takes no more events, and must be
    /// restarted.
    pub fn failed(&self) -> impl Future<Output = Failure> + Send + use<> {
        let supervisor = self.supervisor.clone();
        async move { supervisor.failed().await }
    }

    /// A kind of unit of work on this node. A panic in a unit is counted, and affects no other unit.
    pub fn units(&self, kind: &'static str) -> Units {
        self.supervisor.units(kind)
    }

    /// The node's status. The store is queried at most once a second, however often this is called.
    pub async fn readiness(&self) -> Readiness {
        let StoreStatus { store_error, nodes, depth } = self.counts.get().await;
        let (in_flight, held_bytes) = self.courier.load();
        let store_error = store_error.or_else(|| Some(self.bus.catalogue().readable().err()?.to_string()));
        Readiness {
            failure: self.supervisor.failure().map(|failure| failure.to_string()),
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

    /// Asks live sessions to reconnect to another node, in their protocol's way, spread over most of `grace`. If there
    /// is
    /// no other node, sessions stay until everything else has ended ([`Node::stop`]), so that the time between their
    /// close message and the next start is as short as possible. Only sessions that are HTTP responses end now.
    pub async fn stop_live(&self, grace: Duration) {
        self.supervisor.stop();
        self.bus.transitions().expect_rejoins();
        if self.is_alone().await {
            self.live.end_streams();
        } else {
            self.live.stop(grace, CloseReason::GoingAway).await;
        }
    }

    /// Stops the node: waits at most `grace` for attempts in flight, writes their results, closes the remaining live
    /// sessions, closes the store.
    pub async fn stop(&self, grace: Duration) {
        self.supervisor.stop();
        self.bus.transitions().expect_rejoins();
        if self.live.sizes().slots == 0 {
            self.bus.transitions().drain(grace).await;
        }
        self.courier.stop(grace).await;
        let close_timeout = if self.broker.name() == "memory" { CLOSE_TIMEOUT } else { CLOSE_TIMEOUT_SHARED };
        self.live.stop(close_timeout, CloseReason::Restarting).await;
        self.bus.transitions().drain(grace).await;
        if let Some(histories) = self.histories.clone() {
            histories.save().await;
        }
        self.has_stopped.store(true, Ordering::Release);
        self.store.close().await;
        self.supervisor.join().await;
    }

    /// Whether there is no other node that could take over this node's sessions.
    async fn is_alone(&self) -> bool {
        if self.broker.name() == "memory" {
            return true;
        }
        // A database that does not answer delays the stop no longer than this.
        let nodes = tokio::time::timeout(NODES_TIMEOUT, self.store.nodes()).await;
        nodes.is_ok_and(|nodes| nodes.is_ok_and(|nodes| nodes <= 1))
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.supervisor.end();
        self.live.end();
        if !self.has_stopped.load(Ordering::Acquire) {
            let store = Arc::clone(&self.store);
            // If the runtime has ended, the task is dropped, and the store closes with its last reference.
            self.runtime.spawn(async move { store.close().await });
        }
    }
}

impl fmt::Debug for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Node").field("store", &self.store).field("supervisor", &self.supervisor).finish_non_exhaustive()
    }
}

/// A start in progress. If dropped before the start has completed, it ends what was started.
struct StartGuard {
    supervisor: Supervisor,
    store: Option<Arc<dyn Store>>,
    has_started: bool,
}

impl Drop for StartGuard {
    fn drop(&mut self) {
        if !self.has_started {
            self.supervisor.end();
        }
    }
}

async fn assemble(
    config: Config,
    formats: impl FnOnce(&WebhookParts<'_>) -> Vec<NamedFormat> + Send,
    mut registry: Registry,
    guard: &mut StartGuard,
) -> Result<Node, NodeError> {
    let (supervisor, clock) = (guard.supervisor.clone(), config.clock);
    let apps = Apps::new(config.apps)?;
    let apps = Arc::new(match config.app_reader {
        Some(reader) => apps.read_by(reader),
        None => apps,
    });
    let (broker_name, shared) = (config.broker.name(), matches!(config.store, StoreConfig::Postgres { .. }));
    let store = opening::store(config.store, config.main_key_file.clone(), &supervisor).await?;
    guard.store = Some(Arc::clone(&store));
    if shared {
        membership::join(&*store, broker_name).await?;
    }
    let catalogue = Catalogue::load(Arc::clone(&store), Arc::clone(&apps)).await?;
    if shared {
        supervisor.service("node-membership", membership::send_heartbeats(Arc::clone(&store), broker_name));
        supervisor.service("catalogue-sync", upkeep::sync_catalogue(Arc::clone(&catalogue)));
    }
    let egress =
        Egress::new(tidings_courier::egress::EgressConfig { supervisor: supervisor.clone(), ..config.egress })?;
    let parts = WebhookParts { apps: &apps, catalogue: &catalogue, settings: &config.courier };
    let outlet = Arc::new(Webhooks::new(Arc::clone(&catalogue), formats(&parts)));
    let starting = Courier::start(
        Arc::clone(&store),
        outlet,
        egress.clone(),
        Arc::clone(&clock),
        config.courier,
        &mut registry,
        &supervisor,
    );
    let (courier, notices) = starting.await?;
    let retainer = Retainer::new(Arc::clone(&store), Arc::clone(&clock), config.keep, &mut registry);
    supervisor.service("retention", retainer.run());
    let inboxes = Inboxes::new(config.shards, &config.live, Arc::clone(&clock)).map_err(NodeError::Live)?;
    let transitions = TransitionQueue::new(Arc::clone(&catalogue), Arc::clone(&clock), config.rejoin_within);
    let keeps = matches!(config.broker, BrokerConfig::Memory { keep_over_restart: true });
    let parts = BrokerParts {
        apps: &apps,
        clock: &clock,
        inboxes: &inboxes,
        transitions: &transitions,
        last_presence_number: store.last_presence_number().await?,
        supervisor: &supervisor,
    };
    let (broker, memory) = opening::broker(config.broker, &parts)?;
    let kept = memory.filter(|_| keeps);
    let histories = histories(kept, config.histories_file, config.main_key_file, &clock, &store).await?;
    let cut_off = Gauge::<i64, AtomicI64>::default();
    registry.register("broker_cut_off", "1 while other nodes cannot be reached", cut_off.clone());
    supervisor.service("broker-sweep", upkeep::sweep(Arc::clone(&broker), cut_off));
    let parts = Parts {
        apps,
        store: Arc::clone(&store),
        catalogue,
        courier: courier.clone(),
        broker: Arc::clone(&broker),
        transitions,
        clock: Arc::clone(&clock),
        supervisor: supervisor.clone(),
    };
    let bus = Bus::start(parts, notices, &mut registry);
    for app in bus.apps().all() {
        bus.sync_webhooks(&app).await?;
    }
    let (handler, runtime) = (Arc::new(bus.clone()), Handle::current());
    let live =
        Live::start(inboxes, config.live, Arc::clone(&clock), handler, runtime.clone(), &mut registry, &supervisor)
            .map_err(NodeError::Live)?;
    let counts = Arc::new(Counts::new(Arc::clone(&store), clock, &mut registry));
    supervisor.service("store-counts", counts::refresh(Arc::clone(&counts)));
    opening::wait_for_broker(&*broker).await;
    let (registry, has_stopped) = (Mutex::new(registry), AtomicBool::new(false));
    Ok(Node {
        supervisor,
        runtime,
        store,
        courier,
        broker,
        bus,
        live,
        egress,
        counts,
        registry,
        histories,
        has_stopped,
    })
}

/// Restores the histories of the last stop in a broker that keeps them across restarts. Without such a broker, removes
/// the file.
async fn histories(
    broker: Option<Arc<MemoryBroker>>,
    file: PathBuf,
    main_key_file: PathBuf,
    clock: &SharedClock,
    store: &Arc<dyn Store>,
) -> Result<Option<HistoryFile>, NodeError> {
    let Some(broker) = broker else {
        HistoryFile::discard(file).await;
        return Ok(None);
    };
    let key = opening::main_key(main_key_file).await?;
    let histories = HistoryFile::new(broker, file, key, Arc::clone(clock), store.incarnation());
    histories.clone().restore().await;
    Ok(Some(histories))
}
