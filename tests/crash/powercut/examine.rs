//! Opens a disk after a power cut with the real store, and checks that everything acknowledged is there.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::path::Path;
use std::sync::Arc;

use tidings_model::id::AppId;
use tidings_store::Store;
use tidings_store::log::EventFilter;
use tidings_store::queue::{AttemptRange, DeliveryFilter};
use tidings_store::seal::MainKey;
use tidings_store::sqlite::{SqliteStore, Sync};
use tidings_supervisor::Supervisor;

use super::record::{LISTENERS, published};
use super::replay::{Replay, own_name};

/// A page size larger than any table of the test.
const ALL: usize = 100_000;

/// Returns what is wrong on the disk in `image`, if anything is.
pub(super) async fn examine(image: &Path, replay: &Replay) -> Result<(), String> {
    let data = image.join("tidings-data");
    small_files(&data, replay)?;
    let promised = !replay.events.is_empty() || !replay.records.is_empty();
    let database = data.join("tidings.db");
    if !SqliteStore::holds_data(&database) {
        return if promised { Err("there is no database".to_owned()) } else { Ok(()) };
    }
    let file = data.join("main.key");
    let key = match MainKey::load(&file).map_err(|error| error.to_string())? {
        Some(key) => key,
        None if SqliteStore::holds_secrets(&database).map_err(|error| error.to_string())? => {
            return Err("there is no main key, and there are secrets".to_owned());
        }
        None => MainKey::load_or_create(&file).map_err(|error| error.to_string())?,
    };
    let store =
        SqliteStore::open(&database, Sync::Full, key, &Supervisor::default()).map_err(|error| error.to_string())?;
    let store: Arc<dyn Store> = Arc::new(store);
    let found = match store.recover(0).await {
        Ok(_) => stored(&*store, replay).await,
        Err(error) => Err(format!("it cannot be recovered: {error}")),
    };
    store.close().await;
    found
}

/// Checks the files that are replaced atomically: they are complete at any moment, and exist once an answer relied on
/// them.
fn small_files(data: &Path, replay: &Replay) -> Result<(), String> {
    let Ok(files) = fs::read_dir(data) else { return Ok(()) };
    for entry in files {
        let path = entry.map_err(|error| error.to_string())?.path();
        let Some(name) = own_name(data, &path) else { continue };
        let content = fs::read(&path).map_err(|error| error.to_string())?;
        if !replay.versions.get(&name).is_some_and(|versions| versions.contains(&content)) {
            return Err(format!("{name} is torn: {} bytes that it never had", content.len()));
        }
    }
    if !replay.events.is_empty() || !replay.records.is_empty() {
        for name in ["credentials.toml", "main.key", "node"] {
            if !data.join(name).is_file() {
                return Err(format!("{name} is missing"));
            }
        }
    }
    Ok(())
}

/// Checks that everything in the store can be read, and that it holds everything that was acknowledged.
async fn stored(store: &dyn Store, replay: &Replay) -> Result<(), String> {
    let app = AppId::from("1");
    let catalogue = store.changes(0).await.map_err(|error| format!("the catalogue: {error}"))?;
    let hooks = catalogue.hooks.iter().map(|(hook, _)| hook.name.clone());
    let records: Vec<String> =
        hooks.chain(catalogue.listeners.iter().map(|(listener, _)| listener.id.clone())).collect();
    if let Some(lost) = replay.records.iter().find(|record| !records.contains(record)) {
        return Err(format!("{lost} was made, and is lost"));
    }
    let everything = EventFilter { limit: ALL, ..EventFilter::default() };
    let events = store.events(&app, everything).await.map_err(|error| format!("the log: {error}"))?;
    let mut deliveries: HashMap<i64, u64> = HashMap::new();
    let everything = DeliveryFilter { limit: ALL, ..DeliveryFilter::default() };
    let rows = store.deliveries(&app, everything).await.map_err(|error| format!("deliveries: {error}"))?;
    for (place, row) in rows.into_iter().enumerate() {
        *deliveries.entry(row.key.event.0).or_default() += 1;
        // Each is a read of its own: some do.
        if place % 32 == 0 {
            store.attempts(&row.key, AttemptRange::first(ALL)).await.map_err(|error| format!("attempts: {error}"))?;
        }
    }
    let mut ids = HashSet::new();
    for logged in &events.rows {
        let number = logged.event.id.strip_prefix("e-").and_then(|n| n.parse::<usize>().ok());
        let expected = number.and_then(|n| published().get(n)).ok_or("an event that nobody published")?;
        if logged.event.data.as_json() != Some(expected) {
            return Err(format!("event {} says something else than was published", logged.event.id));
        }
        let owed = deliveries.get(&logged.no.0).copied().unwrap_or_default();
        if owed != logged.deliveries || owed != LISTENERS {
            return Err(format!("event {} has {owed} deliveries, not {LISTENERS}", logged.event.id));
        }
        ids.insert(logged.event.id.as_str());
    }
    match replay.events.iter().find(|id| !ids.contains(id.as_str())) {
        Some(lost) => Err(format!("event {lost} was acknowledged, and is lost; {} are there", ids.len())),
        None => Ok(()),
    }
}
