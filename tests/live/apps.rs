//! Two apps that use the same names: nothing of one reaches the other.

use serde_json::{Value, json};
use tidings_testkit::PusherApp;

use crate::kit::{APPS, SOON, configured, heard_nothing, opened, say};

const HISTORY: &str = "[apps.channels]\npublic = true\nhistory_size = 100\nhistory_ttl = \"1h\"\n";

// covers: T04
#[tokio::test]
async fn channels_of_the_same_name_in_two_apps_know_nothing_of_each_other() {
    let server = configured("", HISTORY).start().await;
    let apps = APPS.map(|keys| keys.pusher(&server));
    let mut sessions = Vec::new();
    let mut streams = Vec::new();
    for (keys, app) in APPS.iter().zip(&apps) {
        let mut session = app.connect().await;
        session.subscribe("news").await;
        session.subscribe("private-a").await;
        let joined = session.subscribe_as("presence-a", "alice", json!({"of": keys.name})).await;
        let alone = json!({"ids": ["alice"], "hash": {"alice": {"of": keys.name}}, "count": 1});
        assert_eq!(joined["presence"], alone, "{joined}");
        sessions.push(session);
        streams.push(opened(keys.stream(&server, "news", "")).await);
        crate::kit::joined(&keys.api(&server), "news", 2).await;
    }
    let channels = ["news", "private-a", "presence-a"];
    apps[0].trigger(&channels, "of-one", "1").await.expect_status(200);
    say(&APPS[0].api(&server), &channels, 1).await;
    sessions[0].send(json!({"event": "client-of-one", "channel": "private-a", "data": {}})).await;
    sessions[0].settle().await;
    for channel in channels {
        sessions[0].expect_on("of-one", channel, SOON).await;
    }
    let mut more = apps[0].connect().await;
    more.subscribe_as("presence-a", "bob", json!({})).await;
    sessions[0].expect("pusher_internal:member_added", SOON).await;

    sessions[1].settle().await;
    let heard: Vec<_> = sessions[1].waiting().collect();
    assert!(heard.is_empty(), "{heard:?}");
    say(&APPS[1].api(&server), &["news"], 2).await;
    let first = streams[1].expect("message", SOON).await;
    assert_eq!(first.json()["data"]["n"], 2, "the stream of app two heard of app one");
    // Neither does a position: what app one has said is not there to be caught up with.
    let (_, offset) = first.id.rsplit_once(':').unwrap();
    assert_eq!(offset, "1", "the histories count together");
    let foreign = streams[0].expect("message", SOON).await.id;
    let mut back = opened(APPS[1].stream(&server, "news", "").header("last-event-id", &foreign)).await;
    assert_eq!(back.next(SOON).await.unwrap().name, "tidings.lost");
    asked_of_the_api(&apps).await;
}

async fn asked_of_the_api(apps: &[PusherApp; 2]) {
    let users = |app: &PusherApp| app.get("/channels/presence-a/users", &[]);
    let ids = |reply: Value| {
        let mut ids: Vec<_> = reply["users"].as_array().unwrap().iter().map(|user| user["id"].clone()).collect();
        ids.sort_by_key(Value::to_string);
        ids
    };
    assert_eq!(ids(users(&apps[0]).await.expect_status(200).json), [json!("alice"), json!("bob")]);
    assert_eq!(ids(users(&apps[1]).await.expect_status(200).json), [json!("alice")]);
}

// covers: T04
#[tokio::test]
async fn what_one_app_signs_proves_nothing_to_another() {
    let server = configured("", HISTORY).start().await;
    let (one, two) = (APPS[0].pusher(&server), APPS[1].pusher(&server));
    let mut session = two.connect().await;
    let id = session.socket_id.clone();
    for auth in [one.auth(&id, "private-a", None), one.auth(&id, "private-a", None).replace(&one.key, &two.key)] {
        session.ask_to_join("private-a", &auth, None).await;
        session.expect("pusher:error", SOON).await;
    }
    heard_nothing(&mut session, "pusher_internal:subscription_succeeded").await;
    // App one ends sessions of its own users only, and cannot leave out sessions of app two by accident.
    session.subscribe("news").await;
    let user = json!({"id": "alice"}).to_string();
    let signin = json!({"event": "pusher:signin", "data": {"auth": two.user_auth(&id, &user), "user_data": user}});
    session.send(signin).await;
    session.expect("pusher:signin_success", SOON).await;
    one.post("/users/alice/terminate_connections", &json!({})).await.expect_status(200);
    session.settle().await;
    let foreign = PusherApp { id: two.id.clone(), ..one.clone() };
    foreign.trigger(&["news"], "forged", "1").await.expect_status(401);
    heard_nothing(&mut session, "forged").await;
}
