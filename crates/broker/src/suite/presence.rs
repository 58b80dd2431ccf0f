//! The members of a channel, and the join and leave messages about them.

use super::{World, key, lines, member};
use crate::broker::Occupancy;

pub(crate) async fn members_come_and_go(world: &mut World) {
    (world.options.presence, world.options.join_leave) = (true, true);
    world.join(1, "ann").await;
    world.join(2, "bob").await;
    world.join(3, "zoe").await;
    let first = ["c: s2 in, 2 here {ann/1 bob/2}", "c: +bob/2 first except s2", "c: +zoe/3 first except s3"];
    let second = [
        "c: s1 in, 1 here {ann/1}",
        "c: +ann/1 first except s1",
        "c: +bob/2 first except s2",
        "c: s3 in, 3 here {ann/1 bob/2 zoe/3}",
        "c: +zoe/3 first except s3",
    ];
    world.receives(&first, &second).await;
    assert_eq!(world.publish("e1").await, Occupancy { subscriptions: 3, users: 3 });
    world.leave(1).await;
    world.leave(2).await;
    let first = ["c: e1", "c: -ann/1 last", "c: s2 out"];
    world.receives(&first, &["c: e1", "c: s1 out", "c: -ann/1 last", "c: -bob/2 last"]).await;
    assert_eq!(world.broker.members(&key("c")).await.unwrap(), [member(3, "zoe")]);
    assert_eq!(world.broker.members(&key("d")).await.unwrap(), []);
}

pub(crate) async fn a_user_is_there_from_the_first_session_to_the_last(world: &mut World) {
    (world.options.presence, world.options.join_leave) = (true, true);
    world.join(2, "").await;
    for n in [1, 3, 5] {
        world.join(n, "ann").await;
    }
    assert_eq!(world.publish("e1").await, Occupancy { subscriptions: 4, users: 1 });
    for n in [1, 5, 3] {
        world.leave(n).await;
        // As the first session showed her, though that one may be gone.
        let shown = lines::members(&world.broker.members(&key("c")).await.unwrap());
        assert_eq!(shown, if n == 3 { "" } else { "ann/1" });
    }
    let [first, _] = world.received().await;
    let expected = [
        "c: s2 in, 1 here",
        "c: +ann/1 first except s1",
        "c: +ann/3 except s3",
        "c: +ann/5 except s5",
        "c: e1",
        "c: -ann/1",
        "c: -ann/5",
        "c: -ann/3 last",
    ];
    assert_eq!(first, expected);
}

pub(crate) async fn comings_are_told_without_presence(world: &mut World) {
    world.options.join_leave = true;
    world.join(2, "bob").await;
    world.join(1, "ann").await;
    world.join(3, "ann").await;
    assert_eq!(world.publish("e1").await, Occupancy { subscriptions: 3, users: 0 });
    assert_eq!(world.broker.members(&key("c")).await.unwrap(), []);
    world.leave(3).await;
    world.leave(1).await;
    let first = [
        "c: s2 in, 1 here",
        "c: +bob/2 first except s2",
        "c: +ann/1 first except s1",
        "c: +ann/3 except s3",
        "c: e1",
        "c: -ann/3",
        "c: -ann/1 last",
    ];
    assert_eq!(world.received().await[0], first);
}

pub(crate) async fn presence_is_kept_without_telling(world: &mut World) {
    world.options.presence = true;
    world.join(2, "bob").await;
    world.join(1, "ann").await;
    world.leave(2).await;
    let first = ["c: s2 in, 1 here {bob/2}", "c: s2 out"];
    world.receives(&first, &["c: s1 in, 2 here {ann/1 bob/2}"]).await;
    assert_eq!(world.publish("e1").await, Occupancy { subscriptions: 1, users: 1 });
}

pub(crate) async fn a_full_channel_takes_no_new_user(world: &mut World) {
    (world.options.presence, world.options.join_leave, world.options.max_members) = (true, true, 2);
    world.join(1, "ann").await;
    world.join(3, "bob").await;
    world.received().await;
    world.join(2, "zoe").await;
    world.receives(&["c: s2 not in: TooManyMembers"], &[]).await;
    assert_eq!(world.publish("e1").await, Occupancy { subscriptions: 2, users: 2 });
    // Another session of a user who is there, and one without a user, take nobody's place.
    world.join(5, "ann").await;
    world.join(4, "").await;
    world.leave(3).await;
    world.join(2, "zoe").await;
    let [first, _] = world.received().await;
    let expected = [
        "c: s4 in, 4 here {ann/1 bob/3}",
        "c: -bob/3 last",
        "c: s2 in, 4 here {ann/1 zoe/2}",
        "c: +zoe/2 first except s2",
    ];
    assert_eq!(first, expected);
    world.options.max_members = 0;
    world.join_in("nobody", 2, "zoe", None).await;
    world.receives(&["nobody: s2 not in: TooManyMembers"], &[]).await;
    assert_eq!(world.broker.channel(&key("nobody")).await.unwrap(), None);
}

pub(crate) async fn a_session_without_a_user_is_no_member(world: &mut World) {
    (world.options.presence, world.options.join_leave) = (true, true);
    world.join(1, "ann").await;
    world.join(3, "").await;
    world.leave(3).await;
    let second = ["c: s1 in, 1 here {ann/1}", "c: +ann/1 first except s1", "c: s3 in, 2 here {ann/1}", "c: s3 out"];
    world.receives(&[], &second).await;
    assert_eq!(world.publish("e1").await, Occupancy { subscriptions: 1, users: 1 });
}
