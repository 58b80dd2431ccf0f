//! The server with PostgreSQL: two nodes that share a database, and one that loses it.

use std::path::Path;
use std::time::Duration;

use serde_json::json;
use tidings_testkit::{Cli, Receiver, Redis, ServerBuilder, eventually, postgres, proxy, redis, server};

const PATIENCE: Duration = Duration::from_secs(20);

fn node(url: &str, key: &Path) -> ServerBuilder {
    node_with("", url, key)
}

/// A node that shares channels too.
fn one_of_several(redis: &Redis, url: &str, key: &Path) -> ServerBuilder {
    node_with(&format!("[broker]\nurl = \"{}\"\n", redis.url()), url, key)
}

fn node_with(top: &str, url: &str, key: &Path) -> ServerBuilder {
    let app = "[[apps]]\nid = \"1\"\nkey = \"k\"\nsecret = \"the-secret-of-the-app\"\n\
        api_keys = [\"the-api-key-of-the-app-1\"]";
    let key = key.display();
    server()
        .config(format!("{top}[store]\nurl = \"{url}\"\n[secrets]\nmain_key_file = \"{key}\"\n{app}\n"))
        .egress_allow("127.0.0.0/8")
}

#[tokio::test]
async fn two_nodes_share_what_is_to_be_told() {
    let (database, keys) = (postgres(), tempfile::tempdir().unwrap());
    let key = keys.path().join("main.key");
    let (receiver, redis) = (Receiver::start(), redis().await);
    let a = one_of_several(&redis, &database.url(), &key).start().await;
    let mut b = one_of_several(&redis, &database.pooled_url(), &key).start().await;
    for node in [&a, &b] {
        // `/readyz` may be cached for a second.
        eventually(PATIENCE, || async { (node.api().get("/readyz").await["nodes"] == 2).then_some(()) }).await;
    }
    a.api().post("/v1/hooks", json!({"name": "person.created"})).await.expect_status(201);
    let listener = json!({"url": receiver.url("/in"), "hooks": ["person.created"]});
    a.api().post("/v1/listeners", listener).await.expect_status(201);

    // The other node learns of it within a second, and then its own list shows it.
    let mut sent = 0;
    eventually(Duration::from_secs(2), || {
        sent += 1;
        let event = json!({"name": "person.created", "data": {"n": sent}, "id": format!("e{sent}")});
        let told = b.api().post("/v1/events", event);
        async move { (told.await["deliveries"] == 1).then_some(()) }
    })
    .await;
    a.api().post("/v1/events", json!({"name": "person.created", "id": "of-a"})).await.expect_status(202);
    b.kill9().await;
    b.restart().await;
    b.api().post("/v1/events", json!({"name": "person.created", "id": "of-b"})).await.expect_status(202);
    for id in ["of-a", "of-b", &format!("e{sent}")] {
        receiver.wait_for(1, |request| request.header("webhook-id") == Some(id), PATIENCE).await;
    }
    let again = b.api().post("/v1/events", json!({"name": "person.created", "id": "of-a"})).await;
    assert_eq!(again["id"], "of-a");
    let ready = b.api().get("/readyz").await;
    assert_eq!((&ready["ready"], &ready["store"]), (&json!(true), &json!("postgres")));
}

// covers: N05
#[tokio::test]
async fn nodes_that_share_no_broker_do_not_share_a_database() {
    let (database, keys, redis) = (postgres(), tempfile::tempdir().unwrap(), redis().await);
    let key = keys.path().join("main.key");
    let mut a = node(&database.url(), &key).start().await;
    let name = std::fs::read_to_string(a.data_dir().join("node")).unwrap();
    let second = node(&database.url(), &key);
    let third = one_of_several(&redis, &database.url(), &key);
    for (other, said) in [(second, "With broker.url = \"memory://\""), (third, "has broker.url = \"memory://\"")] {
        let refused = other.run_to_exit().await.expect_code(1);
        for part in [said, name.trim(), "set broker.url to the same redis://"] {
            assert!(refused.stderr.contains(part), "{part}: {}", refused.stderr);
        }
    }
    assert_eq!(a.api().get("/readyz").await["nodes"], 1);
    // A dead node is detected. The same node may start again at once, another one after a while.
    a.kill9().await;
    a.restart().await;
    a.kill9().await;
    let mut after = node(&database.url(), &key).within(Duration::from_secs(40)).start().await;
    assert_eq!(after.api().get("/readyz").await["nodes"], 1);
    // A node that stops in order makes room at once.
    after.terminate().await.expect_code(0);
    assert_eq!(database.run("SELECT count(*) FROM node"), "0");
}

#[tokio::test]
async fn a_node_without_its_database_says_so_and_goes_on_when_it_is_back() {
    let (database, keys) = (postgres(), tempfile::tempdir().unwrap());
    let between = proxy(database.address());
    let node = node(&database.url_at(between.addr()), &keys.path().join("main.key")).start().await;
    node.api().post("/v1/hooks", json!({"name": "h"})).await.expect_status(201);
    between.go_down().await;
    let refused = node.api().post("/v1/events", json!({"name": "h", "id": "x"})).await.expect_status(503);
    assert_eq!(refused["code"], "store_unreachable");
    // The answer may be a second old.
    let unready = || async { Some(node.api().get("/readyz").await).filter(|ready| ready.status == 503) };
    assert_eq!(eventually(PATIENCE, unready).await["ready"], false);
    between.come_back();
    eventually(PATIENCE, || {
        let told = node.api().post("/v1/events", json!({"name": "h", "id": "x"}));
        async move { (told.await.status == 202).then_some(()) }
    })
    .await;
}

#[tokio::test]
async fn a_database_that_does_not_sync_is_not_served() {
    let (database, keys) = (postgres(), tempfile::tempdir().unwrap());
    database.run(
        "DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET synchronous_commit = off', current_database()); END $$",
    );
    let exit = node(&database.url(), &keys.path().join("main.key")).run_to_exit().await.expect_code(1);
    assert!(exit.stderr.contains("SET synchronous_commit = on"), "{}", exit.stderr);
    assert!(!exit.stderr.contains("postgres://"), "{}", exit.stderr);
}

#[tokio::test]
async fn what_sqlite_held_is_served_from_postgres() {
    let (database, keys, receiver) = (postgres(), tempfile::tempdir().unwrap(), Receiver::start());
    let mut before = server().egress_allow("127.0.0.0/8").start().await;
    before.api().post("/v1/hooks", json!({"name": "h"})).await.expect_status(201);
    let listener = json!({"url": receiver.url("/in"), "hooks": ["h"]});
    before.api().post("/v1/listeners", listener).await.expect_status(201);
    before.api().post("/v1/events", json!({"name": "h", "id": "old"})).await.expect_status(202);
    let from = format!("sqlite://{}", before.data_dir().join("tidings.db").display());
    let migrate = || Cli::in_dir(keys.path()).args(["migrate", "--from", &from, "--to", &database.url()]);
    let refused = migrate().run().await.expect_code(1);
    assert!(refused.stderr.contains("another server"), "{}", refused.stderr);
    before.terminate().await.expect_code(0);

    let copied = migrate().run().await.expect_code(0);
    assert!(copied.stdout.starts_with("copied\n"), "{}", copied.stdout);
    let again = migrate().run().await.expect_code(1);
    assert!(again.stderr.contains("is not empty"), "{}", again.stderr);
    let after = node(&database.url(), &before.data_dir().join("main.key")).start().await;
    assert_eq!(after.api().get("/v1/events/old").await.expect_status(200)["id"], "old");
    let event = after.api().post("/v1/events", json!({"name": "h", "id": "new"})).await.expect_status(202);
    assert_eq!(event["deliveries"], 1);
    receiver.wait_for(1, |request| request.header("webhook-id") == Some("new"), PATIENCE).await;
}
