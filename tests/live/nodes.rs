//! Two servers, one PostgreSQL and one Redis: channels are the same on both, and what happens when Redis or a server goes away.

use serde_json::{Value, json};
use tidings_testkit::{Api, Database, Redis, Server, eventually, postgres, redis};

use crate::kit::{APPS, SOON, configured, metric, occupied, opened, say};

const KEEPING: &str = "[apps.channels]\npublic = true\n[[apps.namespaces]]\nname = \"news\"\nmatch = [\"news-\"]\npublic = true\nhistory_size = 100\nhistory_ttl = \"1h\"\n";

/// What nodes share.
pub(crate) struct Cluster {
    database: Database,
    pub(crate) redis: Redis,
    keys: tempfile::TempDir,
}

impl Cluster {
    pub(crate) async fn new() -> Self {
        Self { database: postgres(), redis: redis().await, keys: tempfile::tempdir().unwrap() }
    }

    /// One more node, which reaches Redis.
    pub(crate) async fn node(&self) -> Server {
        let top = format!(
            "[store]\nurl = \"{}\"\n[secrets]\nmain_key_file = \"{}\"\n[broker]\nurl = \"{}\"\nlease = \"3s\"\n",
            self.database.url(),
            self.keys.path().join("main.key").display(),
            self.redis.url()
        );
        let server = configured(&top, KEEPING).start().await;
        reaches(&server, true).await;
        server
    }
}

/// Waits until the server says that it reaches Redis, or doesn't; it is ready either way.
async fn reaches(server: &Server, reachable: bool) {
    eventually(SOON, || async {
        let body: Value = Api::new(&server.url, "").get("/readyz").await.expect_status(200).json;
        assert_eq!(body["broker"], "redis");
        (body["broker_reachable"] == reachable).then_some(())
    })
    .await;
}

// covers: N01
#[tokio::test]
async fn two_nodes_have_the_same_channels() {
    let cluster = Cluster::new().await;
    let (first, second) = (cluster.node().await, cluster.node().await);
    let one = APPS[0];
    let mut stream = opened(one.stream(&second, "news-all", "")).await;
    occupied(&one.pusher(&first), "news-all").await;
    say(&one.api(&first), &["news-all"], 1).await;
    say(&one.api(&second), &["news-all"], 2).await;
    assert_eq!(stream.expect("message", SOON).await.json()["data"]["n"], 1);
    let event = stream.expect("message", SOON).await;
    assert_eq!(event.json()["data"]["n"], 2);
    // The reader comes back elsewhere.
    let id = event.id;
    drop(stream);
    say(&one.api(&second), &["news-all"], 3).await;
    let mut stream = opened(one.stream(&first, "news-all", "").header("last-event-id", &id)).await;
    assert_eq!(stream.expect("message", SOON).await.json()["data"]["n"], 3);
}

// covers: N02
#[tokio::test]
async fn members_of_a_node_that_dies_are_gone_on_the_other() {
    let cluster = Cluster::new().await;
    let (mut first, second) = (cluster.node().await, cluster.node().await);
    let one = APPS[0];
    let mut ann = one.pusher(&second).connect().await;
    ann.subscribe_as("presence-room", "ann", json!({})).await;
    let mut bob = one.pusher(&first).connect().await;
    let there = bob.subscribe_as("presence-room", "bob", json!({})).await;
    assert_eq!(there["presence"]["count"], 2, "{there}");
    let come = ann.expect_on("pusher_internal:member_added", "presence-room", SOON).await;
    assert_eq!(come.data()["user_id"], "bob");
    first.kill9().await;
    let gone = ann.expect_on("pusher_internal:member_removed", "presence-room", SOON).await;
    assert_eq!(gone.data()["user_id"], "bob");
    let users = one.pusher(&second).get("/channels/presence-room/users", &[]).await.expect_status(200);
    assert_eq!(users["users"], json!([{"id": "ann"}]));
}

// covers: N03, N04
#[tokio::test]
async fn while_redis_is_away_each_node_does_what_it_can_alone() {
    let mut cluster = Cluster::new().await;
    let server = cluster.node().await;
    let one = APPS[0];
    let api = one.api(&server);
    let mut kept = opened(one.stream(&server, "news-all", "")).await;
    let mut plain = opened(one.stream(&server, "plain", "")).await;
    for channel in ["news-all", "plain"] {
        occupied(&one.pusher(&server), channel).await;
    }
    say(&api, &["news-all"], 1).await;
    kept.expect("message", SOON).await;
    cluster.redis.kill().await;
    reaches(&server, false).await;
    eventually(SOON, || async { (metric(&server, "tidings_broker_cut_off").await == 1.0).then_some(()) }).await;
    let event = |channel: &str, n: u64| json!({"name": "e", "channels": [channel], "data": {"n": n}});
    let answer = api.post("/v1/events", event("plain", 2)).await.expect_status(202);
    assert_eq!(answer.header("x-tidings-degraded"), Some("live"));
    assert_eq!(plain.expect("message", SOON).await.json()["data"]["n"], 2);
    let answer = one.pusher(&server).trigger(&["plain"], "e", "3").await.expect_status(200);
    assert_eq!(answer.header("x-tidings-degraded"), Some("live"));
    api.post("/v1/events", event("news-all", 4)).await.expect_status(503);
    one.pusher(&server).trigger(&["news-all"], "e", "4").await.expect_status(503);
    cluster.redis.start().await;
    reaches(&server, true).await;
    let answer = api.post("/v1/events", event("plain", 5)).await.expect_status(202);
    assert_eq!(answer.header("x-tidings-degraded"), None);
    // Redis has come back with nothing: what was before cannot be continued.
    let lost = kept.expect("tidings.lost", SOON).await;
    assert_eq!(lost.json()["channel"], "news-all");
    say(&api, &["news-all"], 6).await;
    assert_eq!(kept.expect("message", SOON).await.json()["data"]["n"], 6);
}
