//! A folder's lock, and the answers of what is left of a dropped engine.

#![expect(clippy::unwrap_used, reason = "a helper of tests fails as a test does")]

mod kit;

use std::time::Duration;

use tidings_engine::{Engine, NodeError};
use tidings_model::event::{Data, Event};
use tidings_store::StoreError;

use kit::{config, doors, engine, eventually};

const GRACE: Duration = Duration::from_secs(5);

fn event(id: &str) -> Event {
    Event {
        id: id.to_owned(),
        app: "1".into(),
        name: "box.opened".to_owned(),
        channels: vec!["news".to_owned()],
        data: Data::json("1".to_owned()),
        time: 1,
        op: None,
        key: None,
        except: None,
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_folder_has_one_owner_at_a_time_and_the_second_is_told_who() {
    let dir = tempfile::tempdir().unwrap();
    let first = engine(dir.path()).await;
    let refused = Engine::build(config(dir.path()), doors()).await.unwrap_err();
    let NodeError::Store(StoreError::Taken { holder, path }) = &refused else { panic!("{refused:?}") };
    assert_eq!((holder.as_str(), path.ends_with("tidings.db")), ("this process", true));
    first.bus().publish(event("e1").into()).await.unwrap();
    first.stop(GRACE).await;
    // It was stopped, so it need not have gone.
    let second = engine(dir.path()).await;
    second.bus().publish(event("e2").into()).await.unwrap();
    drop(first);
    second.stop(GRACE).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_left_of_an_engine_says_that_it_is_closing() {
    let dir = tempfile::tempdir().unwrap();
    let engine = engine(dir.path()).await;
    let (bus, failed) = (engine.bus().clone(), engine.failed());
    assert_eq!(engine.readiness().await.failure, None);
    assert!(engine.metrics().contains("tidings_work_running{work=\"shard-0\"} 1\n"), "{}", engine.metrics());
    drop(engine);
    eventually(|| free(dir.path()), || "the folder is still locked".to_owned());
    assert_eq!(bus.event(&"1".into(), "e1").await.unwrap_err(), StoreError::Closed);
    // Nothing has failed: it was ended.
    assert!(tokio::time::timeout(Duration::from_millis(100), failed).await.is_err());
}

fn free(folder: &std::path::Path) -> bool {
    std::fs::File::open(folder.join("tidings.db")).unwrap().try_lock().is_ok()
}
