//! Hands the settings to the engine. The only file that knows it.

use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use axum::Router;
use parking_lot::Mutex;
use prometheus_client::registry::Registry;
use serde_json::{Value, json};
use tidings_engine::{Config, Engine, KeepAlive, StoreConfig};
use tidings_model::clock::SystemClock;
use tidings_store::postgres;
use tidings_store::sqlite::{SqliteStore, Sync};

use crate::accept::NoRoom;
use crate::config::app_file::LikeConfig;
use crate::files;
use crate::machines::Vitals;
use crate::settings::{LiveSettings, Settings, StoreSettings};

/// A running engine.
pub(crate) struct Assembled(Engine);

/// Builds the engine. `node` is the name of this node, for a store that several share; `data` its folder.
pub(crate) async fn build(settings: Settings, node: String, data: &Path) -> anyhow::Result<Assembled> {
    if let Some(folder) = folder_of(&settings.main_key_file) {
        files::make_private_dir(folder).with_context(|| format!("cannot make the folder {}", folder.display()))?;
    }
    Ok(Assembled(Engine::build(config(settings, node, data)).await?))
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

/// What the settings are to the engine.
fn config(settings: Settings, node: String, data: &Path) -> Config {
    let store = match settings.store {
        StoreSettings::Sqlite { path, durable } => {
            StoreConfig::Sqlite { path, sync: if durable { Sync::Full } else { Sync::Normal } }
        }
        StoreSettings::Postgres { url, options } => StoreConfig::Postgres { url, node, options },
    };
    let LiveSettings { shards, sessions, activity_timeout, pong_timeout, rejoin_within, .. } = settings.live;
    Config {
        store,
        broker: settings.broker,
        main_key_file: settings.main_key_file,
        histories_file: data.join("histories"),
        shards: u16::try_from(shards).unwrap_or(u16::MAX),
        live: sessions,
        rejoin_within,
        keep_alive: KeepAlive { activity: activity_timeout, pong: pong_timeout },
        courier: settings.courier,
        egress: settings.egress,
        keep: settings.keep,
        apps: settings.apps,
        app_reader: Some(Arc::new(LikeConfig)),
        operator_key: settings.operator_key.unwrap_or_default(),
        clock: SystemClock::shared(),
    }
}

fn folder_of(file: &Path) -> Option<&Path> {
    file.parent().filter(|folder| !folder.as_os_str().is_empty())
}

impl Assembled {
    /// What is counted.
    pub(crate) fn registry(&self) -> &Arc<Mutex<Registry>> {
        self.0.registry()
    }

    /// What clients that ask for a session are told when there is no room.
    pub(crate) fn no_room(&self) -> NoRoom {
        let engine = self.0.clone();
        Arc::new(move |request| engine.no_room(request))
    }

    /// Every door.
    pub(crate) fn router(&self) -> Router {
        self.0.router()
    }

    /// How it is, for other machines.
    pub(crate) fn vitals(&self) -> impl Vitals + use<> {
        EngineVitals(self.0.clone())
    }

    /// Sends live sessions elsewhere, spread over most of `grace`.
    pub(crate) fn stop_live(&self, grace: Duration) -> impl Future<Output = ()> + Send + use<> {
        let engine = self.0.clone();
        async move { engine.stop_live(grace).await }
    }

    /// Lets attempts under way end for at most `grace`, and closes the store.
    pub(crate) async fn stop(self, grace: Duration) {
        self.0.stop(grace).await;
    }
}

struct EngineVitals(Engine);

impl Vitals for EngineVitals {
    fn readiness(&self) -> Pin<Box<dyn Future<Output = (bool, Value)> + Send + '_>> {
        Box::pin(async {
            let now = self.0.readiness().await;
            let ready = now.store_error.is_none();
            let details = json!({
                "ready": ready,
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
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &self.0.registry().lock())?;
        Ok(text)
    }
}
