//! Details of Pusher's protocol that its own libraries depend on.

use serde_json::{Value, json};
use tidings_testkit::{Api, AppServer, Client, Incoming, Refused, server};

use crate::kit::{APPS, SOON, configured};

// covers: U02, U03
#[tokio::test]
async fn the_python_library_reads_channels_and_users() {
    let server = server().start().await;
    let app = server.pusher();
    let shop = AppServer::start(&server, &app).await;
    let mut session = app.connect().await;
    session.subscribe("public").await;
    // A numeric user id is legal, and stays a number for clients.
    let data = json!({"user_id": 10, "user_info": {"name": "Ten"}}).to_string();
    let auth = app.auth(&session.socket_id, "presence-room", Some(&data));
    session.ask_to_join("presence-room", &auth, Some(&data)).await;
    let joined = session.expect_on("pusher_internal:subscription_succeeded", "presence-room", SOON).await;
    assert_eq!(
        joined.data(),
        json!({"presence": {"ids": [10], "hash": {"10": {"name": "Ten"}}, "count": 1}}),
        "{joined:?}"
    );
    assert!(joined.raw_data.is_string(), "data is text: {joined:?}");

    let channels = shop.call("channels_info", json!({})).await;
    assert_eq!(channels, json!({"channels": {"public": {}, "presence-room": {}}}));
    let filtered = json!({"prefix_filter": "presence-", "attributes": ["user_count"]});
    let channels = shop.call("channels_info", filtered).await;
    assert_eq!(channels, json!({"channels": {"presence-room": {"user_count": 1}}}));
    let arguments = json!({"channel": "presence-room", "attributes": ["user_count", "subscription_count"]});
    let channel = shop.call("channel_info", arguments).await;
    assert_eq!(channel, json!({"occupied": true, "user_count": 1, "subscription_count": 1}));
    let channel = shop.call("channel_info", json!({"channel": "nobody-is-here"})).await;
    assert_eq!(channel["occupied"], false, "{channel}");
    let users = shop.call("users_info", json!({"channel": "presence-room"})).await;
    assert_eq!(users, json!({"users": [{"id": "10"}]}));
    let refused = shop.try_call("users_info", json!({"channel": "public"})).await.unwrap_err();
    assert_eq!(refused["kind"], "PusherBadRequest", "{refused}");
    let refused = shop.try_call("channels_info", json!({"attributes": ["user_count"]})).await.unwrap_err();
    assert_eq!(refused["kind"], "PusherBadRequest", "{refused}");
}

// covers: U02
#[tokio::test]
async fn the_python_library_says_things_one_by_one_and_in_batches() {
    let server = server().start().await;
    let app = server.pusher();
    let shop = AppServer::start(&server, &app).await;
    let mut session = app.connect().await;
    session.subscribe("a").await;
    session.subscribe("b").await;
    let said = json!({"channels": ["a", "b"], "event_name": "e", "data": "a text, not JSON: \u{e6} 😀"});
    assert_eq!(shop.call("trigger", said).await, json!({}), "the answer is {{}}");
    for channel in ["a", "b"] {
        assert_eq!(session.expect_on("e", channel, SOON).await.raw_data, "a text, not JSON: \u{e6} 😀");
    }
    let entry = |channel: &str, n: u32| json!({"channel": channel, "name": "n", "data": {"n": n}});
    let batch: Vec<_> = (0..10).map(|n| entry(if n % 2 == 0 { "a" } else { "b" }, n)).collect();
    assert_eq!(shop.call("trigger_batch", json!({"batch": batch})).await, json!({}));
    for n in 0..10 {
        let frame = session.expect("n", SOON).await;
        assert_eq!(frame.data()["n"], n, "in the order of the batch");
    }
    let without_me =
        json!({"batch": [{"channel": "a", "name": "not-me", "data": "1", "socket_id": session.socket_id}]});
    shop.call("trigger_batch", without_me).await;
    crate::kit::heard_nothing(&mut session, "not-me").await;
    let large = json!({"channels": ["a"], "event_name": "e", "data": "x".repeat(10_241)});
    // The library itself refuses what is larger than Pusher takes, so only the status of our answer is left to be seen.
    let refused = app.trigger(&["a"], "e", large["data"].as_str().unwrap()).await;
    assert_eq!(refused.status, 413);
}

// covers: U04
#[tokio::test]
async fn the_python_library_ends_a_users_sessions() {
    let server = server().start().await;
    let app = server.pusher();
    let shop = AppServer::start(&server, &app).await;
    let (alice, bob) = tokio::join!(Client::node(&server), Client::node(&server));
    alice.connect(&app.person("alice")).await;
    bob.connect(&app.person("bob")).await;
    for client in [&alice, &bob] {
        client.sign_in().await;
    }
    // Published to the user's own channel; the client joins it by itself.
    crate::kit::occupied(&app, "%23server-to-user-alice").await;
    shop.call("send_to_user", json!({"user_id": "alice", "event_name": "for-you", "data": {"n": 1}})).await;
    assert_eq!(alice.expect_for_user("for-you").await["data"], json!({"n": 1}));
    // This library leaves /apps/ID out of the path.
    shop.call("terminate_user_connections", json!({"user_id": "alice"})).await;
    alice.expect_state("disconnected").await;
    bob.subscribe("still-here").await;
    let reply = app.post("/users/bob/terminate_connections", &json!({})).await.expect_status(200);
    assert_eq!(reply.json, json!({}));
    bob.expect_state("disconnected").await;
}

// covers: U05
#[tokio::test]
async fn what_a_client_gets_wrong_is_told_in_the_code_it_knows() {
    let server = configured("", "").start().await;
    let app = APPS[0].pusher(&server);
    let mut nobody = app.clone();
    nobody.key = "nobody".to_owned();
    let (node, chromium) = tokio::join!(Client::node(&server), Client::chromium());
    for client in [&node, &chromium] {
        client.begin(&nobody.person("x"), json!({})).await;
        let error = client.expect_error().await;
        assert_eq!(error["error"]["error"]["data"]["code"], 4001, "{error}");
        // It does not try again.
        client.expect_state("disconnected").await;
    }

    let unknown_protocol = format!("{}?protocol=99", app.key);
    let more = format!("{}/more?protocol=7", app.key);
    let cases = [("nobody?protocol=7", 4001), (unknown_protocol.as_str(), 4007), (more.as_str(), 4005)];
    for (path, code) in cases {
        let refused = app.session().path(format!("/app/{path}")).try_connect().await.unwrap_err();
        match refused {
            Refused::Session(Some(frame), Incoming::Closed(closed, reason)) => {
                assert_eq!((frame.event.as_str(), &frame.data()["code"]), ("pusher:error", &json!(code)), "{path}");
                assert_eq!(closed, code, "{path}");
                assert!(reason.len() <= 123, "{path}: {reason}");
            }
            other => panic!("{path}: {other:?}"),
        }
    }
    for path in ["?protocol=7&client=js&version=8.6.0&flash=false", "?protocol=5", "", "?unknown=1"] {
        app.session().path(format!("/app/{}{path}", app.key)).connect().await;
    }
    // The fallback transports are not there, and must not look as if they were.
    let api = Api::new(&server.url, "");
    let path = format!("/pusher/app/{}/1/abcdefgh/xhr_streaming?protocol=7", app.key);
    assert_eq!(api.post(&path, json!([])).await.status, 404);
    assert_eq!(api.get(&format!("/pusher/app/{}/info", app.key)).await.status, 404);
    // Neither is a WebSocket what a plain GET gets.
    let plain = api.get(&format!("/app/{}", app.key)).await.status;
    assert!((400..500).contains(&plain), "{plain}");
}

// covers: U06
#[tokio::test]
async fn a_refused_join_is_told_to_the_channel_and_as_pushers_error() {
    let server = configured("", "").start().await;
    let app = APPS[0].pusher(&server);
    let mut liar = app.clone();
    liar.secret = "guessed".to_owned();
    let client = Client::node(&server).await;
    client.connect(&liar.person("eve")).await;
    client.ask_to_join("private-a").await;
    let told = client.expect("private-a", "pusher:subscription_error").await;
    assert_eq!(told["data"]["status"], 401, "{told}");
    let error = client.expect_error().await;
    let text = error["error"]["data"]["message"].as_str().unwrap_or_default();
    assert!(text.starts_with("Invalid signature: Expected HMAC SHA256 hex digest of "), "{error}");
    assert!(!text.contains(&app.secret));
    // The session stays, and an app's server that refuses is no business of ours.
    client.subscribe("public").await;
    client.begin(&app.person("eve").refused(), json!({})).await;
    client.connected().await;
    client.ask_to_join("private-a").await;
    client.expect("private-a", "pusher:subscription_error").await;
}

// covers: U07
#[tokio::test]
async fn publishing_can_ask_who_was_there() {
    let server = configured("", "").start().await;
    let app = APPS[0].pusher(&server);
    let mut session = app.connect().await;
    session.subscribe("public").await;
    let info = "user_count,subscription_count";
    let event = json!({"name": "e", "channels": ["public", "presence-a"], "data": "{}", "info": info});
    let said = app.post("/events", &event).await.expect_status(200);
    let expected = json!({"channels": {
        "public": {"subscription_count": 1}, "presence-a": {"user_count": 0, "subscription_count": 0},
    }});
    assert_eq!(said.json, expected);
    let entry = |channel: &str, info: Option<&str>| {
        let mut entry = json!({"name": "e", "channel": channel, "data": "{}"});
        if let Some(info) = info {
            entry["info"] = info.into();
        }
        entry
    };
    let batch = json!({"batch": [entry("public", Some("subscription_count")), entry("public", None)]});
    let said = app.post("/batch_events", &batch).await.expect_status(200);
    assert_eq!(said.json, json!({"batch": [{"subscription_count": 1}, {}]}));
    // PHP's library sends one channel as `channel`.
    app.post("/events", &json!({"name": "one", "channel": "public", "data": {"an": "object"}}))
        .await
        .expect_status(200);
    let frame = session.expect("one", SOON).await;
    assert_eq!((frame.raw_data.is_string(), frame.data()), (true, json!({"an": "object"})), "objects become text once");
}

// covers: U08
#[tokio::test]
async fn a_cache_channel_gives_its_last_event_to_who_comes() {
    let server = configured("", "").start().await;
    let app = APPS[0].pusher(&server);
    let client = Client::node(&server).await;
    client.connect(&app.person("alice")).await;
    client.subscribe("cache-a").await;
    client.expect("cache-a", "pusher:cache_miss").await;
    app.trigger(&["cache-a"], "e", r#"{"n":1}"#).await.expect_status(200);
    app.trigger(&["cache-a"], "e", r#"{"n":2}"#).await.expect_status(200);
    let mut late = app.connect().await;
    late.subscribe("cache-a").await;
    assert_eq!(late.expect_on("e", "cache-a", SOON).await.raw_data, r#"{"n":2}"#);
    let said: Value = app.get("/channels/cache-a", &[("info", "cache")]).await.expect_status(200).json;
    assert_eq!(said["cache"]["data"], r#"{"n":2}"#, "{said}");
    crate::kit::heard_nothing(&mut late, "pusher:cache_miss").await;
}
