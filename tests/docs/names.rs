//! The metrics that pages name exist.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::time::Duration;

use serde_json::json;
use tidings_testkit::{Receiver, eventually, server};

use crate::blocks::pages;

const SOON: Duration = Duration::from_secs(30);

/// Every word `tidings_…` of the pages that is not one of our crates.
fn metrics() -> BTreeSet<(String, String)> {
    let mut found = BTreeSet::new();
    for (page, text) in pages() {
        for (at, _) in text.match_indices("tidings_") {
            let before = text[..at].chars().next_back();
            if before.is_some_and(|c| c.is_alphanumeric() || c == '_' || c == '=' || c == ',') {
                continue;
            }
            let name: String = text[at..].chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '_').collect();
            found.insert((name, page.clone()));
        }
    }
    // A table of PostgreSQL's, log targets, and what only begins a name.
    found.retain(|(name, _)| {
        !name.ends_with('_')
            && !["tidings_outbox", "tidings_courier", "tidings_bus", "tidings_live"].contains(&name.as_str())
    });
    found
}

/// The text of all our files that register metrics.
fn registering() -> String {
    let crates = Path::new(env!("CARGO_MANIFEST_DIR")).with_file_name("crates");
    let (mut folders, mut all) = (vec![crates], String::new());
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|end| end == "rs") {
                all += &Some(fs::read_to_string(&path).unwrap())
                    .filter(|text| text.contains("register"))
                    .unwrap_or_default();
            }
        }
    }
    all
}

/// Whether a family is registered under this name, with or without its prefix, which names a part of the server.
fn is_registered(family: &str, registering: &str) -> bool {
    // The unit is registered beside the name.
    let own = family.trim_start_matches("tidings_").trim_end_matches("_bytes");
    let behind_part = own.split_once('_').map_or(own, |(_, rest)| rest);
    [own, behind_part].iter().any(|name| registering.contains(&format!("\"{name}\"")))
}

// covers: G392
#[tokio::test]
async fn every_metric_that_a_page_names_is_there() {
    let server = server().alone().egress_allow("127.0.0.0/8").start().await;
    // A family with labels is shown once it has counted something.
    let receiver = Receiver::start();
    let api = server.api();
    api.post("/v1/hooks", json!({"name": "e"})).await.expect_status(201);
    api.post("/v1/listeners", json!({"url": receiver.url("/in"), "hooks": ["e"]})).await.expect_status(201);
    api.post("/v1/events", json!({"name": "e", "data": {}})).await.expect_status(202);
    eventually(SOON, || async { server.metrics().await.contains("tidings_courier_attempts_total{").then_some(()) })
        .await;
    let shown = server.metrics().await;
    let (named, registering) = (metrics(), registering());
    assert!(named.len() >= 3, "{named:?}");
    for (name, page) in named {
        // One with labels is described once it has counted something; others of them are looked up in the code.
        let family = name.trim_end_matches("_total");
        let is_shown = shown.lines().any(|line| line.starts_with(&format!("# TYPE {family} ")));
        let is_there = is_shown || is_registered(family, &registering);
        assert!(is_there, "{page} names {name}, which /metrics does not have");
    }
}
