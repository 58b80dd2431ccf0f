//! Watchlists: pusher-js in Node and in Chromium learns which users are online.

use serde_json::{Value, json};
use tidings_testkit::{Client, Cluster, PusherApp, PusherSession, Server, eventually};

use crate::kit::{APPS, SOON, configured, heard_nothing, metric};
use crate::nodes::node;

async fn signed_in(server: &Server, app: &PusherApp, user: &str, watching: &[&str]) -> Client {
    let client = Client::node(server).await;
    client.connect(&app.person(user).watching(watching)).await;
    client.sign_in().await;
    client
}

async fn sign_in(session: &mut PusherSession, user: &str, watchlist: Value) {
    let data = json!({"id": user, "watchlist": watchlist}).to_string();
    let auth = session.app.user_auth(&session.socket_id, &data);
    session.send(json!({"event": "pusher:signin", "data": {"auth": auth, "user_data": data}})).await;
    session.expect("pusher:signin_success", SOON).await;
}

async fn expect_events(session: &mut PusherSession, expected: Value) {
    let told = session.expect("pusher_internal:watchlist_events", SOON).await;
    assert_eq!(told.data()["events"], expected);
}

// covers: U09
#[tokio::test]
async fn pusher_js_is_told_who_of_its_watchlist_comes_and_goes() {
    let server = configured("", "").start().await;
    let app = APPS[0].pusher(&server);
    let (bob, page) = tokio::join!(signed_in(&server, &app, "bob", &[]), Client::chromium());
    page.connect(&app.person("alice").watching(&["bob", "carol"])).await;
    page.sign_in().await;
    assert_eq!(page.expect_watched("online").await["user_ids"], json!(["bob"]));
    assert_eq!(page.expect_watched("offline").await["user_ids"], json!(["carol"]));
    let carol = signed_in(&server, &app, "carol", &[]).await;
    assert_eq!(page.expect_watched("online").await["user_ids"], json!(["carol"]));
    // A second session of the same user changes nothing, until the last one is gone.
    let mut second = app.connect().await;
    sign_in(&mut second, "bob", json!([])).await;
    // The server has the sign-in before the first session goes.
    second.settle().await;
    bob.disconnect().await;
    carol.disconnect().await;
    assert_eq!(page.expect_watched("offline").await["user_ids"], json!(["carol"]), "bob is still there");
    drop(second);
    assert_eq!(page.expect_watched("offline").await["user_ids"], json!(["bob"]));
    // Nobody else sees the channels that know of it.
    assert_eq!(app.get("/channels", &[]).await.expect_status(200).json["channels"], json!({}));
    let prefix = [("filter_by_prefix", "#")];
    assert_eq!(
        app.get("/channels", &prefix).await.expect_status(200).json["channels"],
        json!({"#server-to-user-alice": {}})
    );
    let listed = APPS[0].api(&server).get("/v1/channels").await.expect_status(200);
    assert_eq!(listed["data"].as_array().map(Vec::len), Some(1), "{}", listed.json);
}

// covers: U09
#[tokio::test]
async fn a_watchlist_that_is_too_long_is_told_and_the_sign_in_succeeds() {
    let server = configured("", "[apps.limits]\nwatchlist = 2\n").start().await;
    let app = APPS[0].pusher(&server);
    let client = signed_in(&server, &app, "alice", &["b", "c", "d"]).await;
    let error = client.expect_error().await;
    assert_eq!(error["error"]["data"]["code"], 4302, "{error}");
    assert_eq!(client.expect_watched("offline").await["user_ids"], json!(["b", "c"]));
}

// covers: U09, N01, N02
#[tokio::test]
async fn who_is_online_is_known_on_every_node() {
    let cluster = Cluster::new().await;
    let (mut first, second) = (node(&cluster).await, node(&cluster).await);
    let one = APPS[0];
    let mut bob = one.pusher(&first).connect().await;
    sign_in(&mut bob, "bob", json!([])).await;
    // The node of bob has his sign-in before alice asks the other one.
    bob.settle().await;
    let mut alice = one.pusher(&second).connect().await;
    sign_in(&mut alice, "alice", json!(["bob", "carol"])).await;
    let known = json!([{"name": "online", "user_ids": ["bob"]}, {"name": "offline", "user_ids": ["carol"]}]);
    expect_events(&mut alice, known).await;
    let mut carol = one.pusher(&first).connect().await;
    sign_in(&mut carol, "carol", json!([])).await;
    expect_events(&mut alice, json!([{"name": "online", "user_ids": ["carol"]}])).await;
    carol.close().await;
    expect_events(&mut alice, json!([{"name": "offline", "user_ids": ["carol"]}])).await;
    first.kill9().await;
    expect_events(&mut alice, json!([{"name": "offline", "user_ids": ["bob"]}])).await;
}

// covers: U09, N03
#[tokio::test]
async fn who_is_online_is_told_as_soon_as_redis_is_back() {
    let mut cluster = Cluster::new().await;
    let server = node(&cluster).await;
    let app = APPS[0].pusher(&server);
    cluster.redis.kill().await;
    eventually(SOON, || async { (metric(&server, "tidings_broker_cut_off").await == 1.0).then_some(()) }).await;
    let mut alice = app.connect().await;
    sign_in(&mut alice, "alice", json!(["bob"])).await;
    heard_nothing(&mut alice, "pusher_internal:watchlist_events").await;
    cluster.redis.start().await;
    expect_events(&mut alice, json!([{"name": "offline", "user_ids": ["bob"]}])).await;
    let mut bob = app.connect().await;
    sign_in(&mut bob, "bob", json!(["alice"])).await;
    expect_events(&mut alice, json!([{"name": "online", "user_ids": ["bob"]}])).await;
    expect_events(&mut bob, json!([{"name": "online", "user_ids": ["alice"]}])).await;
}
