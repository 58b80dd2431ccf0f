//! History, and coming back to it.

use std::time::Duration;

use tidings_model::channel::{Epoch, Position};

use super::{World, key, lines};
use crate::broker::{HistoryRange, Since};

/// Ten publications are kept, for a minute.
fn short(world: &mut World) {
    world.options.history_size = 10;
    world.options.history_ttl = Duration::from_secs(60);
}

/// Publishes `e1` to `e{count}`.
async fn publish_all(world: &World, count: u32) {
    for n in 1..=count {
        world.publish(&format!("e{n}")).await;
    }
}

/// What session 2 recovers when it joins from this position; then it leaves again.
async fn found(world: &mut World, position: Position) -> String {
    world.received().await;
    world.join_since(2, Since::Position(position)).await;
    world.leave(2).await;
    let [first, _] = world.received().await;
    first[0].strip_prefix("c: s2 in, 1 here ").unwrap().to_owned()
}

async fn found_from(world: &mut World, position: &str) -> String {
    let position = world.epochs.position(position);
    found(world, position).await
}

/// The first epoch is seen, and becomes A.
async fn begin(world: &mut World) {
    short(world);
    world.join(2, "").await;
    world.leave(2).await;
    world.receives(&["c: s2 in, 1 here @0A", "c: s2 out"], &[]).await;
}

pub(crate) async fn offsets_have_no_gap_and_client_events_none(world: &mut World) {
    begin(world).await;
    world.join(2, "").await;
    world.publish("e1").await;
    world.publish_by_client("x").await.unwrap();
    world.publish("e2").await;
    world.receives(&["c: s2 in, 1 here @0A", "c: e1@1A", "c: x", "c: e2@2A"], &[]).await;
    world.leave(2).await;
    assert_eq!(found_from(world, "0A").await, "@2A Complete [e1@1A e2@2A]");
}

pub(crate) async fn who_comes_back_gets_what_they_missed(world: &mut World) {
    begin(world).await;
    publish_all(world, 3).await;
    for (position, expected) in [
        ("0A", "@3A Complete [e1@1A e2@2A e3@3A]"),
        ("1A", "@3A Complete [e2@2A e3@3A]"),
        ("2A", "@3A Complete [e3@3A]"),
        ("3A", "@3A Complete"),
        ("4A", "@3A Lost"),
        ("18446744073709551615A", "@3A Lost"),
    ] {
        assert_eq!(found_from(world, position).await, expected, "from {position}");
    }
    let foreign = |offset| Position { offset, epoch: Epoch::parse("other").unwrap() };
    for offset in [0, 2, 3, 9] {
        assert_eq!(found(world, foreign(offset)).await, "@3A Lost [e1@1A e2@2A e3@3A]");
    }
    // Where no history is kept, nothing can be found.
    world.options.history_size = 0;
    world.received().await;
    world.join_in("d", 2, "", Some(Since::Position(foreign(0)))).await;
    world.receives(&["d: s2 in, 1 here Lost"], &[]).await;
}

pub(crate) async fn the_last_ones_on_request(world: &mut World) {
    begin(world).await;
    publish_all(world, 3).await;
    for (count, expected) in [(0, ""), (1, " [e3@3A]"), (3, " [e1@1A e2@2A e3@3A]"), (u32::MAX, " [e1@1A e2@2A e3@3A]")]
    {
        world.join_since(1, Since::Last(count)).await;
        world.receives(&[], &[&format!("c: s1 in, 1 here @3A{expected}")]).await;
        world.leave(1).await;
        world.received().await;
    }
}

pub(crate) async fn history_is_bounded_in_number(world: &mut World) {
    begin(world).await;
    publish_all(world, 12).await;
    let kept: Vec<_> = (3..=12).map(|n| format!("e{n}@{n}A")).collect();
    assert_eq!(found_from(world, "2A").await, format!("@12A Complete [{}]", kept.join(" ")));
    assert_eq!(found_from(world, "1A").await, "@12A Lost");
    world.options.history_size = 2;
    world.publish("e13").await;
    assert_eq!(found_from(world, "11A").await, "@13A Complete [e12@12A e13@13A]");
    assert_eq!(found_from(world, "10A").await, "@13A Lost");
}

pub(crate) async fn history_is_bounded_in_time(world: &mut World) {
    begin(world).await;
    world.publish("e1").await;
    world.pass(30_000);
    world.publish("e2").await;
    world.pass(29_999);
    assert_eq!(found_from(world, "0A").await, "@2A Complete [e1@1A e2@2A]");
    world.pass(1);
    assert_eq!(found_from(world, "0A").await, "@2A Lost");
    assert_eq!(found_from(world, "1A").await, "@2A Complete [e2@2A]");
    // A wall clock that is set forth makes nothing old.
    world.clock.jump_wall(3_600_000);
    assert_eq!(found_from(world, "1A").await, "@2A Complete [e2@2A]");
}

pub(crate) async fn a_position_outlives_its_history(world: &mut World) {
    begin(world).await;
    world.publish("e1").await;
    world.pass(119_999);
    world.sweep().await;
    let state = world.broker.channel(&key("c")).await.unwrap().unwrap();
    assert_eq!(lines::position(&state.position.unwrap(), &mut world.epochs), "1A");
    assert_eq!(found_from(world, "1A").await, "@1A Complete");
    assert_eq!(found_from(world, "0A").await, "@1A Lost");
    // They were there: their position is worth as much again.
    world.pass(119_999);
    world.sweep().await;
    assert_eq!(found_from(world, "1A").await, "@1A Complete");
    world.publish("e2").await;
    assert_eq!(found_from(world, "1A").await, "@2A Complete [e2@2A]");
}

pub(crate) async fn a_position_from_before_the_first_publication_counts(world: &mut World) {
    begin(world).await;
    world.pass(100_000);
    world.publish("e1").await;
    assert_eq!(found_from(world, "0A").await, "@1A Complete [e1@1A]");
}

pub(crate) async fn a_forgotten_history_begins_anew(world: &mut World) {
    begin(world).await;
    world.publish("e1").await;
    world.pass(120_000);
    assert_eq!(world.broker.channel(&key("c")).await.unwrap(), None);
    world.publish("f1").await;
    // Sessions of the other epoch have received nothing of this one.
    assert_eq!(found_from(world, "0A").await, "@1B Lost [f1@1B]");
    assert_eq!(found_from(world, "1A").await, "@1B Lost [f1@1B]");
    assert_eq!(found_from(world, "0B").await, "@1B Complete [f1@1B]");
    // Whether somebody has looked meanwhile makes no difference.
    world.pass(120_000);
    world.publish("g1").await;
    assert_eq!(found_from(world, "1B").await, "@1C Lost [g1@1C]");
    // While the channel has a subscription, the position does not expire.
    world.join(1, "").await;
    world.pass(3_600_000);
    world.sweep().await;
    world.received().await;
    world.join_since(3, Since::Position(world.epochs.position("1C"))).await;
    world.receives(&[], &["c: s3 in, 2 here @1C Complete"]).await;
}

pub(crate) async fn history_is_read_from_both_ends(world: &mut World) {
    begin(world).await;
    publish_all(world, 12).await;
    // From which position, backwards, how many; what comes, and whether it is all.
    let table: [(&str, bool, usize, &str, bool); 18] = [
        ("", false, 0, "", true),
        ("", false, 2, "e3@3A e4@4A", true),
        ("", true, 0, "", true),
        ("", true, 2, "e12@12A e11@11A", true),
        ("10A", false, 9, "e11@11A e12@12A", true),
        ("10A", false, 1, "e11@11A", true),
        ("12A", false, 9, "", true),
        ("13A", false, 9, "", false),
        ("2A", false, 1, "e3@3A", true),
        ("1A", false, 2, "e3@3A e4@4A", false),
        ("6A", true, 9, "e5@5A e4@4A e3@3A", true),
        ("6A", true, 1, "e5@5A", true),
        ("12A", true, 2, "e11@11A e10@10A", true),
        ("13A", true, 9, "", false),
        ("3A", true, 9, "", true),
        ("2A", true, 9, "", true),
        ("1A", true, 9, "", false),
        ("0A", true, 9, "", false),
    ];
    for (since, reverse, limit, expected, complete) in table {
        let since = (!since.is_empty()).then(|| world.epochs.position(since));
        let range = HistoryRange { since, reverse, limit };
        let read = world.broker.history(&key("c"), range.clone()).await.unwrap();
        let publications = lines::publications(&read.publications, &mut world.epochs);
        assert_eq!((publications.as_str(), read.complete), (expected, complete), "{range:?}");
        assert_eq!(lines::position(&read.position.unwrap(), &mut world.epochs), "12A");
    }
    let foreign = Position { offset: 5, epoch: Epoch::parse("other").unwrap() };
    for (channel, since, complete) in
        [("c", Some(foreign.clone()), false), ("d", Some(foreign), false), ("d", None, true)]
    {
        let range = HistoryRange { since, reverse: false, limit: 9 };
        let read = world.broker.history(&key(channel), range).await.unwrap();
        assert_eq!((read.complete, read.publications.len(), read.position.is_some()), (complete, 0, channel == "c"));
    }
}

pub(crate) async fn a_history_that_is_not_wanted_any_more_goes(world: &mut World) {
    begin(world).await;
    world.publish("e1").await;
    world.options.history_size = 0;
    world.join(1, "").await;
    world.publish("e2").await;
    world.receives(&[], &["c: s1 in, 1 here", "c: e2"]).await;
    // A position from before it is not complete: there was a publication that the history does not hold.
    world.options.history_size = 10;
    world.publish("e3").await;
    world.leave(1).await;
    assert_eq!(found_from(world, "1A").await, "@1B Lost [e3@1B]");
}
