//! Reconciliation of the presence journal with the broker.

use std::path::PathBuf;

use tidings_broker::TransitionSink as _;
use tidings_model::delivery::DeliveryState::Pending;
use tidings_store::presence::{Applied, PresenceChange, PresenceJournal as _, PresenceKey};
use tidings_store::seal::MainKey;
use tidings_store::sqlite::{SqliteStore, Sync};
use tidings_supervisor::Supervisor;

use crate::kit::{TestNode, app};

const OCCUPANCY: [&str; 2] = ["tidings.channel.occupied", "tidings.channel.vacated"];

async fn nothing(_: PathBuf) {}

/// The kinds and channels of all channel events.
async fn announced(node: &TestNode) -> Vec<(String, String)> {
    node.settle().await;
    node.channel_events().await.into_iter().map(|(kind, data, _)| (kind, data)).collect()
}

fn of(kind: &str, channel: &str) -> (String, String) {
    (kind.to_owned(), serde_json::json!({"channel": channel}).to_string())
}

/// Waits until the reconciliation is done: until there are `count` channel events.
async fn reconciled(node: &TestNode, count: usize) -> Vec<(String, String)> {
    node.wait_for_events(count).await;
    announced(node).await
}

#[tokio::test]
async fn who_does_not_come_back_after_a_restart_has_gone() {
    let node = TestNode::start().await;
    node.listen("one", &OCCUPANCY, "{}").await;
    let stays = node.join("1", "stays", None).await;
    let goes = node.join("1", "goes", None).await;
    node.wait_for_events(2).await;
    // They are sent away with the node.
    let node = node.restart_after(nothing).await;
    drop((stays, goes));
    let stays = node.join("1", "stays", None).await;
    let all = reconciled(&node, 3).await;
    // What the stop itself wrote down of departures, those who are back have taken back.
    let stands: Vec<_> = node
        .channel_events()
        .await
        .into_iter()
        .filter(|(.., states)| states == &[Pending])
        .map(|(kind, data, _)| (kind, data))
        .collect();
    assert_eq!(stands, [of("occupied", "stays"), of("occupied", "goes"), of("vacated", "goes")], "of {all:?}");
    // And it is announced once: another look finds nothing.
    node.bus().transitions().reconcile();
    tokio::time::sleep(std::time::Duration::from_millis(500)).await;
    assert_eq!(announced(&node).await, all);
    drop(stays);
}

#[tokio::test]
async fn an_occupied_channel_that_the_journal_does_not_know_is_told() {
    let node = TestNode::start().await;
    let _session = node.join("1", "news", None).await;
    node.listen("one", &OCCUPANCY, "{}").await;
    assert_eq!(announced(&node).await, []);
    // As after a connection to other nodes that broke, or too much that waited.
    node.bus().transitions().reconcile();
    assert_eq!(reconciled(&node, 1).await, [of("occupied", "news")]);
    node.bus().transitions().reconcile();
    tokio::time::sleep(std::time::Duration::from_millis(500)).await;
    assert_eq!(announced(&node).await, [of("occupied", "news")]);
}

/// Records a change as a node would that died before it published the event.
async fn record(folder: PathBuf, channel: &str, present: bool, now: i64) {
    let key = MainKey::load(&folder.join("main.key")).unwrap().unwrap();
    let supervisor = Supervisor::new(&mut prometheus_client::registry::Registry::default());
    let store = SqliteStore::open(&folder.join("tidings.db"), Sync::Normal, key, &supervisor).unwrap();
    let change = PresenceChange {
        key: PresenceKey { app: app(), channel: channel.to_owned(), user: None },
        present,
        number: 1_000_000,
        event: format!("tid_{channel}"),
        suppress: false,
        window: 0,
        now,
        wall: now,
    };
    assert_eq!(store.apply_change(change).await, Ok(Applied::Announce));
    tidings_store::Store::close(&store).await;
    supervisor.join().await;
}

#[tokio::test]
async fn what_was_recorded_and_not_published_is_published_under_its_id() {
    let node = TestNode::start().await;
    node.listen("one", &OCCUPANCY, "{}").await;
    let now = node.now();
    let node = node
        .restart_after(|folder| async move {
            // Whoever recorded it gets a while to publish it.
            record(folder.clone(), "long.ago", true, now - 60_000).await;
            record(folder, "just.now", true, now).await;
        })
        .await;
    let _session = node.join("1", "just.now", None).await;
    assert_eq!(reconciled(&node, 1).await, [of("occupied", "long.ago")]);
    let logged = node.bus().event(&app(), "tid_long.ago").await.unwrap();
    assert_eq!(logged.map(|logged| logged.event.name).as_deref(), Some("tidings.channel.occupied"));
    assert_eq!(node.bus().event(&app(), "tid_just.now").await.unwrap(), None);
    // Nobody is there any more, which is what another look finds.
    node.bus().transitions().reconcile();
    let announced = reconciled(&node, 2).await;
    assert!(announced.contains(&of("vacated", "long.ago")), "{announced:?}");
}
