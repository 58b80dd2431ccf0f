//! Builds the engine from the settings. Only this file knows the engine's API.

use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use axum::Router;
use prometheus_client::encoding::text;
use prometheus_client::registry::Registry;
use serde_json::{Value, json};
use tidings_door_api::Api;
use tidings_door_pusher::{KeepAlive, Pusher};
use tidings_engine::{Config, Door, Engine, StoreConfig};
use tidings_store::postgres;
use tidings_store::sqlite::{SqliteStore, Sync};
use tidings_supervisor::Supervisor;

use crate::accept::NoRoom;
use crate::config::spec_parser::SpecParser;
use crate::files;
use crate::health::HealthSource;
use crate::settings::{LiveSettings, Settings, StoreSettings};

/// The last line of OpenMetrics text.
const END: &str = "# EOF\n";

/// A running engine.
pub(crate) struct Assembled(Engine);

/// Builds the engine. `node` is this node's name in a store that several nodes share; `data` is its data folder.
pub(crate) async fn build(settings: Settings, node: String, data: &Path) -> anyhow::Result<Assembled> {
    if let Some(folder) = folder_of(&settings.main_key_file) {
        files::make_private_dir(folder).with_context(|| format!("cannot make the folder {}", folder.display()))?;
    }
    let (activity, pong) = (settings.live.activity_timeout, settings.live.pong_timeout);
    let doors: Vec<Arc<dyn Door>> = vec![
        Arc::new(Api::new(settings.operator_key.clone().unwrap_or_default())),
        Arc::new(Pusher::new(KeepAlive { activity, pong })),
    ];
    Ok(Assembled(Engine::build(config(settings, node, data), doors).await?))
}

/// Whether a server has used the store before.
pub(crate) async fn holds_data(store: &StoreSettings) -> anyhow::Result<bool> {
    Ok(match store {
        StoreSettings::Sqlite { path, .. } => SqliteStore::holds_data(path),
        StoreSettings::Postgres { url, options } => {
            postgres::holdings(url.expose(), options).await.context("the store cannot be used")?.data
        }
    })
}

/// The engine's config for these settings.
fn config(settings: Settings, node: String, data: &Path) -> Config {
    let store = match settings.store {
        StoreSettings::Sqlite { path, durable } => {
            StoreConfig::Sqlite { path, sync: if durable { Sync::Full } else { Sync::Normal } }
        }
        StoreSettings::Postgres { url, options } => StoreConfig::Postgres { url, node, options },
    };
    let LiveSettings { shards, sessions, rejoin_within, .. } = settings.live;
    Config::in_folder(data)
        .store(store)
        .broker(settings.broker)
        .main_key_file(settings.main_key_file)
        .shards(u16::try_from(shards).unwrap_or(u16::MAX))
        .live(sessions)
        .rejoin_within(rejoin_within)
        .courier(settings.courier)
        .egress(settings.egress)
        .keep(settings.keep)
        .apps(settings.apps)
        .app_reader(Arc::new(SpecParser))
}

fn folder_of(file: &Path) -> Option<&Path> {
    file.parent().filter(|folder| !folder.as_os_str().is_empty())
}

impl Assembled {
    /// Waits until the engine has failed, and returns the name of the thread or task that ended.
    pub(crate) fn failed(&self) -> impl Future<Output = String> + Send + use<> {
        self.0.failed()
    }

    /// The answers to clients that ask for a session beyond the limits on connections.
    pub(crate) fn no_room(&self) -> NoRoom {
        let engine = self.0.clone();
        Arc::new(move |request| engine.no_room(request))
    }

    /// The routes of all doors.
    pub(crate) fn router(&self) -> Router {
        self.0.router()
    }

    /// The source for the health endpoints; `registry` holds the server's own metrics.
    pub(crate) fn health(&self, registry: Registry, supervisor: Supervisor) -> impl HealthSource + use<> {
        EngineHealth { engine: self.0.clone(), registry, supervisor }
    }

    /// Sends live sessions away, so that they reconnect elsewhere, spread over most of `grace`.
    pub(crate) fn stop_live(&self, grace: Duration) -> impl Future<Output = ()> + Send + use<> {
        let engine = self.0.clone();
        async move { engine.stop_live(grace).await }
    }

    /// Waits up to `grace` for attempts in flight, and closes the store.
    pub(crate) async fn stop(self, grace: Duration) {
        self.0.stop(grace).await;
    }
}

struct EngineHealth {
    engine: Engine,
    /// The server's own metrics.
    registry: Registry,
    /// Owns the server's own tasks.
    supervisor: Supervisor,
}

impl HealthSource for EngineHealth {
    fn readiness(&self) -> Pin<Box<dyn Future<Output = (bool, Value)> + Send + '_>> {
        Box::pin(async {
            let now = self.engine.readiness().await;
            let failure = now.failure.clone().or_else(|| Some(self.supervisor.failure()?.to_string()));
            let ready = now.is_ready() && failure.is_none();
            let details = json!({
                "ready": ready,
                "failure": failure,
                "store": now.store,
                "store_error": now.store_error,
                "nodes": now.nodes,
                "broker": now.broker,
                "broker_reachable": !now.cut_off,
                "live_sessions": now.sessions,
                "open_deliveries": now.depth.deliveries,
                "open_fanouts": now.depth.fanouts,
                "undelivered": now.depth.undelivered,
                "store_bytes": now.depth.bytes,
                "attempts_in_flight": now.in_flight,
                "held_bytes": now.held_bytes,
            });
            (ready, details)
        })
    }

    fn metrics(&self) -> Result<String, std::fmt::Error> {
        let mut metrics = self.engine.metrics();
        // The two texts become one, with one end marker.
        let end = metrics.rfind(END).unwrap_or(metrics.len());
        metrics.truncate(end);
        text::encode(&mut metrics, &self.registry)?;
        Ok(metrics)
    }
}
