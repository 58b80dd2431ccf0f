//! A node in a folder of its own, with a manual clock. No door has the format of its listeners, so deliveries stay
//! pending and tests can read them from the store.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use tidings_bus::{Bus, Receipt};
use tidings_model::app::App;
use tidings_model::clock::{Clock, ManualClock, SharedClock};
use tidings_model::delivery::DeliveryState;
use tidings_model::event::{Data, Event};
use tidings_model::hook::{DeliveryDefaults, FieldsFor, Hook};
use tidings_model::id::{AppId, DestinationNo};
use tidings_model::listener::{Format, Listener, Order};
use tidings_model::matcher::Match;
use tidings_model::pattern::Pattern;
use tidings_model::payload::Field;
use tidings_model::signature::{KeyRing, Secret};
use tidings_node::{AppReader, Config, Node, Spec, StoreConfig, WrongField};
use tidings_store::log::EventFilter;
use tidings_store::queue::{DeliveryFilter, DeliveryRow};
use tidings_store::sqlite::Sync;
use tokio::time::Instant;

/// The wall time at which every test begins.
const NOW: i64 = 1_795_255_000_000;
/// How long a test waits at most.
const PATIENCE: Duration = Duration::from_secs(20);
/// How long reconciliation waits for sessions to come back, in real time.
const REJOIN_WITHIN: Duration = Duration::from_millis(200);
const GRACE: Duration = Duration::from_secs(5);

/// A node with the app 1, and the apps in the store.
pub(crate) struct TestNode {
    pub(crate) node: Node,
    pub(crate) clock: Arc<ManualClock>,
    app: App,
    dir: tempfile::TempDir,
}

/// Reads an app's configuration, as far as tests need it.
struct Reader;

impl AppReader for Reader {
    fn read(&self, spec: &Spec) -> Result<App, Vec<WrongField>> {
        let text = |key: &str| spec.get(key).and_then(Value::as_str).map(str::to_owned);
        let id = text("id").unwrap_or_default();
        let Some(key) = text("key") else {
            return Err(vec![WrongField { field: "key".to_owned(), message: "is missing".to_owned() }]);
        };
        let enabled = spec.get("enabled").and_then(Value::as_bool).unwrap_or(true);
        let texts = |key: &str| -> Vec<String> {
            let all = spec.get(key).and_then(Value::as_array).into_iter().flatten();
            all.filter_map(Value::as_str).map(str::to_owned).collect()
        };
        let hosts = texts("hosts");
        let webhooks = texts("webhooks").iter().map(|url| webhook(url)).collect();
        Ok(App { enabled, hosts, webhooks, ..App::new(id.as_str(), key, "secret".into()) })
    }
}

fn webhook(url: &str) -> tidings_model::webhook::Webhook {
    tidings_model::webhook::Webhook {
        url: url.parse().unwrap(),
        events: vec![tidings_model::transition::Kind::Occupied],
        starts_with: String::new(),
        ends_with: String::new(),
        batch: 1,
        headers: Vec::new(),
        format: FORMAT,
    }
}

/// The format of all listeners, which no door has.
const FORMAT: Format = Format::named("nobody's");

impl TestNode {
    pub(crate) async fn start() -> Self {
        Self::with(App::new("1", "public", "secret".into())).await
    }

    /// A node with only this app in its config.
    pub(crate) async fn with(app: App) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let clock = ManualClock::at(NOW);
        let node = start(dir.path().to_owned(), &clock, app.clone()).await;
        Self { node, clock, app, dir }
    }

    /// Stops the node in order, runs `meanwhile`, and starts it again in its folder.
    pub(crate) async fn restart_after<D: Future<Output = ()>>(self, meanwhile: impl FnOnce(PathBuf) -> D) -> Self {
        let Self { node, clock, app, dir } = self;
        node.stop(GRACE).await;
        drop(node);
        meanwhile(dir.path().to_owned()).await;
        let node = start(dir.path().to_owned(), &clock, app.clone()).await;
        Self { node, clock, app, dir }
    }

    pub(crate) fn bus(&self) -> &Bus {
        self.node.bus()
    }

    pub(crate) async fn publish(&self, event: Event) -> Receipt {
        self.bus().publish(event.into()).await.unwrap()
    }

    /// Adds a hook that declares these fields, or none.
    pub(crate) async fn hook(&self, name: &str, fields: Option<&[&str]>, fields_for: FieldsFor) {
        self.bus().create_hook(hook(name, fields, fields_for)).await.unwrap();
    }

    /// Adds a listener to these hooks.
    pub(crate) async fn listen(&self, id: &str, hooks: &[&str], filter: &str) {
        self.bus().create_listener(listener("1", id, hooks, Match::parse(filter).unwrap())).await.unwrap();
    }

    /// The deliveries of an app, newest event first.
    pub(crate) async fn deliveries_of(&self, app: &str) -> Vec<DeliveryRow> {
        let filter = DeliveryFilter { limit: 10_000, ..DeliveryFilter::default() };
        self.bus().deliveries(&app.into(), filter).await.unwrap()
    }

    /// The listeners that have a delivery of an event, even if they were deleted, in the order of their ids.
    pub(crate) async fn destinations_of(&self, event: &str) -> Vec<String> {
        let Some(logged) = self.bus().event(&app(), event).await.unwrap() else { return Vec::new() };
        let filter = DeliveryFilter { event: Some(logged.no), limit: 10_000, ..DeliveryFilter::default() };
        let rows = self.bus().deliveries(&app(), filter).await.unwrap();
        let mut owed: Vec<_> = rows.into_iter().map(|row| row.listener).collect();
        owed.sort();
        owed
    }

    /// The data of an event in the log.
    pub(crate) async fn logged(&self, event: &str) -> Option<String> {
        let logged = self.bus().event(&app(), event).await.unwrap()?;
        Some(logged.event.data.as_text().into_owned())
    }

    /// The channel events of the log, oldest first: kind, data, and the states of their deliveries.
    pub(crate) async fn channel_events(&self) -> Vec<(String, String, Vec<DeliveryState>)> {
        let filter = EventFilter { limit: 1_000, ..EventFilter::default() };
        let events = self.bus().events(&app(), filter).await.unwrap().rows;
        let deliveries = self.deliveries_of("1").await;
        let mut announced = Vec::new();
        for logged in events.into_iter().rev() {
            let Some(kind) = logged.event.name.strip_prefix("tidings.channel.") else { continue };
            let states = deliveries.iter().filter(|row| row.event_id == logged.event.id).map(|row| row.state);
            announced.push((kind.to_owned(), logged.event.data.as_text().into_owned(), states.collect()));
        }
        announced
    }

    /// Waits until the log has this many channel events.
    pub(crate) async fn wait_for_events(&self, count: usize) -> Vec<(String, String, Vec<DeliveryState>)> {
        let until = Instant::now() + PATIENCE;
        loop {
            let announced = self.channel_events().await;
            if announced.len() >= count {
                return announced;
            }
            assert!(Instant::now() < until, "{count} were to be announced: {announced:?}");
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }

    /// Waits until all transitions up to now have been published.
    pub(crate) async fn settle(&self) {
        self.bus().transitions().drain(PATIENCE).await;
    }

    pub(crate) fn now(&self) -> i64 {
        self.clock.steady_ms()
    }
}

async fn start(dir: PathBuf, clock: &Arc<ManualClock>, app: App) -> Node {
    let store = StoreConfig::Sqlite { path: dir.join("tidings.db"), sync: Sync::Normal };
    let config = Config::in_folder(&dir).store(store).shards(1).apps(vec![app]).app_reader(Arc::new(Reader));
    let config = config.clock(Arc::clone(clock) as SharedClock).rejoin_within(REJOIN_WITHIN);
    Node::start(config, |_| Vec::new()).await.unwrap()
}

/// The app of the config.
pub(crate) fn app() -> AppId {
    "1".into()
}

/// An event of the app 1 in no channel.
pub(crate) fn event(id: &str, name: &str, data: &str) -> Event {
    Event {
        id: id.to_owned(),
        app: app(),
        name: name.to_owned(),
        channels: Vec::new(),
        data: Data::json(data.to_owned()),
        time: NOW,
        op: None,
        key: None,
        except: None,
    }
}

pub(crate) fn hook(name: &str, fields: Option<&[&str]>, fields_for: FieldsFor) -> Hook {
    Hook {
        app: app(),
        name: name.to_owned(),
        description: String::new(),
        fields: fields.map(|names| names.iter().map(|name| Field { name: (*name).to_owned(), kind: None }).collect()),
        fields_for,
        schema: None,
        defaults: DeliveryDefaults::default(),
        version: 0,
        created_at: NOW,
        updated_at: NOW,
    }
}

pub(crate) fn listener(app: &str, id: &str, hooks: &[&str], filter: Match) -> Listener {
    Listener {
        app: app.into(),
        id: id.to_owned(),
        no: DestinationNo(0),
        url: "http://receiver.example/".parse().unwrap(),
        description: String::new(),
        hooks: hooks.iter().map(|name| Pattern::parse(name).unwrap()).collect(),
        filter,
        keys: KeyRing::new(Secret::generate().unwrap()),
        headers: Vec::new(),
        rate: None,
        concurrency: None,
        order: Order::None,
        format: FORMAT,
        batch: 1,
        timeout: None,
        schedule: None,
        disabled: None,
        owner: None,
        version: 0,
        created_at: NOW,
        updated_at: NOW,
    }
}

/// Waits until `is_so`.
pub(crate) async fn eventually<F: Future<Output = bool>>(what: &str, mut is_so: impl FnMut() -> F) {
    let until = Instant::now() + PATIENCE;
    while !is_so().await {
        assert!(Instant::now() < until, "{what}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}
