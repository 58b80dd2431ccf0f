//! A publish that panics, and a node that has failed. Fault points belong to the whole process, so this is one of its
//! own.

#![expect(clippy::unwrap_used, reason = "a helper of tests fails as a test does")]

use std::time::Duration;

use tidings_broker::TransitionSink as _;
use tidings_bus::{Publication, PublishError};
use tidings_model::app::App;
use tidings_model::event::{Data, Event};
use tidings_model::idempotency::IdempotencyKey;
use tidings_node::{Config, Node};
use tidings_supervisor::fault;

fn event(id: &str, channels: &[&str]) -> Event {
    Event {
        id: id.to_owned(),
        app: "1".into(),
        name: "box.opened".to_owned(),
        channels: channels.iter().map(|&name| name.to_owned()).collect(),
        data: Data::json("1"),
        time: 1,
        op: None,
        key: None,
        except: None,
    }
}

/// One that is logged, though it has no hook: because of its idempotency key.
fn logged(id: &str) -> Publication {
    let headers = http::HeaderMap::from_iter([("idempotency-key".parse().unwrap(), id.parse().unwrap())]);
    let idempotency = IdempotencyKey::of(&headers, &"1".into(), b"1", &[]).unwrap();
    Publication { idempotency, ..event(id, &[]).into() }
}

#[tokio::test]
async fn a_panic_costs_one_publish_and_a_failed_node_refuses_them_all() {
    let dir = tempfile::tempdir().unwrap();
    let config = Config::in_folder(dir.path()).shards(1).apps(vec![App::new("1", "public", "secret".into())]);
    let node = Node::start(config.rejoin_within(Duration::ZERO), |_| Vec::new()).await.unwrap();
    let bus = node.bus();

    fault::arm("publish bad1\npublish bad2");
    for (id, publication) in [("bad1", logged("bad1")), ("bad2", event("bad2", &["news"]).into())] {
        let (bad, good) = (bus.publish(publication), bus.publish(logged(&format!("good.with.{id}"))));
        let (bad, good) = tokio::join!(bad, good);
        let Err(PublishError::Panicked { id: named, .. }) = &bad else { panic!("{id}: {bad:?}") };
        assert_eq!(named, id);
        assert!(good.unwrap().logged, "beside {id}");
        assert_eq!(bus.event(&"1".into(), id).await.unwrap(), None);
    }
    assert!(node.metrics().contains("tidings_bus_publishes_total{result=\"failed\"}"), "{}", node.metrics());
    fault::arm("");
    // What has panicked can be published once that is mended.
    assert!(bus.publish(logged("bad1")).await.unwrap().logged);
    assert_eq!(node.readiness().await.failure, None);

    fault::arm("reconciliation");
    bus.transitions().reconcile();
    let failure = node.failed().await;
    assert!(failure.to_string().contains("reconciliation"), "{failure}");
    let refused = PublishError::Failed(failure);
    assert_eq!(bus.publish(logged("late")).await.as_ref(), Err(&refused));
    assert_eq!(bus.publish(event("late", &["news"]).into()).await.as_ref(), Err(&refused));
    // What is there can still be looked at.
    assert_eq!(bus.event(&"1".into(), "late").await.unwrap(), None);
    assert!(bus.event(&"1".into(), "bad1").await.unwrap().is_some());
    fault::arm("");
    node.stop(Duration::from_secs(5)).await;
}
