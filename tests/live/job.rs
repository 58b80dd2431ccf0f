//! The main job: an event is published once, and every recipient gets it in its own protocol.

use serde_json::{Value, json};
use tidings_testkit::{AppServer, Client, Receiver, Server, server, verify_with_official_clients};

use crate::kit::{SOON, joined};

const EVENT: &str = "person.created";
const PUBLIC: &str = "news";
const PRIVATE: &str = "private-desk";
const PRESENCE: &str = "presence-room";

// covers: L01, L02, L03, L04, U01
#[tokio::test]
async fn who_should_know_is_told_over_ws() {
    everybody_is_told(server().egress_allow("127.0.0.0/8").start().await).await;
}

// covers: L05
#[tokio::test]
async fn who_should_know_is_told_over_wss() {
    let server = server().egress_allow("127.0.0.0/8").tls().start().await;
    assert!(server.url.starts_with("https://"), "{}", server.url);
    everybody_is_told(server).await;
}

async fn everybody_is_told(server: Server) {
    let app = server.pusher();
    let partner = Receiver::start();
    let api = server.api();
    api.post("/v1/hooks", json!({"name": EVENT})).await.expect_status(201);
    let listener = json!({"url": partner.url("/in"), "hooks": [EVENT], "match": {"name": {"starts_with": "J"}}});
    let secret = api.post("/v1/listeners", listener).await.expect_status(201).text_at("secret");

    let (alice, bob, shop) = tokio::join!(Client::node(&server), Client::chromium(), AppServer::start(&server, &app));
    let alice_id = alice.connect(&app.person("alice")).await;
    bob.connect(&app.person("bob")).await;
    for client in [&alice, &bob] {
        client.subscribe(PUBLIC).await;
        client.subscribe(PRIVATE).await;
    }
    they_see_each_other(&alice, &bob).await;
    let stream = format!("{}/v1/stream?app={}&channels={PUBLIC}", server.url, app.key);
    alice.open_stream("s", &stream, &["tidings.open"]).await;
    bob.open_stream("s", &stream, &["tidings.open"]).await;
    for client in [&alice, &bob] {
        client.expect_streamed("s", "tidings.open").await;
    }
    joined(&api, PUBLIC, 4).await;

    // To all; to all but Alice; and one that the partner doesn't want.
    let (joe, jane, ann) = (person("Joe"), person("Jane"), person("Ann"));
    shop.trigger(&[PUBLIC, PRIVATE, PRESENCE], EVENT, joe.clone()).await;
    shop.trigger_but_for(&alice_id, &[PUBLIC], EVENT, jane.clone()).await;
    shop.trigger(&[PUBLIC], EVENT, ann.clone()).await;
    for client in [&alice, &bob] {
        for channel in [PRIVATE, PRESENCE] {
            assert_eq!(client.expect(channel, EVENT).await["data"], joe);
        }
        for who in [&joe, &jane, &ann] {
            let told: Value = client.expect_streamed("s", "message").await;
            let message: Value = serde_json::from_str(told["data"].as_str().unwrap()).unwrap();
            assert_eq!((&message["data"], &message["name"]), (who, &json!(EVENT)), "{told}");
            assert_eq!(message["channel"], PUBLIC);
        }
    }
    assert_eq!(heard_in_order(&alice, 2).await, [joe.clone(), ann.clone()], "Jane was not for Alice");
    assert_eq!(heard_in_order(&bob, 3).await, [joe.clone(), jane.clone(), ann]);
    they_talk(&alice, &bob).await;
    bob.disconnect().await;
    assert_eq!(alice.expect(PRESENCE, "pusher:member_removed").await["data"]["id"], "bob");

    let received = partner.wait_for(2, |_| true, SOON).await;
    nothing_is_owed(&server).await;
    assert_eq!(partner.total(), 2, "Ann does not begin with J");
    let mut names: Vec<_> = received.iter().map(|request| request.json()["data"].clone()).collect();
    names.sort_by_key(|data| data["name"].as_str().map(str::to_owned));
    assert_eq!(names, [jane, joe]);
    verify_with_official_clients(&received, &secret);
}

fn person(name: &str) -> Value {
    json!({"name": name, "address": {"city": "Bergen"}})
}

async fn heard_in_order(client: &Client, count: usize) -> Vec<Value> {
    let mut heard = Vec::new();
    for _ in 0..count {
        heard.push(client.expect(PUBLIC, EVENT).await["data"].take());
    }
    assert_eq!(client.heard(PUBLIC, EVENT), Vec::<Value>::new());
    heard
}

/// Alice is in the channel, Bob joins.
async fn they_see_each_other(alice: &Client, bob: &Client) {
    let alone = alice.subscribe(PRESENCE).await;
    assert_eq!((&alone["count"], &alone["my_id"]), (&json!(1), &json!("alice")), "{alone}");
    let both = bob.subscribe(PRESENCE).await;
    assert_eq!(both["members"], json!({"alice": {"name": "alice"}, "bob": {"name": "bob"}}), "{both}");
    let added = alice.expect(PRESENCE, "pusher:member_added").await;
    assert_eq!(added["data"], json!({"id": "bob", "info": {"name": "bob"}}), "{added}");
    assert_eq!(alice.members(PRESENCE).await["count"], 2);
    assert_eq!(bob.heard(PRESENCE, "pusher:member_added"), Vec::<Value>::new(), "nobody is told of themselves");
}

/// Client events go to the other members, not to the sender, with the sender's user id if it is known.
async fn they_talk(alice: &Client, bob: &Client) {
    assert!(alice.trigger(PRIVATE, "client-typing", json!({"on": true})).await);
    assert!(alice.trigger(PRESENCE, "client-typing", json!("text")).await);
    let typing = bob.expect(PRIVATE, "client-typing").await;
    assert_eq!((&typing["data"], &typing["user_id"]), (&json!({"on": true}), &json!(null)), "{typing}");
    let typing = bob.expect(PRESENCE, "client-typing").await;
    assert_eq!((&typing["data"], &typing["user_id"]), (&json!("text"), &json!("alice")), "{typing}");
    assert!(bob.trigger(PRIVATE, "client-answer", json!({})).await);
    alice.expect(PRIVATE, "client-answer").await;
    assert_eq!(alice.heard(PRIVATE, "client-typing"), Vec::<Value>::new(), "Alice heard herself");
}

async fn nothing_is_owed(server: &Server) {
    let api = server.api();
    tidings_testkit::eventually(SOON, || async {
        let page = api.get("/v1/deliveries?state=pending&limit=1").await.expect_status(200);
        page["data"].as_array().is_some_and(Vec::is_empty).then_some(())
    })
    .await;
}
