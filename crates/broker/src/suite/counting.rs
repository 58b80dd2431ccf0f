//! Subscription counts, sent to the sessions of a channel.

use super::World;

pub(crate) async fn every_change_is_told(world: &mut World) {
    world.options.subscription_count = true;
    world.join(1, "").await;
    world.join(2, "").await;
    world.leave(1).await;
    world.sweep().await;
    let first = ["c: s2 in, 2 here", "c: 2 are here", "c: 1 are here"];
    world.receives(&first, &["c: s1 in, 1 here", "c: 1 are here", "c: 2 are here", "c: s1 out"]).await;
}

/// All counts that shard 0 has received.
async fn numbers(world: &mut World) -> Vec<String> {
    let [first, _] = world.received().await;
    let number = |line: String| line.strip_prefix("c: ")?.strip_suffix(" are here").map(str::to_owned);
    first.into_iter().filter_map(number).collect()
}

pub(crate) async fn of_many_the_number_is_told_now_and_then(world: &mut World) {
    world.options.subscription_count = true;
    for n in 0..100 {
        world.join(n, "").await;
    }
    assert_eq!(numbers(world).await.last().unwrap(), "100");
    for n in 100..110 {
        world.join(n, "").await;
    }
    world.sweep().await;
    assert_eq!(numbers(world).await, [""; 0], "they have just been received");
    world.pass(4_999);
    world.sweep().await;
    assert_eq!(numbers(world).await, [""; 0], "they were received less than 5 s ago");
    world.pass(1);
    world.sweep().await;
    assert_eq!(numbers(world).await, ["110"], "the last one is received, and once");
    world.sweep().await;
    assert_eq!(numbers(world).await, [""; 0]);
    // A session that joined in between receives the count, although it is the same as before.
    world.join(110, "").await;
    world.leave(110).await;
    assert_eq!(numbers(world).await, [""; 0]);
    world.pass(5_000);
    world.sweep().await;
    assert_eq!(numbers(world).await, ["110"]);
    // After the interval the first change is sent at once; in a small channel, each change is.
    world.pass(5_000);
    for n in 0..12 {
        world.leave(2 * n + 1).await;
    }
    assert_eq!(numbers(world).await, ["109", "100", "99", "98"]);
}

pub(crate) async fn without_the_option_no_number_is_told(world: &mut World) {
    world.options.subscription_count = true;
    world.join(1, "").await;
    world.received().await;
    world.options.subscription_count = false;
    world.join(3, "").await;
    world.leave(3).await;
    world.sweep().await;
    world.receives(&[], &["c: s3 in, 2 here", "c: s3 out"]).await;
}
