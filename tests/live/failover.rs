//! Redis stops, comes back, loses data, or cannot be reached: the test counts what readers at two nodes receive.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use serde_json::{Value, json};
use tidings_testkit::{
    Api, Cluster, Cut, Incoming, Proxy, PusherSession, Server, Stream, Toward, eventually, proxy, redis, redis_cluster,
};
use tokio::task::JoinHandle;

use crate::kit::{APPS, SOON, joined, metric, occupied, opened, say};
use crate::nodes::{node, node_with};

/// The pause between two publishes of one publisher.
const PAUSE: Duration = Duration::from_millis(25);
/// How long Redis is stopped: longer than a node's lease and than a call's timeout.
const LONG: Duration = Duration::from_secs(20);
/// How long all messages may take to arrive on a busy machine.
const LATER: Duration = Duration::from_secs(90);
const ENOUGH: usize = 20;
/// The log line of a start that has waited in vain.
const WITHOUT: &str = "starting without it";

/// Waits until `/readyz` reports that Redis is reachable, or not. The server is ready either way.
async fn reaches(server: &Server, reachable: bool) {
    eventually(SOON, || async {
        let body: Value = Api::new(&server.url, "").get("/readyz").await.expect_status(200).json;
        assert_eq!(body["broker"], "redis");
        (body["broker_reachable"] == reachable).then_some(())
    })
    .await;
}

/// The results of the publishes at one node, by number.
#[derive(Debug, Default)]
struct Said {
    acknowledged: Vec<u64>,
    /// Answered 503: not published.
    refused: usize,
    /// Answered with something else, or not at all: maybe published.
    unknown: usize,
}

/// A publisher at each node, which goes on whatever happens to Redis.
struct Publishers {
    said: [Arc<Mutex<Said>>; 2],
    stop: Arc<AtomicBool>,
    tasks: Vec<JoinHandle<()>>,
}

impl Publishers {
    fn start(nodes: [&Server; 2]) -> Self {
        let said = [Arc::default(), Arc::default()];
        let stop = Arc::new(AtomicBool::new(false));
        let tasks = (0..).zip(nodes).zip(&said).map(|((p, server), said)| {
            tokio::spawn(publish(APPS[0].api(server), p, Arc::clone(said), Arc::clone(&stop)))
        });
        Self { tasks: tasks.collect(), said, stop }
    }

    /// Waits until each of these publishers has been acknowledged some more.
    async fn go_on(&self, publishers: &[usize]) {
        for &p in publishers {
            let count = || self.said[p].lock().acknowledged.len();
            let before = count();
            eventually(LATER, || async { (count() >= before + ENOUGH).then_some(()) }).await;
        }
    }

    async fn finish(self) -> [Said; 2] {
        self.stop.store(true, Ordering::SeqCst);
        for task in self.tasks {
            task.await.unwrap();
        }
        self.said.map(|said| std::mem::take(&mut *said.lock()))
    }
}

async fn publish(api: Api, p: u64, said: Arc<Mutex<Said>>, stop: Arc<AtomicBool>) {
    for n in 0.. {
        if stop.load(Ordering::SeqCst) {
            return;
        }
        let event = json!({"name": "e", "channels": ["news-all"], "data": {"p": p, "n": n}});
        let reply = api.post("/v1/events", event).within(Duration::from_secs(15)).send().await;
        {
            let mut said = said.lock();
            match reply.map(|reply| reply.status) {
                Ok(202) => said.acknowledged.push(n),
                Ok(503) => said.refused += 1,
                _ => said.unknown += 1,
            }
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// What a reader received, in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Line {
    Event(u64, u64),
    Lost,
}

/// Reads a stream until the `end` event.
async fn listen(mut stream: Stream) -> Vec<Line> {
    let mut lines = Vec::new();
    loop {
        let event = stream.next(LATER).await;
        let event = event.unwrap_or_else(|| panic!("the stream stands still after {} lines", lines.len()));
        let data = event.json();
        match event.name.as_str() {
            "message" if data["data"]["end"] == true => return lines,
            "message" => lines.push(line(&data)),
            "tidings.lost" => lines.push(Line::Lost),
            _ => {}
        }
    }
}

fn line(event: &Value) -> Line {
    Line::Event(event["data"]["p"].as_u64().unwrap(), event["data"]["n"].as_u64().unwrap())
}

/// Whether a session in a presence channel was asked to reconnect; otherwise it received the `end` event.
async fn stays_or_comes_back(mut session: PusherSession) -> bool {
    loop {
        match session.next(LATER).await {
            Incoming::Frame(frame) if frame.event == "end" => return false,
            Incoming::Frame(_) => {}
            Incoming::Closed(4200, _) => return true,
            other => panic!("a session stands still: {other:?}"),
        }
    }
}

/// Asserts that the reader received every acknowledged event once, or was told that some are lost. `from` is the first
/// number of each publisher that the reader has to have.
#[track_caller]
fn assert_no_silent_gap(who: &str, lines: &[Line], said: &[Said; 2], from: [u64; 2]) {
    let distinct: HashSet<_> =
        lines.iter().filter(|line| **line != Line::Lost).map(|line| format!("{line:?}")).collect();
    let events = lines.iter().filter(|line| **line != Line::Lost).count();
    assert_eq!(distinct.len(), events, "{who} heard something twice");
    for (p, said) in (0..).zip(said) {
        let mut next = from[p as usize];
        let mut may_miss = false;
        let mut check = |until: u64, may_miss: bool| {
            let missed: Vec<_> = said.acknowledged.iter().filter(|n| (next..until).contains(n)).collect();
            assert!(
                may_miss || missed.is_empty(),
                "{who} was not told of {missed:?} of publisher {p}, nor that it was lost"
            );
            next = until + 1;
        };
        for line in lines {
            match *line {
                Line::Lost => may_miss = true,
                Line::Event(from, n) if from == p => {
                    check(n, may_miss);
                    may_miss = false;
                }
                Line::Event(..) => {}
            }
        }
        check(u64::MAX - 1, may_miss);
    }
}

/// What all readers received.
struct Account {
    /// How often the stream at each node was told that messages are lost.
    lost: [usize; 2],
    /// Whether the reader that came back with an old position was told so.
    old_position_is_lost: bool,
}

/// Readers and publishers at both nodes, before, during and after the failure: none gets stuck, and no reader misses an
/// event without being told.
async fn through(what: &str, nodes: [&Server; 2], trouble: impl AsyncFnOnce(&Publishers)) -> Account {
    let one = APPS[0];
    let (mut streams, mut sessions) = (Vec::new(), Vec::new());
    for (server, user) in nodes.into_iter().zip(["ann", "bob"]) {
        streams.push(tokio::spawn(listen(opened(one.stream(server, "news-all", "")).await)));
        let mut session = one.pusher(server).connect().await;
        session.subscribe_as("presence-room", user, json!({})).await;
        sessions.push(tokio::spawn(stays_or_comes_back(session)));
    }
    let mut old = opened(one.stream(nodes[0], "news-all", "")).await;
    joined(&one.api(nodes[0]), "news-all", 3).await;
    let publishers = Publishers::start(nodes);
    publishers.go_on(&[0, 1]).await;
    // Reads for a while, and comes back when all is over.
    let (mut id, mut next) = (String::new(), [0, 0]);
    while next.contains(&0) {
        let event = old.expect("message", SOON).await;
        if let Line::Event(p, n) = line(&event.json()) {
            next[p as usize] = n + 1;
        }
        id = event.id;
    }
    drop(old);

    trouble(&publishers).await;
    for server in nodes {
        reaches(server, true).await;
    }
    publishers.go_on(&[0, 1]).await;
    let said = publishers.finish().await;
    let again = opened(one.stream(nodes[1], "news-all", "").header("last-event-id", &id)).await;
    let again = tokio::spawn(listen(again));
    // Said until all have heard it: whoever is told that something is lost may have lost this too.
    let end = json!({"name": "end", "channels": ["news-all", "presence-room"], "data": {"end": true}});
    eventually(LATER, || async {
        one.api(nodes[0]).post("/v1/events", &end).send().await.ok();
        let done = streams.iter().all(JoinHandle::is_finished) && sessions.iter().all(JoinHandle::is_finished);
        (done && again.is_finished()).then_some(())
    })
    .await;

    let again = again.await.unwrap();
    assert_no_silent_gap("the reader that came back", &again, &said, next);
    let mut account = Account { lost: [0, 0], old_position_is_lost: again.first() == Some(&Line::Lost) };
    let mut heard = Vec::new();
    for (lost, (who, stream)) in account.lost.iter_mut().zip([0, 1].into_iter().zip(streams)) {
        let lines = stream.await.unwrap();
        assert_no_silent_gap(&format!("the stream of node {who}"), &lines, &said, [0, 0]);
        *lost = lines.iter().filter(|line| **line == Line::Lost).count();
        heard.push(lines.len() - *lost);
    }
    let mut asked_back = 0;
    for session in sessions {
        asked_back += usize::from(session.await.unwrap());
    }
    let sum = |of: fn(&Said) -> usize| said.iter().map(of).sum::<usize>();
    println!(
        "{what}: acknowledged {}, refused {}, without an answer {}; heard by each node's stream {heard:?}, told of a \
        loss {:?} times; an old position is {}; members asked to come back {asked_back} of 2",
        sum(|said| said.acknowledged.len()),
        sum(|said| said.refused),
        sum(|said| said.unknown),
        account.lost,
        if account.old_position_is_lost { "lost" } else { "recovered" },
    );
    account
}

// covers: N03, N04
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn when_redis_is_away_for_long_and_back_with_nothing_readers_are_told() {
    let mut cluster = Cluster::new().await;
    let (first, second) = (node(&cluster).await, node(&cluster).await);
    let account = through("Redis stopped for 20 s", [&first, &second], async |_| {
        cluster.redis.kill().await;
        tokio::time::sleep(LONG).await;
        cluster.redis.start().await;
    })
    .await;
    assert!(account.old_position_is_lost && account.lost.iter().all(|times| *times > 0));
}

// covers: N03
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn when_redis_stands_still_for_long_nothing_is_lost() {
    let mut cluster = Cluster::new().await;
    let (first, second) = (node(&cluster).await, node(&cluster).await);
    let account = through("Redis stood still for 20 s", [&first, &second], async |_| {
        cluster.redis.freeze();
        tokio::time::sleep(LONG).await;
        cluster.redis.thaw();
    })
    .await;
    assert!(!account.old_position_is_lost && account.lost == [0, 0]);
}

// covers: N04
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_a_failover_that_lost_writes_nobody_is_told_that_nothing_was_missed() {
    let mut cluster = Cluster::new().await;
    let replica = redis().await;
    replica.follow(&cluster.redis).await;
    // Nodes find the new master where the old one was: here a proxy is turned round, elsewhere that is a name or a
    // service.
    let line = proxy(cluster.redis.address());
    let at = cluster.lines_via(&cluster.database.url(), &format!("redis://{}", line.addr()));
    let (first, second) = (node_with(&at).await, node_with(&at).await);
    let account = through("failover", [&first, &second], async |publishers| {
        // From here on the replica gets nothing more.
        replica.run(&["REPLICAOF", "127.0.0.1", "1"]);
        publishers.go_on(&[0, 1]).await;
        cluster.redis.kill().await;
        replica.run(&["REPLICAOF", "NO", "ONE"]);
        line.retarget(replica.address());
        line.cut(Cut::Reset);
    })
    .await;
    assert!(account.old_position_is_lost && account.lost.iter().all(|times| *times > 0));
}

// covers: G078
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_demoted_server_that_keeps_its_connections_is_left_for_where_the_name_leads() {
    let cluster = Cluster::new().await;
    let promoted = redis().await;
    promoted.follow(&cluster.redis).await;
    // A proxy in the place of a name: it leads elsewhere late, and cuts nothing.
    let name = proxy(cluster.redis.address());
    let at = cluster.lines_via(&cluster.database.url(), &format!("redis://{}", name.addr()));
    let (first, second) = (node_with(&at).await, node_with(&at).await);
    let one = APPS[0];
    let mut readers = Vec::new();
    for server in [&first, &second] {
        readers.push(opened(one.stream(server, "news-all", "")).await);
    }
    joined(&one.api(&first), "news-all", 2).await;
    promoted.run(&["REPLICAOF", "NO", "ONE"]);
    cluster.redis.follow(&promoted).await;
    for server in [&first, &second] {
        // What it answers is true: who cannot write says so, and the node notices.
        let event = json!({"name": "e", "channels": ["news-all"], "data": {"n": 0}});
        one.api(server).post("/v1/events", event).await.expect_status(503);
        reaches(server, false).await;
    }
    // The name still leads to the old server, which lets everybody in: that is no reason to take it for the master.
    let refused = |server: &Server| server.stderr().matches("the server is a replica").count();
    let before = [refused(&first), refused(&second)];
    for (server, before) in [&first, &second].into_iter().zip(before) {
        eventually(SOON, || async { (refused(server) >= before + 3).then_some(()) }).await;
    }
    name.retarget(promoted.address());
    for server in [&first, &second] {
        reaches(server, true).await;
    }
    joined(&one.api(&second), "news-all", 2).await;
    for (n, server) in [(1, &first), (2, &second)] {
        say(&one.api(server), &["news-all"], n).await;
        for reader in &mut readers {
            assert_eq!(reader.expect("message", SOON).await.json()["data"]["n"], n);
        }
    }
}

// covers: N04
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_a_flush_nobody_is_told_that_nothing_was_missed() {
    let cluster = Cluster::new().await;
    let (first, second) = (node(&cluster).await, node(&cluster).await);
    let account = through("FLUSHALL", [&first, &second], async |_| {
        cluster.redis.run(&["FLUSHALL"]);
        for server in [&first, &second] {
            eventually(SOON, || async { (metric(server, "tidings_broker_cut_off").await == 0.0).then_some(()) }).await;
        }
    })
    .await;
    assert!(account.old_position_is_lost && account.lost.iter().all(|times| *times > 0));
}

/// Two nodes, the second of which reaches Redis through a proxy.
async fn with_a_line(cluster: &Cluster) -> (Server, Server, Proxy) {
    let line = proxy(cluster.redis.address());
    let at = cluster.lines_via(&cluster.database.url(), &format!("redis://{}", line.addr()));
    (node(cluster).await, node_with(&at).await, line)
}

// covers: N01
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_whose_line_is_cut_catches_up() {
    let cluster = Cluster::new().await;
    let (first, second, line) = with_a_line(&cluster).await;
    let account = through("the line to Redis cut ten times", [&first, &second], async |publishers| {
        for round in 0..10 {
            line.cut(if round % 2 == 0 { Cut::Reset } else { Cut::Fin });
            publishers.go_on(&[0]).await;
        }
    })
    .await;
    assert!(!account.old_position_is_lost && account.lost == [0, 0]);
}

// covers: N01, N02
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_redis_cannot_hear_is_given_up_and_catches_up() {
    let cluster = Cluster::new().await;
    let (first, second, line) = with_a_line(&cluster).await;
    let app = APPS[0].pusher(&first);
    let account = through("the line to Redis silent beyond the lease", [&first, &second], async |publishers| {
        line.go_silent();
        eventually(SOON, || async {
            let users = app.get("/channels/presence-room/users", &[]).await.expect_status(200);
            (users["users"] == json!([{"id": "ann"}])).then_some(())
        })
        .await;
        reaches(&second, false).await;
        publishers.go_on(&[0]).await;
        line.come_back();
        line.cut(Cut::Reset);
    })
    .await;
    assert!(!account.old_position_is_lost && account.lost == [0, 0]);
}

// covers: N01, N04
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_whose_master_goes_away_tells_the_readers_of_its_channels() {
    let cluster = Cluster::new().await;
    let mut servers = redis_cluster().await;
    let at = cluster.lines_via(&cluster.database.url(), &servers.url());
    let (first, second) = (node_with(&at).await, node_with(&at).await);
    let master = servers.master_of("tidings:{1:news-all}");
    let account = through("a master of a cluster restarted without its data", [&first, &second], async |_| {
        servers.masters[master].kill().await;
        for server in [&first, &second] {
            reaches(server, false).await;
        }
        servers.masters[master].start().await;
    })
    .await;
    assert!(account.old_position_is_lost && account.lost.iter().all(|times| *times > 0));
}

// covers: N03, N04
#[tokio::test]
async fn while_redis_is_away_each_node_does_what_it_can_alone() {
    let mut cluster = Cluster::new().await;
    let server = node(&cluster).await;
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

// covers: N01
#[tokio::test]
async fn a_node_that_starts_takes_sessions_once_it_reaches_redis() {
    let cluster = Cluster::new().await;
    let line = proxy(cluster.redis.address());
    // Everything else of a start takes less than what is said to Redis first.
    line.delay(Toward::Client, Duration::from_millis(300));
    let lines = cluster.lines_via(&cluster.database.url(), &format!("redis://{}", line.addr()));
    let server = node_with(&lines).await;
    let mut session = APPS[0].pusher(&server).connect().await;
    session.subscribe("plain").await;
    assert!(!server.stderr().contains(WITHOUT), "{}", server.stderr());
}

// covers: N03
#[tokio::test]
async fn a_node_starts_without_redis_and_says_so() {
    let mut cluster = Cluster::new().await;
    cluster.redis.kill().await;
    let server = node(&cluster).await;
    reaches(&server, false).await;
    assert!(server.stderr().contains(WITHOUT), "{}", server.stderr());
    let one = APPS[0];
    let event = json!({"name": "e", "channels": ["plain"], "data": {"n": 1}});
    let answer = one.api(&server).post("/v1/events", event).await.expect_status(202);
    assert_eq!(answer.header("x-tidings-degraded"), Some("live"));
    cluster.redis.start().await;
    reaches(&server, true).await;
    let mut session = one.pusher(&server).connect().await;
    session.subscribe("plain").await;
}
