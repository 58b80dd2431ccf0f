//! The data of version 0.1.0 works with this version: its store, keys, pending deliveries and matches. `kept/0.1.0` was
//! written by that version and is never regenerated.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use tidings_testkit::{Api, Receiver, Server, ServerBuilder, eventually, postgres};

use crate::kit::{SOON, all, open};

/// A file of the kept data.
fn kept(store: &str, file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("kept/0.1.0").join(store).join(file)
}

/// The notes of that version: documents, and the listeners that each reached.
fn notes(store: &str) -> Value {
    serde_json::from_slice(&fs::read(kept(store, "kept.json")).unwrap()).unwrap()
}

/// Moves the attempts that are due into the far future. The kept deliveries stay pending, however old they are.
const NOT_DUE: &str = "UPDATE delivery SET due = due + 3000000000000 WHERE due IS NOT NULL; \
    UPDATE queue SET next_due = next_due + 3000000000000";

/// A copy of the folder that that version wrote.
fn folder(store: &str, files: &[&str]) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("tidings-data");
    fs::create_dir(&data).unwrap();
    fs::set_permissions(&data, fs::Permissions::from_mode(0o700)).unwrap();
    for file in files {
        fs::copy(kept(store, file), data.join(file)).unwrap();
        fs::set_permissions(data.join(file), fs::Permissions::from_mode(0o600)).unwrap();
    }
    dir
}

/// The keys in a `credentials.toml`.
fn keys(path: &Path) -> BTreeMap<String, String> {
    let text = fs::read_to_string(path).unwrap();
    let lines = text.lines().filter_map(|line| line.split_once(" = "));
    // The address, and where the config is, are those of the last start.
    lines
        .filter(|(key, _)| !["url", "config"].contains(key))
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .collect()
}

/// The listeners that the event's deliveries reach.
async fn reached(api: &Api, event: &str) -> BTreeSet<String> {
    let deliveries = all(api, &format!("/v1/deliveries?event={event}")).await;
    deliveries.iter().map(|delivery| delivery["listener"].as_str().unwrap().to_owned()).collect()
}

/// Stored matches mean the same as before: the same documents reach the same listeners.
async fn matches_mean_what_they_meant(api: &Api, notes: &Value) {
    for (name, doc) in notes["docs"].as_object().unwrap() {
        let mut event = json!({"name": "kept.matched", "data": doc["data"]});
        if let Some(op) = doc["op"].as_str() {
            event["op"] = json!(op);
        }
        let id = api.post("/v1/events", event).await.expect_status(202).text_at("id");
        let matches = notes["matches"].as_array().unwrap().iter();
        let before = matches.filter(|kept| kept["reached"].as_str().unwrap().contains(name.as_str()));
        let before: BTreeSet<_> = before.map(|kept| kept["listener"].as_str().unwrap().to_owned()).collect();
        assert_eq!(reached(api, &id).await, before, "who gets document {name}: {}", doc["data"]);
    }
}

/// Pending deliveries are still pending, and arrive once their listener is up.
async fn what_was_owed_arrives(api: &Api, notes: &Value) {
    let receiver = Receiver::start();
    for order in ["unordered", "fifo"] {
        let listener = notes[order].as_str().unwrap();
        let url = receiver.url(&format!("/{order}"));
        api.patch(&format!("/v1/listeners/{listener}"), json!({"url": url})).await.expect_status(200);
        let owed = all(api, &format!("/v1/deliveries?state=pending&listener={listener}")).await;
        assert_eq!(owed.len(), 5, "{owed:?}");
        // Those of a lane wait for its first.
        let first = owed.iter().filter(|delivery| order != "fifo" || delivery["event"] == "kept-t0");
        for delivery in first {
            let id = delivery["id"].as_str().unwrap();
            api.post(&format!("/v1/deliveries/{id}/retry"), json!({})).await.expect_status(202);
        }
        eventually(SOON, || async { (receiver.received_on(&format!("/{order}")).len() >= 5).then_some(()) }).await;
        let mut ids: Vec<_> = receiver
            .received_on(&format!("/{order}"))
            .iter()
            .map(|request| {
                assert_eq!(request.json()["data"], json!({"name": "Ada"}), "only what the hook declares leaves");
                request.header("webhook-id").unwrap().to_owned()
            })
            .collect();
        if order == "unordered" {
            ids.sort();
        }
        assert_eq!(ids, ["kept-t0", "kept-t1", "kept-t2", "kept-t3", "kept-t4"], "{order}");
    }
}

/// Checks the rest of the catalogue.
async fn the_catalogue_is_whole(api: &Api, notes: &Value) {
    let typed = api.get("/v1/hooks/kept.typed").await.expect_status(200);
    assert_eq!(typed["fields"], json!(["name", "age"]));
    // What it declared held for webhooks.
    assert_eq!(typed["fields_for"], "webhooks");
    let event = json!({"name": "kept.typed", "data": {"name": "Ada", "more": 1}});
    let id = api.post("/v1/events", event).await.expect_status(202).text_at("id");
    let logged = api.get(&format!("/v1/events/{id}")).await.expect_status(200);
    assert_eq!(logged["data"], json!({"name": "Ada", "more": 1}));
    let none = api.post("/v1/hooks", json!({"name": format!("made.{id}")})).await.expect_status(201);
    assert_eq!(none["fields_for"], "all", "of a hook that is made now");
    assert_eq!(typed["defaults"], json!({"timeout": "5s", "schedule": ["0s", "1h"]}));
    let trimmed = api.get("/v1/hooks/kept.trimmed").await.expect_status(200);
    assert_eq!(trimmed["schema"], json!({"type": "object", "properties": {"name": {"type": "string"}}}));
    let deleted = notes["deleted"].as_str().unwrap();
    api.get(&format!("/v1/listeners/{deleted}")).await.expect_status(404);
    let listed: BTreeSet<_> =
        all(api, "/v1/listeners").await.iter().map(|listener| listener["id"].as_str().unwrap().to_owned()).collect();
    for kept in notes["matches"].as_array().unwrap() {
        assert!(listed.contains(kept["listener"].as_str().unwrap()), "{kept}");
    }
}

/// Starts twice on the folder and checks everything each time: the second start reads the data that the first has
/// migrated.
async fn goes_on(builder: ServerBuilder, store: &str, dir: &Path) -> Server {
    let notes = notes(store);
    let mut server = builder.dir(dir).alone().start().await;
    assert_eq!(keys(&dir.join("tidings-data/credentials.toml")), keys(&kept(store, "credentials.toml")));
    the_catalogue_is_whole(&server.api(), &notes).await;
    matches_mean_what_they_meant(&server.api(), &notes).await;
    what_was_owed_arrives(&server.api(), &notes).await;
    server.restart().await;
    matches_mean_what_they_meant(&server.api(), &notes).await;
    server
}

// covers: C11, G152
#[tokio::test]
async fn a_sqlite_store_of_0_1_0_goes_on() {
    let dir = folder("sqlite", &["tidings.db", "main.key", "credentials.toml", "node"]);
    let store = rusqlite::Connection::open(dir.path().join("tidings-data/tidings.db")).unwrap();
    store.execute_batch(NOT_DUE).unwrap();
    drop(store);
    let server = goes_on(open(), "sqlite", dir.path()).await;
    let app = &notes("sqlite")["app"];
    let path = format!("/v1/apps/{}", app["id"].as_str().unwrap());
    assert_eq!(server.operator().get(&path).await.expect_status(200)["key"], app["key"]);
    server.api().with_key(app["api_key"].as_str().unwrap()).get("/v1/hooks").await.expect_status(200);
}

// covers: C11, G152
#[tokio::test]
async fn a_postgresql_store_of_0_1_0_goes_on() {
    let database = postgres();
    database.run(&fs::read_to_string(kept("postgres", "kept.sql")).unwrap());
    database.run(NOT_DUE);
    let dir = folder("postgres", &["main.key", "credentials.toml", "node"]);
    let config = format!("[store]\nurl = \"{}\"\n", database.url());
    goes_on(open().config(config), "postgres", dir.path()).await;
}
