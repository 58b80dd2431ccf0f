//! PostgreSQL and Redis fail over: measures how long publishes are refused, and counts acknowledged events that are
//! lost.

use std::collections::BTreeSet;
use std::sync::Arc;

use serde_json::{Value, json};
use tidings_testkit::{
    Api, Client, Cluster, Cut, Database, Proxy, Receiver, Server, Standby, eventually, postgres_alone, proxy, redis,
};
use tokio::time::Instant;

use super::publisher::{Published, Publisher};
use super::readers::{all_read, event_source, judge, print, rows};
use super::{KEEPING, KEPT, PATIENCE, Seconds, in_time};
use crate::kit::{APPS, configured};
use crate::nodes::node_of;

const HOOK: &str = "order.placed";
/// How many publishes have to fail before the failover continues.
const FAILED: usize = 1;
const ENOUGH: usize = 20;
/// Whether commits wait for a standby.
const SYNCED: &str = "SELECT bool_or(sync_state = 'sync') FROM pg_stat_replication WHERE state = 'streaming'";

/// A server that reaches its database by a host name, a listener, and a synchronous standby.
struct Setup {
    publisher: Publisher,
    partner: Receiver,
    server: Server,
    /// The host name; its address can be changed.
    name: Proxy,
    standby: Standby,
    primary: Primary,
}

/// A database whose commits wait for its standby. Dropping it turns that off, so that its own end does not wait for a
/// standby that has gone.
struct Primary(Database);

impl Drop for Primary {
    fn drop(&mut self) {
        self.0.run("ALTER SYSTEM RESET synchronous_standby_names");
        self.0.run("SELECT pg_reload_conf()");
    }
}

async fn setup() -> Setup {
    let primary = Primary(postgres_alone());
    let standby = primary.0.standby();
    primary.0.run("ALTER SYSTEM SET synchronous_standby_names = '*'");
    primary.0.run("SELECT pg_reload_conf()");
    let synced = || async { (primary.0.run(SYNCED) == "t").then_some(()) };
    eventually(PATIENCE, synced).await;
    let name = proxy(primary.0.address());
    let store = format!("[store]\nurl = \"{}\"\n", primary.0.url_at(name.addr()));
    let server = configured(&store, KEEPING).alone().start().await;
    let (api, partner) = (APPS[0].api(&server), Receiver::start());
    api.post("/v1/hooks", json!({"name": HOOK})).await.expect_status(201);
    api.post("/v1/listeners", json!({"url": partner.url("/in"), "hooks": [HOOK]})).await.expect_status(201);
    let event = |n: u64| json!({"name": HOOK, "id": format!("e-{n}"), "data": {"n": n}});
    let publisher = Publisher::start(vec![api], event);
    assert!(publisher.succeeds(ENOUGH).await, "nothing is acknowledged");
    Setup { publisher, partner, server, name, standby, primary }
}

impl Setup {
    /// Waits until publishes work again, prints how long they failed, and checks that every acknowledged event is
    /// there.
    async fn finish(self, what: &str, since: (&str, Instant)) {
        let works_again = self.publisher.succeeds(ENOUGH).await;
        let published = self.publisher.finish().await;
        let acknowledged = published.acknowledged();
        let undelivered = || {
            let delivered: BTreeSet<u64> =
                self.partner.received().iter().filter_map(|request| request.json()["data"]["n"].as_u64()).collect();
            acknowledged.difference(&delivered).count()
        };
        in_time(|| std::future::ready(undelivered() == 0)).await;
        print_outage(what, &published, since);
        println!("acknowledged: {}, not delivered: {}", acknowledged.len(), undelivered());
        assert!(works_again, "{what}: publishes still fail after {PATIENCE:?}");
        let logged = logged(&APPS[0].api(&self.server)).await;
        let unlogged = acknowledged.difference(&logged).count();
        println!("not in the log: {unlogged}");
        assert_eq!((undelivered(), unlogged), (0, 0), "{what}: something that was acknowledged is lost");
    }
}

/// Prints how long no publish was acknowledged, in all and since the operator's last step.
fn print_outage(what: &str, published: &Published, (step, done): (&str, Instant)) {
    let outage = published.outage();
    let (all, since) = (outage.and_then(|it| it.since(it.from)), outage.and_then(|it| it.since(done)));
    let (refused, unknown) = outage.map_or((0, 0), |it| (it.refused, it.unknown));
    println!(
        "\n| {what} | publishes fail for | of it after {step} | answered 503 | without an answer \
        |\n|---|---|---|---|---|\n| | {} | {} | {refused} | {unknown} |\n",
        Seconds(all),
        Seconds(since),
    );
}

/// The numbers of all events in the log.
async fn logged(api: &Api) -> BTreeSet<u64> {
    let (mut all, mut cursor) = (BTreeSet::new(), String::new());
    loop {
        let page = api.get(&format!("/v1/events?name={HOOK}&limit=250{cursor}")).await.expect_status(200);
        let ids = page["data"].as_array().into_iter().flatten().filter_map(|event| event["id"].as_str());
        all.extend(ids.filter_map(|id| id.strip_prefix("e-")?.parse::<u64>().ok()));
        match page["next"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => return all,
        }
    }
}

// covers: G406
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_demoted_database_that_keeps_its_connections_costs_no_acknowledged_event() {
    let setup = setup().await;
    setup.primary.0.demote();
    setup.standby.promote();
    assert!(setup.publisher.fails(FAILED).await, "a server that takes no writes acknowledges them");
    setup.name.retarget(setup.standby.address());
    let moved = Instant::now();
    setup.finish("PostgreSQL is demoted and keeps its connections", ("its name moved", moved)).await;
}

// covers: G407
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_name_that_moves_before_the_promotion_costs_no_acknowledged_event() {
    let setup = setup().await;
    setup.name.retarget(setup.standby.address());
    setup.name.cut(Cut::Reset);
    assert!(setup.publisher.fails(FAILED).await, "a standby acknowledges events");
    setup.standby.promote();
    let promoted = Instant::now();
    setup.finish("PostgreSQL's name moves before the standby is promoted", ("the promotion", promoted)).await;
}

// covers: G408
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn readers_go_on_after_a_demoted_redis_that_keeps_its_connections() {
    const WHAT: &str = "Redis is demoted and keeps its connections";
    let cluster = Cluster::new().await;
    let promoted = redis().await;
    promoted.follow(&cluster.redis).await;
    let name = proxy(cluster.redis.address());
    let at = cluster.lines_via(&cluster.database.url(), &format!("redis://{}", name.addr()));
    let nodes = [node_of(&at, KEEPING).await, node_of(&at, KEEPING).await];
    let client = Arc::new(Client::node_readers().await);
    let mut readers = Vec::new();
    for (node, who) in nodes.iter().zip(["EventSource at the publisher's node", "EventSource at the other node"]) {
        readers.push(event_source(who, &client, "eventsource 4", node.addr).await);
    }
    let event = |n: u64| -> Value { json!({"name": "e", "channels": [KEPT], "data": {"n": n}}) };
    let publisher = Publisher::start(vec![APPS[0].api(&nodes[0])], event);
    all_read(&readers).await;
    promoted.run(&["REPLICAOF", "NO", "ONE"]);
    cluster.redis.follow(&promoted).await;
    assert!(publisher.fails(FAILED).await, "a replica takes what is published");
    name.retarget(promoted.address());
    let moved = Instant::now();
    let works_again = publisher.succeeds(ENOUGH).await;
    let (rows, published) = rows(&readers, publisher).await;
    print_outage(WHAT, &published, ("its name moved", moved));
    print(WHAT, &rows, &published);
    judge(WHAT, &rows);
    assert!(works_again, "publishes still fail after {PATIENCE:?}");
}
