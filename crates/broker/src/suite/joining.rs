//! Joining, leaving, and which sessions receive a publication.

use std::sync::Arc;

use tidings_model::channel::ChannelKey;

use super::{World, at, session};
use crate::broker::{BrokerError, Join, Leave, Occupancy, Publish, PublishOutcome};
use crate::session_order::{SessionOrder, Who};
use crate::shard_message::SessionRef;

pub(crate) async fn a_session_hears_what_comes_after_its_welcome(world: &mut World) {
    assert_eq!(world.publish("e0").await, Occupancy::default());
    world.join(2, "").await;
    assert_eq!(world.publish("e1").await, Occupancy { subscriptions: 1, users: 0 });
    world.join(4, "").await;
    world.join(1, "").await;
    assert_eq!(world.publish("e2").await, Occupancy { subscriptions: 3, users: 0 });
    world.leave(2).await;
    world.leave(4).await;
    assert_eq!(world.publish("e3").await, Occupancy { subscriptions: 1, users: 0 });
    let first = ["c: s2 in, 1 here", "c: e1", "c: s4 in, 2 here", "c: e2", "c: s2 out", "c: s4 out"];
    world.receives(&first, &["c: s1 in, 3 here", "c: e2", "c: e3"]).await;
}

pub(crate) async fn only_shards_with_subscribers_are_told(world: &mut World) {
    world.join_in("c", 1, "", None).await;
    world.join_in("d", 2, "", None).await;
    world.received().await;
    world.publish("e1").await;
    world.receives(&[], &["c: e1"]).await;
    world.leave(1).await;
    world.publish("e2").await;
    world.receives(&[], &["c: s1 out"]).await;
}

pub(crate) async fn joining_again_counts_once(world: &mut World) {
    for presence in [false, true] {
        (world.options.presence, world.options.join_leave) = (presence, presence);
        world.options.subscription_count = true;
        world.join(1, "ann").await;
        world.join(3, "").await;
        world.received().await;
        world.join(1, "ann").await;
        world.join(1, "bob").await;
        world.join(3, "bob").await;
        let members = if presence { " {ann/1}" } else { "" };
        let again = |n| format!("c: s{n} in, 2 here{members}");
        world.receives(&[], &[&again(1), &again(1), &again(3)]).await;
        world.leave(1).await;
        world.leave(3).await;
        assert_eq!(world.broker.channel(&super::key("c")).await.unwrap(), None);
        world.received().await;
    }
}

pub(crate) async fn a_leave_of_a_stranger_changes_nothing(world: &mut World) {
    world.leave(1).await;
    world.receives(&[], &["c: s1 out"]).await;
    for n in [1, 2, 4] {
        world.join(n, "").await;
    }
    world.received().await;
    world.leave(3).await;
    world.leave(2).await;
    world.leave(2).await;
    assert_eq!(world.publish("e1").await.subscriptions, 2);
    world.receives(&["c: s2 out", "c: s2 out", "c: e1"], &["c: s3 out", "c: e1"]).await;
}

pub(crate) async fn a_slot_has_one_tenant_after_the_other(world: &mut World) {
    world.options.subscription_count = true;
    world.join(1, "").await;
    let tenant = |life| SessionRef { life, ..at(1) };
    for life in [2, 3] {
        let join = Join { at: tenant(life), session: session(7 + life), ..world.to_join("c", 1, "", None) };
        world.broker.join(join).await.unwrap();
    }
    let joined =
        ["c: s1 in, 1 here", "c: 1 are here", "c: s1 in, 2 here", "c: 2 are here", "c: s1 in, 3 here", "c: 3 are here"];
    world.receives(&[], &joined).await;
    // The first one's end comes after the others' beginning.
    world.leave(1).await;
    world.leave(1).await;
    assert_eq!(world.publish("e1").await.subscriptions, 2);
    world.receives(&[], &["c: s1 out", "c: 2 are here", "c: s1 out", "c: e1"]).await;
    for life in [2, 3] {
        let leave = Leave { channel: super::key("c"), session: session(7 + life), at: tenant(life), request_id: 201 };
        world.broker.leave(leave).await.unwrap();
    }
}

pub(crate) async fn exceptions_and_users_are_handed_on(world: &mut World) {
    world.join(1, "").await;
    world.received().await;
    let said = world.to_publish("c", "e1");
    let said = Publish { except: Some(session(1)), user: Some("ann".into()), by_client: true, ..said };
    world.broker.publish(said).await.unwrap();
    world.receives(&[], &["c: e1 by ann except s1"]).await;
}

pub(crate) async fn apps_do_not_hear_each_other(world: &mut World) {
    world.join(1, "").await;
    world.received().await;
    let channel = ChannelKey::new("2".into(), "c");
    let said = world.broker.publish(Publish { channel, ..world.to_publish("c", "e1") }).await.unwrap();
    assert_eq!(said, PublishOutcome::default());
    world.receives(&[], &[]).await;
}

pub(crate) async fn orders_reach_every_shard(world: &mut World) {
    let order = SessionOrder::disconnect("1".into(), Who::User(Arc::from("ann")));
    let line = format!("{order:?}");
    world.broker.order(order).await.unwrap();
    world.receives(&[&line], &[&line]).await;
}

pub(crate) async fn an_overloaded_node_publishes_nothing(world: &mut World) {
    world.options.history_size = 10;
    world.join(1, "").await;
    world.received().await;
    world.shards.overload(true);
    assert!(world.broker.overloaded());
    let refused = world.broker.publish(world.to_publish("c", "e1")).await;
    assert_eq!(refused, Err(BrokerError::Overloaded));
    assert_eq!(world.publish_by_client("e2").await, Err(BrokerError::Overloaded));
    world.leave(1).await;
    world.join(2, "").await;
    world.shards.overload(false);
    assert!(!world.broker.overloaded());
    world.publish("e3").await;
    world.receives(&["c: s2 in, 1 here @0A", "c: e3@1A"], &["c: s1 out"]).await;
}
