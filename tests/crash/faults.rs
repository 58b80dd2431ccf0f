//! Deliberate panics: if a loop panics, the server reports it and stops in order; if one unit of work does, only that
//! unit is lost.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use serde_json::{Value, json};
use tidings_testkit::{Answer, Api, Cluster, PusherSession, Receiver, Server, ServerBuilder, dial, eventually};
use tokio::io::AsyncReadExt as _;
use tokio::task::JoinSet;

use crate::common::{LATER, SOON, counts, delivery, drained, hook, listener, local, logged, publish};

/// Long enough to read `/readyz` before the server stops.
const CONFIG: &str = r#"
shutdown_delay = "3s"

[admin]
operator_key = "operator-key-for-these-tests"

[[apps]]
id = "1"
key = "key"
secret = "a-secret-of-the-app"
api_keys = ["an-api-key-of-the-app"]
default = true

[[apps.webhooks]]
url = "http://127.0.0.1:1/"
events = ["channel_occupied"]
"#;

/// Events that are acknowledged before a loop panics.
const ENOUGH: u64 = 30;

/// A server whose fault points can be armed.
struct Faulty {
    server: Server,
    file: PathBuf,
    _dir: tempfile::TempDir,
}

impl Faulty {
    /// The same with more config lines.
    async fn start(lines: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("faults");
        fs::write(&file, "").unwrap();
        let server = Self::builder(&file, lines).start().await;
        Self { server, file, _dir: dir }
    }

    fn builder(file: &Path, lines: &str) -> ServerBuilder {
        local().alone().config(CONFIG.to_owned() + lines).env("TIDINGS_FAULTS", file.to_str().unwrap())
    }

    /// Arms these points and no others.
    async fn arm(&self, points: &str) {
        fs::write(&self.file, points).unwrap();
        tokio::time::sleep(Duration::from_millis(100)).await;
    }

    async fn panics(&self, unit: &str) -> u64 {
        let line = format!("tidings_panics_total{{unit=\"{unit}\"}} ");
        let metrics = self.server.metrics().await;
        metrics.lines().find_map(|text| text.strip_prefix(&line)?.parse().ok()).unwrap_or(0)
    }
}

/// Makes the server do a bit of everything: sessions on both shards, an occupied channel, an app that is made and
/// removed, and a listener that is disabled.
async fn stir(server: &Server, partner: &Receiver) -> Vec<PusherSession> {
    let mut sessions = Vec::new();
    for _ in 0..2 {
        // A shard that has ended takes nobody.
        if let Ok(Ok(mut session)) = tokio::time::timeout(SOON, server.pusher().session().try_connect()).await {
            session.ask_to_join("news", "", None).await;
            sessions.push(session);
        }
    }
    let app = json!({"id": "2", "key": "another-key", "secret": "a-secret-of-another"});
    drop(server.operator().post("/v1/apps", app).send().await);
    drop(server.operator().delete("/v1/apps/2").send().await);
    let gone = json!({"url": partner.url("/gone"), "hooks": ["box.opened"]});
    drop(server.api().post("/v1/listeners", gone).send().await);
    sessions
}

/// One loop panics. Events that were acknowledged before it are there after the next start.
async fn loop_panics(name: &'static str, lines: String) {
    let partner = Receiver::start();
    partner.respond("/gone", Answer::status(410));
    let mut faulty = Faulty::start(&lines).await;
    let api = faulty.server.api();
    hook(&api, "box.opened").await;
    listener(&api, json!({"url": partner.url("/in"), "hooks": ["box.opened"]})).await;
    let acknowledged = AtomicU64::new(0);
    let publishing = async {
        for n in 0.. {
            let reply = api.post("/v1/events", json!({"name": "box.opened", "id": format!("e-{n}"), "data": {"n": n}}));
            match reply.send().await {
                Ok(reply) if reply.status == 202 => {
                    acknowledged.store(n + 1, Ordering::Relaxed);
                }
                Ok(reply) => return Some(reply),
                Err(_) => return None,
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        None
    };
    let arming = async {
        let enough = async || (acknowledged.load(Ordering::Relaxed) >= ENOUGH).then_some(());
        eventually(LATER, enough).await;
        faulty.arm(name).await;
        stir(&faulty.server, &partner).await
    };
    let (refused, _sessions) = tokio::join!(tokio::time::timeout(LATER, publishing), arming);
    let refused = refused.unwrap_or_else(|_| panic!("{name}: publishes go on"));
    if name == "accept" {
        assert!(refused.is_none(), "nobody listens any more");
    } else {
        let refused = refused.unwrap_or_else(|| panic!("{name}: no answer"));
        assert_eq!(refused.status, 503, "{name}: {}", refused.text());
        let told = eventually(SOON, || async {
            let reply = api.get("/readyz").send().await.unwrap_or_else(|error| panic!("{name}: {error}"));
            (reply.status == 503).then_some(reply)
        });
        let told = told.await;
        let failure = told["failure"].as_str().unwrap_or_default();
        assert_eq!(failure, format!("{name} ended: it panicked: the fault point {name} is armed"));
        let metrics = faulty.server.metrics().await;
        let running = format!("tidings_work_running{{work=\"{name}\"}} ");
        let count = metrics.lines().find_map(|line| line.strip_prefix(&running)).unwrap_or("none");
        assert_ne!(count, if name == "channel-events" { "64" } else { "1" }, "{name}");
    }
    let exit = faulty.server.wait_for_exit(SOON).await.expect_code(1);
    let lines = exit
        .stderr
        .lines()
        .filter(|line| line.contains("required thread or task ended") && line.contains(name))
        .count();
    assert_eq!(lines, 1, "{name}: {}", exit.stderr);
    assert!(exit.stderr.contains(&format!("the server has failed: {name} ended")), "{name}: {}", exit.stderr);

    fs::write(&faulty.file, "").unwrap();
    faulty.server.restart().await;
    let acknowledged = acknowledged.into_inner();
    let arrived = eventually(LATER, || async {
        let came = counts(&partner.received_on("/in"));
        (0..acknowledged).all(|n| came.contains_key(&n)).then_some(())
    });
    arrived.await;
    println!("{name}: {acknowledged} acknowledged, none lost");
}

// covers: G411
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_loop_that_panics_ends_the_server_in_order_and_loses_nothing() {
    let mut running = JoinSet::new();
    for name in [
        "shard-0",
        "store-writer",
        "store-checkpoint",
        "result-writer",
        "scheduler",
        "channel-events",
        "app-changes",
        "listener-notices",
        "broker-sweep",
        "retention",
        "store-counts",
        "accept",
    ] {
        if running.len() >= 4 {
            running.join_next().await.unwrap().unwrap();
        }
        running.spawn(loop_panics(name, String::new()));
    }
    while let Some(ended) = running.join_next().await {
        ended.unwrap();
    }
}

// covers: G411
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn so_does_one_of_those_that_several_nodes_need() {
    for name in ["store-publisher", "node-membership", "catalogue-sync", "redis-link"] {
        let cluster = Cluster::new().await;
        loop_panics(name, cluster.lines()).await;
    }
}

// covers: G411
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_loop_that_panics_at_once_ends_the_server_as_well() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("faults");
    fs::write(&file, "reconciliation").unwrap();
    let exit = Faulty::builder(&file, "").run_to_exit().await.expect_code(1);
    assert!(exit.stderr.contains("the server has failed: reconciliation ended"), "{}", exit.stderr);
}

// covers: G412
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_shard_that_has_died_stops_nobody_on_the_others() {
    let mut faulty = Faulty::start("").await;
    let pusher = faulty.server.pusher();
    let mut sessions = Vec::new();
    for _ in 0..4 {
        let mut session = pusher.connect().await;
        session.subscribe("private-room").await;
        sessions.push(session);
    }
    faulty.arm("shard-0").await;
    // Sessions are on the two shards in turn. The first one's shard wakes, and dies.
    sessions[0].send(json!({"event": "pusher:ping", "data": {}})).await;
    logged(&faulty.server, "shard-0", 1).await;
    let said = json!({"event": "client-hello", "channel": "private-room", "data": {"n": 1}});
    let [_, speaker, _, hearer] = &mut sessions[..] else { unreachable!() };
    speaker.send(said).await;
    let heard = hearer.expect("client-hello", SOON).await;
    assert_eq!(heard.data(), json!({"n": 1}));
    assert!(faulty.server.runs(), "it had stopped: nothing is tested");
    faulty.server.wait_for_exit(SOON).await.expect_code(1);
}

async fn answer(api: &Api, path: &str, body: Value) -> (u16, Value) {
    let reply = api.post(path, body).await;
    (reply.status, reply.json)
}

// covers: G413
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_panic_in_one_unit_costs_that_unit() {
    let partner = Receiver::start();
    let mut faulty = Faulty::start("").await;
    let api = faulty.server.api();
    hook(&api, "box.opened").await;
    let id = listener(&api, json!({"url": partner.url("/in"), "hooks": ["box.opened"]})).await;

    // A publish.
    faulty.arm("publish e-1").await;
    let reply = publish(&api, "box.opened", 1).await;
    assert_eq!((reply.status, &reply["code"]), (500, &json!("internal")), "{}", reply.text());
    assert!(reply["remedy"].as_str().unwrap().contains("e-1"), "{}", reply.text());
    logged(&faulty.server, "e-1", 1).await;
    publish(&api, "box.opened", 2).await.expect_status(202);
    assert_eq!(faulty.panics("publish").await, 1);

    // A request.
    faulty.arm("request POST /v1/hooks").await;
    assert_eq!(answer(&api, "/v1/hooks", json!({"name": "box.shut"})).await.0, 500);
    assert_eq!(api.get("/v1/hooks").await.status, 200);
    assert_eq!(faulty.panics("request").await, 1);

    // A connection, before any of its requests.
    faulty.arm("connection").await;
    let mut connection = dial(faulty.server.addr).await;
    assert_eq!(connection.read(&mut [0]).await.unwrap_or(0), 0, "closed without an answer");
    faulty.arm("").await;
    let metrics = faulty.server.metrics().await;
    assert!(metrics.contains("tidings_server_panics_total{unit=\"connection\"} 1\n"), "{metrics}");

    // A job of the store.
    faulty.arm("store-job").await;
    let (status, told) = answer(&api, "/v1/events", json!({"name": "box.opened", "id": "e-3", "data": {"n": 3}})).await;
    assert_eq!((status, &told["code"]), (500, &json!("internal")), "{told}");
    faulty.arm("").await;
    publish(&api, "box.opened", 3).await.expect_status(202);

    // A session's callback.
    let (mut one, mut other) = (faulty.server.pusher().connect().await, faulty.server.pusher().connect().await);
    faulty.arm(&format!("session-callback {}", one.socket_id)).await;
    for session in [&mut one, &mut other] {
        session.send(json!({"event": "pusher:ping", "data": {}})).await;
    }
    other.expect("pusher:pong", SOON).await;
    eventually(SOON, || async { (faulty.panics("session-callback").await == 1).then_some(()) }).await;

    // An attempt: once more, and then no more; the others go on.
    faulty.arm("").await;
    partner.respond_sequence("/later", vec![Answer::status(500), Answer::status(200)]);
    let later = json!({"url": partner.url("/later"), "hooks": ["box.moved"], "schedule": ["0s", "3s"]});
    hook(&api, "box.moved").await;
    listener(&api, later).await;
    publish(&api, "box.moved", 4).await.expect_status(202);
    partner.wait_for(1, |request| request.path == "/later", SOON).await;
    let doomed = delivery(&api, 4).await["id"].as_str().unwrap().to_owned();
    faulty.arm(&format!("attempt {doomed}")).await;
    publish(&api, "box.moved", 5).await.expect_status(202);
    let undelivered = eventually(LATER, || async {
        let one = delivery(&api, 4).await;
        (one["state"] == "undelivered").then_some(one)
    });
    undelivered.await;
    let attempts = api.get(&format!("/v1/deliveries/{doomed}/attempts")).await.expect_status(200);
    let outcomes: Vec<_> = attempts["data"].as_array().unwrap().iter().map(|one| one["outcome"].clone()).collect();
    assert_eq!(outcomes, ["http_status", "internal", "internal"]);
    assert_eq!(faulty.panics("attempt").await, 2);
    assert_eq!(delivery(&api, 5).await["state"], "delivered");
    drained(&faulty.server, LATER).await;
    let came = counts(&partner.received_on("/in"));
    assert_eq!(came.len(), 2, "{id}: {came:?}");
    assert!(faulty.server.runs());
    faulty.arm("").await;
    faulty.server.terminate().await.expect_code(0);
}

// covers: G415
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_event_whose_fan_out_panics_is_left_alone_and_the_others_go_on() {
    let partner = Receiver::start();
    let faulty = Faulty::start("").await;
    let api = faulty.server.api();
    hook(&api, "box.opened").await;
    // One more than are written at once.
    for n in 0..65 {
        listener(&api, json!({"url": partner.url(&format!("/{n}")), "hooks": ["box.opened"]})).await;
    }
    faulty.arm("fanout-slice").await;
    publish(&api, "box.opened", 1).await.expect_status(202);
    logged(&faulty.server, "is_parked=true", 1).await;
    faulty.arm("").await;
    publish(&api, "box.opened", 2).await.expect_status(202);
    let came = partner.wait_for(65, |_| true, LATER).await;
    assert!(came.iter().all(|request| request.json()["data"]["n"] == 2));
    // After the next start it is written as well.
    let mut faulty = faulty;
    faulty.server.terminate().await.expect_code(0);
    faulty.server.restart().await;
    partner.wait_for(130, |_| true, LATER).await;
    drop(faulty.server);
}
