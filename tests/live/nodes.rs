//! Two servers, one PostgreSQL and one Redis: channels and listeners are the same on both.

use serde_json::{Value, json};
use tidings_testkit::{Api, Cluster, Incoming, PusherSession, Receiver, Server, Stream, eventually};

use crate::kit::{APPS, SOON, configured, joined, occupied, opened, say};

const KEEPING: &str = "[apps.channels]\npublic = true\n[[apps.namespaces]]\nname = \"news\"\nmatch = [\"news-\"]\n\
    public = true\nhistory_size = 5000\nhistory_ttl = \"1h\"\n";

/// Starts one more node of the cluster.
pub(crate) async fn node(cluster: &Cluster) -> Server {
    node_with(&cluster.lines()).await
}

/// Starts one more node with these config lines.
pub(crate) async fn node_with(top: &str) -> Server {
    node_of(top, KEEPING).await
}

/// Starts one more node with these config lines, and these for each app.
pub(crate) async fn node_of(top: &str, each: &str) -> Server {
    configured(top, each).alone().start().await
}

/// How many events each publisher of each door and node publishes.
const EACH: u64 = 150;
/// Two doors of two nodes.
const PUBLISHERS: u64 = 4;
const ALL: usize = (EACH * PUBLISHERS) as usize;

/// The publisher, and the number of its event.
type Sequence = Vec<(u64, u64)>;

// covers: N01, L06
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn both_nodes_hear_what_either_says_in_one_order() {
    let cluster = Cluster::new().await;
    let nodes = [node(&cluster).await, node(&cluster).await];
    let one = APPS[0];
    let (mut pushers, mut streams) = (Vec::new(), Vec::new());
    for server in &nodes {
        let mut session = one.pusher(server).connect().await;
        session.subscribe("news-all").await;
        pushers.push(tokio::spawn(frames(session)));
        streams.push(tokio::spawn(events(opened(one.stream(server, "news-all", "")).await)));
    }
    joined(&one.api(&nodes[0]), "news-all", 4).await;
    let mut publishers = Vec::new();
    for (p, server) in (0..).step_by(2).zip(&nodes) {
        publishers.push(tokio::spawn(publish_through_api(one.api(server), p)));
        publishers.push(tokio::spawn(publish_through_pusher(one.pusher(server), p + 1)));
    }
    for publisher in publishers {
        publisher.await.unwrap();
    }
    let first = pushers.remove(0).await.unwrap();
    for p in 0..PUBLISHERS {
        let own: Vec<_> = first.iter().filter(|(from, _)| *from == p).map(|(_, n)| *n).collect();
        assert_eq!(own, (0..EACH).collect::<Vec<_>>(), "what publisher {p} was acknowledged in this order");
    }
    assert_eq!(pushers.remove(0).await.unwrap(), first, "the other node's session");
    for stream in streams {
        assert_eq!(stream.await.unwrap(), first, "a stream");
    }
}

fn saying(p: u64, n: u64) -> Value {
    json!({"name": "e", "channels": ["news-all"], "data": {"p": p, "n": n}})
}

fn said(data: &Value) -> (u64, u64) {
    (data["p"].as_u64().unwrap(), data["n"].as_u64().unwrap())
}

async fn publish_through_api(api: Api, p: u64) {
    for n in 0..EACH {
        api.post("/v1/events", saying(p, n)).await.expect_status(202);
    }
}

async fn publish_through_pusher(app: tidings_testkit::PusherApp, p: u64) {
    for n in 0..EACH {
        app.trigger(&["news-all"], "e", &json!({"p": p, "n": n}).to_string()).await.expect_status(200);
    }
}

async fn frames(mut session: PusherSession) -> Sequence {
    let mut heard = Vec::new();
    while heard.len() < ALL {
        match session.next(SOON).await {
            Incoming::Frame(frame) if frame.event == "e" => heard.push(said(&frame.data())),
            Incoming::Frame(_) => {}
            other => panic!("after {} events: {other:?}", heard.len()),
        }
    }
    heard
}

/// The events of a stream; asserts that its cursors have no gap.
async fn events(mut stream: Stream) -> Sequence {
    let mut heard = Vec::new();
    while heard.len() < ALL {
        let event = stream.expect("message", SOON).await;
        heard.push(said(&event.json()["data"]));
        let (_, offset) = event.id.rsplit_once(':').unwrap();
        assert_eq!(offset.parse::<usize>().unwrap(), heard.len(), "a gap in the offsets");
    }
    heard
}

// covers: N01, L08
#[tokio::test]
async fn a_reader_that_comes_back_on_the_other_node_has_missed_nothing() {
    let cluster = Cluster::new().await;
    let (first, second) = (node(&cluster).await, node(&cluster).await);
    let one = APPS[0];
    let mut stream = opened(one.stream(&second, "news-all", "")).await;
    occupied(&one.pusher(&first), "news-all").await;
    say(&one.api(&first), &["news-all"], 0).await;
    // From one node to the other, again and again, with something said meanwhile by each.
    for round in 0..6 {
        let (here, there) = if round % 2 == 0 { (&first, &second) } else { (&second, &first) };
        let event = stream.expect("message", SOON).await;
        assert_eq!(event.json()["data"]["n"], 3 * round);
        drop(stream);
        say(&one.api(here), &["news-all"], 3 * round + 1).await;
        say(&one.api(there), &["news-all"], 3 * round + 2).await;
        stream = opened(one.stream(here, "news-all", "").header("last-event-id", &event.id)).await;
        for n in [3 * round + 1, 3 * round + 2] {
            assert_eq!(stream.expect("message", SOON).await.json()["data"]["n"], n);
        }
        say(&one.api(there), &["news-all"], 3 * round + 3).await;
    }
}

// covers: N01, L04
#[tokio::test]
async fn a_user_on_both_nodes_comes_once_and_goes_once() {
    let cluster = Cluster::new().await;
    let (first, second) = (node(&cluster).await, node(&cluster).await);
    let one = APPS[0];
    let mut witnesses = Vec::new();
    for (server, user) in [(&first, "w1"), (&second, "w2")] {
        let mut witness = one.pusher(server).connect().await;
        witness.subscribe_as("presence-room", user, json!({})).await;
        witnesses.push(witness);
    }
    witnesses[0].expect("pusher_internal:member_added", SOON).await;
    let mut here = one.pusher(&first).connect().await;
    here.subscribe_as("presence-room", "ann", json!({"at": "first"})).await;
    let mut there = one.pusher(&second).connect().await;
    let welcome = there.subscribe_as("presence-room", "ann", json!({"at": "second"})).await;
    assert_eq!(welcome["presence"]["count"], 3, "{welcome}");
    assert_eq!(welcome["presence"]["hash"]["ann"], json!({"at": "first"}), "{welcome}");
    for server in [&first, &second] {
        let app = one.pusher(server);
        let state = app.get("/channels/presence-room", &[("info", "user_count,subscription_count")]).await;
        let state = state.expect_status(200);
        assert_eq!((&state["user_count"], &state["subscription_count"]), (&json!(3), &json!(4)), "{}", state.text());
    }
    here.close().await;
    let count = || async {
        let state = one.pusher(&second).get("/channels/presence-room", &[("info", "subscription_count")]).await;
        (state["subscription_count"] == 3).then_some(())
    };
    eventually(SOON, count).await;
    there.close().await;
    for witness in &mut witnesses {
        let come = witness.expect("pusher_internal:member_added", SOON).await;
        assert_eq!(come.data()["user_id"], "ann");
        let gone = witness.expect("pusher_internal:member_removed", SOON).await;
        assert_eq!(gone.data()["user_id"], "ann");
        witness.settle().await;
        assert_eq!(witness.waiting().count(), 0, "{:?}", witness.waiting().collect::<Vec<_>>());
    }
}

// covers: N06, L01
#[tokio::test]
async fn a_listener_that_one_node_was_told_of_gets_what_the_other_is_told() {
    let cluster = Cluster::new().await;
    let (first, second) = (node(&cluster).await, node(&cluster).await);
    let partner = Receiver::start();
    let (here, there) = (APPS[0].api(&first), APPS[0].api(&second));
    here.post("/v1/hooks", json!({"name": "person.created"})).await.expect_status(201);
    let publish = || async {
        let event = json!({"name": "person.created", "data": {}});
        let answer = there.post("/v1/events", event).await.expect_status(202);
        (answer["logged"] == true).then_some(answer)
    };
    // A name that a node does not know yet is no hook to it.
    let answer = eventually(SOON, publish).await;
    assert_eq!(answer["deliveries"], 0);
    // From here on each publish is checked against the catalogue as it is in the store.
    let body = json!({"url": partner.url("/in"), "hooks": ["person.created"]});
    let id = here.post("/v1/listeners", &body).await.expect_status(201).text_at("id");
    assert_eq!(publish().await.unwrap()["deliveries"], 1);
    let path = format!("/v1/listeners/{id}");
    here.patch(&path, json!({"match": {"name": "Ann"}})).await.expect_status(200);
    assert_eq!(publish().await.unwrap()["deliveries"], 0);
    here.delete(&path).await.expect_status(204);
    assert_eq!(publish().await.unwrap()["deliveries"], 0);
    partner.wait_for(1, |_| true, SOON).await;
    let known = || async { (there.get(&path).await.status == 404).then_some(()) };
    eventually(SOON, known).await;
    assert_eq!(partner.total(), 1);
}

// covers: N02
#[tokio::test]
async fn members_of_a_node_that_dies_are_gone_on_the_other() {
    let cluster = Cluster::new().await;
    let (mut first, second) = (node(&cluster).await, node(&cluster).await);
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
