//! More libraries: Laravel Echo, npm's `pusher`, and a client of an older protocol version.

use serde_json::{Value, json};
use tidings_model::clock::{Clock, SystemClock};
use tidings_testkit::{AppServer, Client, token};

use crate::kit::{APPS, SOON, configured};

/// The key of an app with encrypted channels.
const MASTER_KEY: &str = "MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=";

// covers: U10
#[tokio::test]
async fn laravel_echo_works_with_both_broadcasters() {
    let server = configured("", "").start().await;
    let (one, app) = (APPS[0], APPS[0].pusher(&server));
    let (alice, bob) = tokio::join!(Client::echo(), Client::echo());
    for (client, user, broadcaster) in [(&alice, "alice", "pusher"), (&bob, "bob", "reverb")] {
        let channels = ["private-orders", "presence-room"];
        let exp = SystemClock::new().wall_ms() / 1_000 + 600;
        let claims = json!({"sub": user, "channels": channels, "info": {"name": user}, "exp": exp});
        let options = json!({
            "broadcaster": broadcaster,
            "authEndpoint": format!("{}/a/1/pusher/auth", server.url),
            "bearerToken": token(&one.token_secret(), &claims),
        });
        client.begin(&app.person(user), options).await;
        client.connected().await;
        for channel in ["news", "private-orders"] {
            client.subscribe(channel).await;
        }
    }
    alice.ask_to_join("presence-room").await;
    assert_eq!(alice.expect("presence-room", "here").await["data"], json!([{"name": "alice"}]));
    bob.ask_to_join("presence-room").await;
    let both = bob.expect("presence-room", "here").await;
    assert_eq!(both["data"].as_array().map(Vec::len), Some(2), "{both}");
    assert_eq!(alice.expect("presence-room", "joining").await["data"], json!({"name": "bob"}));
    // As Laravel says it: the class is the event's name.
    let said = json!({"id": 7});
    app.trigger(&["news", "private-orders"], "App\\Events\\OrderShipped", &said.to_string()).await.expect_status(200);
    for client in [&alice, &bob] {
        for channel in ["news", "private-orders"] {
            // Within its own namespace Echo leaves the namespace out.
            assert_eq!(client.expect(channel, "OrderShipped").await["data"], said);
        }
    }
    assert!(alice.trigger("private-orders", "client-typing", json!({"on": true})).await);
    assert_eq!(bob.expect("private-orders", "client-typing").await["data"], json!({"on": true}));
    bob.unsubscribe("presence-room").await;
    assert_eq!(alice.expect("presence-room", "leaving").await["data"], json!({"name": "bob"}));
    // What the token does not name is refused on the channel.
    alice.ask_to_join("private-secret").await;
    assert_eq!(alice.expect("private-secret", "pusher:subscription_error").await["data"]["status"], 403);
}

/// The body of a successful answer, from npm's library.
async fn called(shop: &AppServer, method: &str, arguments: Value) -> Value {
    let said = shop.call(method, arguments).await;
    assert_eq!(said["status"], 200, "{method}: {said}");
    serde_json::from_str(said["body"].as_str().unwrap()).unwrap()
}

// covers: U11
#[tokio::test]
async fn the_node_library_makes_every_call() {
    let server = configured("", "").start().await;
    let app = APPS[0].pusher(&server);
    let shop = AppServer::node(&server, &app, json!({})).await;
    let mut session = app.connect().await;
    session.subscribe("a").await;
    session.subscribe_as("presence-room", "ann", json!({})).await;
    assert_eq!(called(&shop, "trigger", json!(["a", "e", {"n": 1}])).await, json!({}), "its own tests ask for {{}}");
    assert_eq!(session.expect_on("e", "a", SOON).await.data(), json!({"n": 1}));
    let asked = json!([["a", "presence-room"], "e", "text", {"info": "subscription_count,user_count"}]);
    let counted = json!({"a": {"subscription_count": 1}, "presence-room": {"user_count": 1, "subscription_count": 1}});
    assert_eq!(called(&shop, "trigger", asked).await["channels"], counted);
    session.expect_on("e", "a", SOON).await;
    let own = json!(["a", "e", "not for me", {"socket_id": session.socket_id}]);
    called(&shop, "trigger", own).await;
    crate::kit::heard_nothing(&mut session, "x").await;
    assert!(session.waiting().all(|frame| frame.raw_data != "not for me"));
    let entry = |n: u32| json!({"channel": "a", "name": "n", "data": {"n": n}, "info": "subscription_count"});
    let batch = called(&shop, "triggerBatch", json!([[entry(1), entry(2)]])).await;
    assert_eq!(batch, json!({"batch": [{"subscription_count": 1}, {"subscription_count": 1}]}));
    for n in 1..=2 {
        assert_eq!(session.expect("n", SOON).await.data()["n"], n);
    }
    let get = |path: &str, params: Value| json!([{"path": path, "params": params}]);
    let channels = called(&shop, "get", get("/channels", json!({}))).await;
    assert_eq!(channels, json!({"channels": {"a": {}, "presence-room": {}}}));
    let of = json!({"filter_by_prefix": "presence-", "info": "user_count"});
    let channels = called(&shop, "get", get("/channels", of)).await;
    assert_eq!(channels, json!({"channels": {"presence-room": {"user_count": 1}}}));
    let channel = called(&shop, "get", get("/channels/a", json!({"info": "subscription_count"}))).await;
    assert_eq!(channel, json!({"occupied": true, "subscription_count": 1}));
    let users = called(&shop, "get", get("/channels/presence-room/users", json!({}))).await;
    assert_eq!(users, json!({"users": [{"id": "ann"}]}));
    let large = shop.try_call("trigger", json!(["a", "e", "x".repeat(10_241)])).await.unwrap_err();
    let told: Value = serde_json::from_str(large["error"].as_str().unwrap()).unwrap();
    assert_eq!(told["status"], 413, "{told}");
    assert!(told["body"].as_str().unwrap().starts_with("The data content of this event exceeds"), "{told}");

    let client = Client::node(&server).await;
    client.connect(&app.person("bob")).await;
    client.sign_in().await;
    crate::kit::occupied(&app, "%23server-to-user-bob").await;
    called(&shop, "sendToUser", json!(["bob", "for-you", {"n": 1}])).await;
    assert_eq!(client.expect_for_user("for-you").await["data"], json!({"n": 1}));
    called(&shop, "terminateUserConnections", json!(["bob"])).await;
    client.expect_state("disconnected").await;
    // Whose connection it is, a presence channel says as well.
    called(&shop, "terminateUserConnections", json!(["ann"])).await;
    assert_eq!(session.expect_close(SOON).await.0, 4009);
}

/// Subscribes; the library passes the server's messages on unchanged.
async fn joined_by_pysher(client: &Client, channel: &str) -> Value {
    client.ask_to_join(channel).await;
    client.expect(channel, "pusher_internal:subscription_succeeded").await["data"].take()
}

// covers: U12
#[tokio::test]
async fn a_client_of_an_older_protocol_works() {
    let server = configured("", "").start().await;
    let app = APPS[0].pusher(&server);
    let old = Client::pysher().await;
    old.connect(&app.person("ann")).await;
    let mut other = app.connect().await;
    for channel in ["a", "private-a"] {
        joined_by_pysher(&old, channel).await;
        other.subscribe(channel).await;
    }
    other.subscribe_as("presence-room", "bob", json!({})).await;
    let there = joined_by_pysher(&old, "presence-room").await;
    assert_eq!(there["presence"]["ids"], json!(["ann", "bob"]), "{there}");
    other.expect_on("pusher_internal:member_added", "presence-room", SOON).await;
    app.trigger(&["a", "private-a", "presence-room"], "e", r#"{"n":1}"#).await.expect_status(200);
    for channel in ["a", "private-a", "presence-room"] {
        assert_eq!(old.expect(channel, "e").await["data"], json!({"n": 1}));
    }
    assert!(old.trigger("private-a", "client-hi", json!("text")).await);
    assert_eq!(other.expect_on("client-hi", "private-a", SOON).await.raw_data, "text");
    other.send(json!({"event": "client-hi", "channel": "private-a", "data": {"n": 2}})).await;
    assert_eq!(old.expect("private-a", "client-hi").await["data"], json!({"n": 2}));
    old.unsubscribe("presence-room").await;
    let gone = other.expect_on("pusher_internal:member_removed", "presence-room", SOON).await;
    assert_eq!(gone.data()["user_id"], "ann");
}

// covers: U13
#[tokio::test]
async fn encrypted_channels_are_read_by_the_apps_clients_only() {
    let server = configured("", "").start().await;
    let app = APPS[0].pusher(&server);
    let channel = "private-encrypted-room";
    let shop = AppServer::node(&server, &app, json!({"encryptionMasterKeyBase64": MASTER_KEY})).await;
    let (node, page, mut stranger) = tokio::join!(Client::node(&server), Client::chromium(), app.connect());
    for client in [&node, &page] {
        client.connect(&app.person("ann").encrypting(MASTER_KEY)).await;
        client.subscribe(channel).await;
    }
    let auth = app.auth(&stranger.socket_id, channel, None);
    stranger.ask_to_join(channel, &auth, None).await;
    stranger.expect("pusher_internal:subscription_succeeded", SOON).await;
    called(&shop, "trigger", json!([channel, "secret", {"word": "tidings"}])).await;
    for client in [&node, &page] {
        assert_eq!(client.expect(channel, "secret").await["data"], json!({"word": "tidings"}));
    }
    let sealed = stranger.expect("secret", SOON).await;
    assert!(sealed.data()["ciphertext"].is_string() && !sealed.raw_data.to_string().contains("tidings"), "{sealed:?}");
    // Clients encrypt nothing, so they may not speak there.
    stranger.send(json!({"event": "client-x", "channel": channel, "data": {}})).await;
    let error = stranger.expect("pusher:error", SOON).await;
    assert!(error.data()["message"].as_str().unwrap().contains("encrypted"), "{error:?}");
}

// covers: U14, U08
#[tokio::test]
async fn pusher_js_is_told_counts_and_cached_events() {
    let counted = "[[apps.namespaces]]\nname = \"counted\"\nmatch = [\"counted-\", \
        \"private-counted-\"]\nsubscription_count = true\n";
    let server = configured("", counted).start().await;
    let app = APPS[0].pusher(&server);
    let (node, page) = tokio::join!(Client::node(&server), Client::chromium());
    node.connect(&app.person("ann")).await;
    page.connect(&app.person("bob")).await;
    for channel in ["counted-a", "private-counted-a"] {
        node.subscribe(channel).await;
        assert_eq!(node.expect(channel, "pusher:subscription_count").await["data"], json!({"subscription_count": 1}));
        page.subscribe(channel).await;
        for client in [&node, &page] {
            assert_eq!(client.expect(channel, "pusher:subscription_count").await["data"]["subscription_count"], 2);
        }
        page.unsubscribe(channel).await;
        assert_eq!(node.expect(channel, "pusher:subscription_count").await["data"]["subscription_count"], 1);
    }
    for channel in ["cache-a", "private-cache-a", "presence-cache-a"] {
        node.subscribe(channel).await;
        node.expect(channel, "pusher:cache_miss").await;
        app.trigger(&[channel], "last", r#"{"n":1}"#).await.expect_status(200);
        page.subscribe(channel).await;
        assert_eq!(page.expect(channel, "last").await["data"], json!({"n": 1}));
        let kept = app.get(&format!("/channels/{channel}"), &[("info", "cache")]).await.expect_status(200);
        assert_eq!(kept["cache"]["data"], r#"{"n":1}"#);
        assert!(kept["cache"]["ttl"].as_u64().is_some_and(|ttl| (1..=1_800).contains(&ttl)), "{}", kept.json);
    }
}

// covers: U15
#[tokio::test]
async fn sessions_that_prove_nothing_are_let_go_where_the_app_asks_for_that() {
    let server = configured("", "authorize_within = \"2s\"\n").start().await;
    let app = APPS[0].pusher(&server);
    let (mut stranger, mut member, mut old) = tokio::join!(
        app.connect(),
        app.connect(),
        app.session().path(format!("/app/{}?protocol=5", app.key)).connect()
    );
    member.subscribe("private-a").await;
    stranger.subscribe("public").await;
    let (code, reason) = stranger.expect_close(SOON).await;
    assert_eq!(code, 4009);
    assert!(reason.contains("sign in"), "{reason}");
    // Clients that know no close codes are told before.
    assert_eq!(old.expect("pusher:error", SOON).await.data()["code"], 4009);
    assert_eq!(old.expect_close(SOON).await.0, 4009);
    member.settle().await;
}
