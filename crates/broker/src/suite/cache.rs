//! The cached publication, for sessions that join later.

use std::time::Duration;

use super::{World, key};

pub(crate) async fn the_last_publication_is_kept_for_who_comes(world: &mut World) {
    world.options.cache_ttl = Some(Duration::from_secs(30));
    world.publish("e1").await;
    world.join(1, "").await;
    world.publish("e2").await;
    world.pass(10_000);
    world.join(3, "").await;
    let second = ["c: s1 in, 1 here cached e1", "c: e2", "c: s3 in, 2 here cached e2"];
    world.receives(&[], &second).await;
    let cached = world.broker.cached(&key("c")).await.unwrap().unwrap();
    assert_eq!(cached.ttl, Duration::from_secs(20));
    assert_eq!(super::lines::publication(&cached.publication, &mut world.epochs), "e2");
    assert!(world.broker.cached(&key("d")).await.unwrap().is_none());
}

pub(crate) async fn client_events_are_not_cached(world: &mut World) {
    world.options.cache_ttl = Some(Duration::from_secs(30));
    world.publish_by_client("e1").await.unwrap();
    assert!(world.broker.channel(&key("c")).await.unwrap().is_none());
    world.publish("e2").await;
    world.publish_by_client("e3").await.unwrap();
    world.join(1, "").await;
    world.receives(&[], &["c: s1 in, 1 here cached e2"]).await;
}

pub(crate) async fn a_cached_publication_expires(world: &mut World) {
    world.options.cache_ttl = Some(Duration::from_secs(30));
    world.publish("e1").await;
    world.pass(29_999);
    assert!(world.broker.cached(&key("c")).await.unwrap().is_some());
    world.pass(1);
    assert!(world.broker.cached(&key("c")).await.unwrap().is_none());
    assert!(world.broker.channel(&key("c")).await.unwrap().is_none());
    world.join(1, "").await;
    world.receives(&[], &["c: s1 in, 1 here"]).await;
}

pub(crate) async fn without_the_option_nothing_is_cached(world: &mut World) {
    world.join(1, "").await;
    world.publish("e1").await;
    assert!(world.broker.cached(&key("c")).await.unwrap().is_none());
    world.options.cache_ttl = Some(Duration::from_secs(30));
    world.publish("e2").await;
    assert!(world.broker.cached(&key("c")).await.unwrap().is_some());
    // A publication without the cache option drops the cached one.
    world.options.cache_ttl = None;
    world.publish("e3").await;
    assert!(world.broker.cached(&key("c")).await.unwrap().is_none());
}
