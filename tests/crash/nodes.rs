//! Two nodes on one PostgreSQL and one Redis, both under load: one is killed, is frozen, or loses the database. Every
//! acknowledged event must have been delivered, as with one node.

use std::collections::HashSet;
use std::time::Duration;

use serde_json::json;
use tidings_testkit::{
    Answer, Api, Cluster, Cut, PusherApp, Receiver, Server, eventually, postgres_alone, proxy, server,
};
use tokio::time::Instant;

use crate::common::{LATER, SOON, drained, hook, listener, publish_all};
use crate::publisher::{Acknowledged, Publisher};
use crate::tally::Tally;

/// The interval of each of the two publishers; together they publish 250 events per second.
const EVERY: Duration = Duration::from_millis(8);
/// The second publisher's first number.
const SECOND: u64 = 1_000_000;
/// The most attempts in flight at a node; a setting of the server.
const IN_FLIGHT: usize = 64;
/// The most results of a node that are not written yet; a constant of the server.
const UNWRITTEN: usize = 512;
const KEY: &str = "api-key-of-the-app";
const HOOK: &str = "order.placed";

/// A node with these config lines. Leases are short, so that the other node soon takes over.
async fn node(lines: &str) -> Server {
    let courier = format!("[courier]\nlease = \"4s\"\ntimeout = \"2s\"\nmax_in_flight = {IN_FLIGHT}\n");
    let app =
        format!("[[apps]]\nid = \"1\"\nkey = \"key\"\nsecret = \"a-secret-of-the-app\"\napi_keys = [\"{KEY}\"]\n");
    let keeping = "[apps.channels]\npublic = true\nhistory_size = 5000\nhistory_ttl = \"1h\"\n";
    server().alone().egress_allow("127.0.0.0/8").config(format!("{lines}{courier}{app}{keeping}")).start().await
}

fn api(server: &Server) -> Api {
    Api::new(&server.url, KEY)
}

fn app(server: &Server) -> PusherApp {
    server.pusher_app("1", "key", "a-secret-of-the-app")
}

/// A receiver with an ordered listener and an unordered one, which both nodes know. Some of the latter's requests are
/// slow, so that attempts are in flight at any moment.
async fn listeners([server, other]: [&Server; 2]) -> Receiver {
    let partner = Receiver::start_with_threads(2);
    partner.answer_with("/free", |request| {
        let slow = request.json()["data"]["n"].as_u64().is_some_and(|n| n.is_multiple_of(13));
        Answer::default().delay(if slow { Duration::from_millis(150) } else { Duration::ZERO })
    });
    hook(&api(server), HOOK).await;
    listener(&api(server), json!({"url": partner.url("/free"), "hooks": [HOOK]})).await;
    let chosen = json!({"chosen": true});
    let fifo = json!({"url": partner.url("/fifo"), "hooks": [HOOK], "order": "fifo", "match": chosen});
    let last = listener(&api(server), fifo).await;
    let path = format!("/v1/listeners/{last}");
    eventually(SOON, || async { (api(other).get(&path).await.status == 200).then_some(()) }).await;
    partner
}

/// A publisher at each node.
fn publishers(nodes: [&Server; 2]) -> [Publisher; 2] {
    [(1, nodes[0]), (SECOND, nodes[1])].map(|(first, server)| Publisher::start_at(first, api(server), HOOK, EVERY))
}

async fn finish(publishers: [Publisher; 2]) -> Vec<Acknowledged> {
    let [first, second] = publishers;
    let mut all = first.finish(LATER).await;
    all.extend(second.finish(LATER).await);
    all
}

/// Waits until so many requests have come from now on.
async fn some_more(partner: &Receiver, count: usize) {
    let before = partner.total();
    eventually(SOON, || async { (partner.total() >= before + count).then_some(()) }).await;
}

/// Prints the counts and asserts that nothing is lost; returns how many deliveries were repeated.
fn count(what: &str, partner: &Receiver, acknowledged: &[Acknowledged]) -> usize {
    assert_eq!(partner.received().len(), partner.total(), "the receiver has forgotten requests: the counts would lie");
    let (mut owed, mut delivered, mut repeated) = (0, 0, 0);
    for path in ["/free", "/fifo"] {
        let tally = Tally::of(partner.received_on(path).iter(), |_| true);
        let wanted: Vec<_> = acknowledged.iter().filter(|event| path == "/free" || event.chosen()).collect();
        for event in &wanted {
            assert_eq!(
                tally.id(event.n),
                Some(event.id.as_str()),
                "{path}: event {} came as another, or not at all",
                event.n
            );
        }
        if path == "/fifo" {
            tally.assert_repeats_follow(path);
        }
        owed += wanted.len();
        delivered += tally.distinct();
        repeated += tally.repeated();
    }
    let lost = owed.saturating_sub(delivered);
    println!(
        "{what}: acknowledged {}, owed {owed}, delivered {delivered}, lost {lost}, repeated {repeated}; published \
        again {}",
        acknowledged.len(),
        acknowledged.iter().filter(|event| event.tries > 1).count()
    );
    assert_eq!(delivered, owed, "delivered to somebody who is owed nothing");
    repeated
}

/// A value of `/metrics`, summed over its labels.
async fn attempts(server: &Server) -> u64 {
    let text = server.metrics().await;
    let values = text.lines().filter(|line| line.starts_with("tidings_courier_attempts_total"));
    values.filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok()).sum()
}

// covers: N06
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_one_node_takes_both_deliver_each_once() {
    const EVENTS: u64 = 200;
    let cluster = Cluster::new().await;
    let (first, second) = (node(&cluster.lines()).await, node(&cluster.lines()).await);
    let partner = Receiver::start();
    hook(&api(&first), HOOK).await;
    // A listener with a concurrency of its own is served by one node: of two, each node gets one.
    for path in ["/a", "/b"] {
        partner.respond(path, Answer::default().delay(Duration::from_millis(100)));
        listener(&api(&first), json!({"url": partner.url(path), "hooks": [HOOK], "concurrency": 4})).await;
    }
    publish_all(&api(&first), HOOK, 1..=EVENTS).await;
    partner.wait_for(2 * EVENTS as usize, |_| true, LATER).await;
    drained(&first, LATER).await;
    let made = [attempts(&first).await, attempts(&second).await];
    println!("attempts of each node: {made:?}");
    assert_eq!((made[0] + made[1], partner.total() as u64), (2 * EVENTS, 2 * EVENTS), "something was made twice");
    assert!(made.iter().all(|made| *made > 0), "one node made all of them");
    for path in ["/a", "/b"] {
        let received = partner.received();
        let to_path = received.iter().filter(|request| request.path == path);
        assert_eq!(Tally::of(to_path, |_| true).distinct() as u64, EVENTS, "{path}");
    }
}

// covers: N06, N02, C01, C04, C08
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_is_killed_under_load_loses_nothing() {
    let cluster = Cluster::new().await;
    let (mut first, second) = (node(&cluster.lines()).await, node(&cluster.lines()).await);
    let partner = listeners([&first, &second]).await;
    let mut member = app(&first).connect().await;
    member.subscribe_as("presence-room", "ann", json!({})).await;
    let mut witness = app(&second).connect().await;
    witness.subscribe_as("presence-room", "bob", json!({})).await;

    let publishers = publishers([&first, &second]);
    some_more(&partner, 1_000).await;
    let killed = Instant::now();
    first.kill9().await;
    publishers[0].aim(api(&second));
    let gone = witness.expect("pusher_internal:member_removed", SOON).await;
    assert_eq!(gone.data()["user_id"], "ann");
    println!("its member was gone {:?} after the kill; the lease is 3 s", killed.elapsed());
    some_more(&partner, 500).await;
    let acknowledged = finish(publishers).await;
    drained(&second, LATER).await;
    let repeated = count("one of two nodes killed", &partner, &acknowledged);
    assert!(repeated <= IN_FLIGHT + UNWRITTEN, "{repeated} were repeated by one kill");
}

// covers: N06, C04, C08
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_stands_still_beyond_its_leases_does_nothing_twice_when_it_goes_on() {
    let cluster = Cluster::new().await;
    let (mut first, second) = (node(&cluster.lines()).await, node(&cluster.lines()).await);
    let partner = listeners([&first, &second]).await;
    let path = "/v1/stream?app=key&channel=news";
    let mut stream =
        api(&first).without_key().get(path).stream().await.unwrap_or_else(|reply| panic!("{}", reply.text()));
    stream.expect("tidings.open", SOON).await;
    let is_there = || async { (app(&second).get("/channels/news", &[]).await["occupied"] == true).then_some(()) };
    eventually(SOON, is_there).await;
    let say = |n: u64| json!({"name": "e", "channels": ["news"], "data": {"n": n}});
    api(&second).post("/v1/events", say(0)).await.expect_status(202);

    let publishers = publishers([&first, &second]);
    some_more(&partner, 500).await;
    first.freeze();
    publishers[0].aim(api(&second));
    for n in 1..=3 {
        api(&second).post("/v1/events", say(n)).await.expect_status(202);
    }
    // Whatever the first one held has been delivered by the second.
    let acknowledged = finish(publishers).await;
    drained(&second, LATER).await;
    let before = count("a node stands still", &partner, &acknowledged);
    let came = partner.total();
    first.thaw();
    for n in 0..=3 {
        assert_eq!(stream.expect("message", SOON).await.json()["data"]["n"], n);
    }
    drained(&first, LATER).await;
    // It works again, and what it was about to do is settled.
    publish_all(&api(&first), HOOK, [SECOND * 2 + 1]).await;
    partner.wait_for(1, |request| request.json()["data"]["n"] == SECOND * 2 + 1, SOON).await;
    drained(&first, LATER).await;
    let after: HashSet<_> = partner.received().split_off(came).iter().map(crate::common::number).collect();
    println!(
        "after it went on: {} requests, of them {} for events from before",
        partner.total() - came,
        after.len() - 1
    );
    assert!(before <= IN_FLIGHT + UNWRITTEN, "{before} were repeated while it stood still");
    assert!(partner.total() - came <= 1 + IN_FLIGHT, "it went on with what others had done");
}

// covers: N06, C03
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_that_crashes_under_load_loses_nothing() {
    let cluster = Cluster::on(postgres_alone()).await;
    let (first, second) = (node(&cluster.lines()).await, node(&cluster.lines()).await);
    let partner = listeners([&first, &second]).await;
    let publishers = publishers([&first, &second]);
    for _ in 0..3 {
        some_more(&partner, 300).await;
        cluster.database.crash().await;
    }
    some_more(&partner, 300).await;
    let acknowledged = finish(publishers).await;
    drained(&first, LATER).await;
    count("PostgreSQL crashed three times", &partner, &acknowledged);
}

// covers: N06, C03
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_line_to_the_database_that_is_cut_or_silent_loses_nothing() {
    let cluster = Cluster::new().await;
    let line = proxy(cluster.database.address());
    let far = cluster.lines_via(&cluster.database.url_at(line.addr()), &cluster.redis.url());
    let (first, second) = (node(&far).await, node(&cluster.lines()).await);
    let partner = listeners([&first, &second]).await;
    let publishers = publishers([&first, &second]);
    for how in [Cut::Reset, Cut::Fin, Cut::Reset] {
        some_more(&partner, 200).await;
        line.cut(how);
    }
    some_more(&partner, 200).await;
    line.go_silent();
    let is_ready = || async { api(&first).get("/readyz").within(SOON).send().await.map(|reply| reply.status).ok() };
    eventually(LATER, || async { (is_ready().await == Some(503)).then_some(()) }).await;
    line.come_back();
    line.cut(Cut::Reset);
    eventually(LATER, || async { (is_ready().await == Some(200)).then_some(()) }).await;
    some_more(&partner, 200).await;
    let acknowledged = finish(publishers).await;
    drained(&first, LATER).await;
    count("the line to PostgreSQL cut and silent", &partner, &acknowledged);
}

// covers: R16, N06
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_listener_bears_is_shared_by_both_nodes() {
    const EVENTS: u64 = 40;
    let cluster = Cluster::new().await;
    let nodes = [node(&cluster.lines()).await, node(&cluster.lines()).await];
    for node in &nodes {
        eventually(SOON, || async { node.metrics().await.contains("\ntidings_courier_nodes 2\n").then_some(()) }).await;
    }
    let partner = Receiver::start();
    partner.respond("/one", Answer::default().delay(Duration::from_millis(40)));
    hook(&api(&nodes[0]), HOOK).await;
    let body = json!({"url": partner.url("/one"), "hooks": [HOOK], "concurrency": 1});
    let path = format!("/v1/listeners/{}", listener(&api(&nodes[0]), body).await);
    eventually(SOON, || async { (api(&nodes[1]).get(&path).await.status == 200).then_some(()) }).await;
    for n in 0..EVENTS {
        publish_all(&api(&nodes[n as usize % 2]), HOOK, [n]).await;
    }
    drained(&nodes[0], LATER).await;
    assert_eq!(partner.total() as u64, EVENTS);
    assert_eq!(partner.most_at_once("/one"), 1, "each node has granted it one of its own");
}
