//! An engine is a value: dropping it frees everything, and a failed build leaves nothing behind.
//!
//! One test, since it counts what the whole process holds.

#![expect(clippy::unwrap_used, reason = "a helper of tests fails as a test does")]

mod kit;

use std::path::Path;
use std::time::Duration;

use axum::body::Body;
use http::{Request, StatusCode};
use serde_json::{Value, json};
use tidings_courier::egress::EgressConfig;
use tidings_engine::{Engine, NodeError, StoreConfig};
use tidings_model::app::App;
use tidings_store::seal::MainKey;
use tidings_store::sqlite::Sync;
use tower::ServiceExt;

use kit::{config, doors, engine, eventually};

const ROUNDS: usize = 200;

async fn post(engine: &Engine, path: &str, body: Value) -> StatusCode {
    let request = Request::post(path).header("authorization", "Bearer key").header("content-type", "application/json");
    let request = request.body(Body::from(body.to_string())).unwrap();
    engine.router().oneshot(request).await.unwrap().status()
}

/// Publishes an event that is logged, delivered (the attempt fails) and sent to a session.
async fn use_it(engine: &Engine, round: usize) {
    if round == 0 {
        assert_eq!(post(engine, "/v1/hooks", json!({"name": "box.opened"})).await, 201);
        let listener = json!({"url": "http://127.0.0.1:1/", "hooks": ["box.opened"]});
        assert_eq!(post(engine, "/v1/listeners", listener).await, 201);
    }
    let request = Request::get("/v1/stream?app=public&channels=news").body(Body::empty()).unwrap();
    let stream = engine.router().oneshot(request).await.unwrap();
    assert_eq!(stream.status(), 200);
    let event = json!({"name": "box.opened", "channels": ["news"], "data": round});
    assert_eq!(post(engine, "/v1/events", event).await, 202);
}

/// Builds that fail, each at another stage.
async fn fail(folder: &Path) {
    let other = folder.join("other.key");
    MainKey::load_or_create(&other).unwrap();
    let app = || App::new("1", "public", "secret".into());
    let sqlite = |path| StoreConfig::Sqlite { path, sync: Sync::Normal };
    let egress = EgressConfig { ca_file: Some(folder.join("no-such.pem")), ..EgressConfig::default() };
    for (stage, config) in [
        ("apps", config(folder).apps(vec![app(), app()])),
        ("store", config(folder).store(sqlite(folder.join("no/such/folder/tidings.db")))),
        ("no main key", config(folder).main_key_file(folder.join("missing.key"))),
        ("another main key", config(folder).main_key_file(other)),
        ("egress", config(folder).egress(egress)),
        ("live", config(folder).shards(u16::MAX)),
    ] {
        let error = Engine::build(config, doors()).await.unwrap_err();
        let is_that = match stage {
            "apps" => matches!(error, NodeError::Apps(_)),
            "no main key" => matches!(error, NodeError::MainKey(_)),
            "store" | "another main key" => matches!(error, NodeError::Store(_)),
            "egress" => matches!(error, NodeError::Egress(_)),
            _ => matches!(error, NodeError::Live(_)),
        };
        assert!(is_that, "{stage}: {error:?}");
    }
    let twice = doors().into_iter().chain(doors()).collect();
    let error = Engine::build(config(folder), twice).await.unwrap_err();
    assert!(matches!(error, NodeError::DuplicateDoor("api")), "{error:?}");
}

/// How many threads and file descriptors the process has.
fn held() -> (usize, usize) {
    let count = |folder: &str| std::fs::read_dir(folder).unwrap().count();
    (count("/proc/self/task"), count("/proc/self/fd"))
}

fn leaves_nothing(before: (usize, usize), what: &str) {
    let is_as_before = || {
        let now = held();
        now.0 <= before.0 && now.1 <= before.1
    };
    eventually(is_as_before, || format!("{what}: {before:?} threads and files before, {:?} after", held()));
}

#[test]
fn what_an_engine_holds_goes_with_it() {
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    // Threads for blocking work are the runtime's: they go soon, so that they are not taken for the engine's.
    builder.worker_threads(2).thread_keep_alive(Duration::from_millis(10)).enable_all();
    let runtime = builder.build().unwrap();
    let dir = tempfile::tempdir().unwrap();
    // The first one makes what the process keeps: the runtime's threads, lazy statics, and their files.
    runtime.block_on(async { use_it(&engine(dir.path()).await, 0).await });
    eventually(|| can_be_had(dir.path()), || "the folder is still locked".to_owned());
    std::thread::sleep(Duration::from_millis(100));
    let before = held();

    for round in 1..=ROUNDS {
        let left = runtime.block_on(async {
            let engine = engine(dir.path()).await;
            use_it(&engine, round).await;
            if round % 2 == 0 {
                engine.stop(Duration::from_secs(5)).await;
            }
            // What outlives the engine says that it is closing, and holds nothing up.
            (round % 10 == 0).then(|| engine.router())
        });
        eventually(|| can_be_had(dir.path()), || format!("the folder is still locked in round {round}"));
        drop(left);
    }
    leaves_nothing(before, "dropped and stopped engines");

    runtime.block_on(fail(dir.path()));
    leaves_nothing(before, "builds that failed");
    eventually(|| can_be_had(dir.path()), || "a failed build keeps the folder".to_owned());
}

/// Whether the folder's lock is free.
fn can_be_had(folder: &Path) -> bool {
    let file = std::fs::File::open(folder.join("tidings.db")).unwrap();
    // Shut again at once: with it goes the lock.
    file.try_lock().is_ok()
}
