//! Names that pages mention and a server must know.

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::json;
use tidings_testkit::{Receiver, eventually, server};

use crate::blocks::pages;

const SOON: Duration = Duration::from_secs(30);

/// Every word `tidings_…` of the pages that is no crate of ours.
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
    // A table of PostgreSQL's, and log targets.
    found.retain(|(name, _)| {
        !["tidings_outbox", "tidings_courier", "tidings_bus", "tidings_live"].contains(&name.as_str())
    });
    found
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
    let named = metrics();
    assert!(named.len() >= 3, "{named:?}");
    for (name, page) in named {
        // A family is described even before anything was counted.
        let family = name.trim_end_matches("_total");
        let is_there = shown.lines().any(|line| line.starts_with(&format!("# TYPE {family} ")));
        assert!(is_there, "{page} names {name}, which /metrics does not have");
    }
}
