//! How channels and their members stand: each coming and going is told once.

use tidings_model::delivery::DeliveryState;
use tidings_model::id::DestinationNo;
use tidings_model::listener::Order;

use super::World;
use crate::log::Lane;
use crate::standing::{Subject, Turn, Turned};

/// How long a going can be taken back.
const WINDOW: i64 = 3_000;

fn subject(world: &World, channel: &str, user: Option<&str>) -> Subject {
    Subject { app: world.app.clone(), channel: channel.to_owned(), user: user.map(str::to_owned) }
}

fn turn(world: &World, number: i64, present: bool) -> Turn {
    let event = format!("tidings_{number}");
    let subject = subject(world, "c", None);
    Turn { subject, present, number, event, quiet: false, window: WINDOW, now: world.now, wall: world.now }
}

/// Takes a turn; one that is to be told is noted as told.
async fn told(world: &World, turn: Turn) -> Turned {
    let (subject, number) = (turn.subject.clone(), turn.number);
    let turned = world.store.turn(turn).await.unwrap();
    if turned == Turned::Tell {
        world.store.turn_told(&subject, number).await.unwrap();
    }
    turned
}

/// Turn `number` is a going, of which these destinations are to hear when the window is over.
async fn going(world: &World, number: i64, destinations: &[DestinationNo], lane: Lane) {
    assert_eq!(told(world, turn(world, number, false)).await, Turned::Tell);
    let mut publish = world.to(&format!("tidings_{number}"), destinations, lane).await;
    publish.not_before = Some(world.now + WINDOW);
    publish.event.key = Some("c".to_owned());
    assert_eq!(world.stored_as(publish).await.1, []);
}

async fn states(world: &World) -> Vec<(String, DeliveryState)> {
    world.all().await.into_iter().map(|row| (row.event_id, row.state)).collect()
}

pub(crate) async fn each_turn_is_told_once(world: World) {
    assert_eq!(told(&world, turn(&world, 1, true)).await, Turned::Tell);
    assert_eq!(told(&world, turn(&world, 2, true)).await, Turned::Known);
    // Nobody was to hear of the going, and it was long ago.
    assert_eq!(told(&world, turn(&world, 3, false)).await, Turned::Tell);
    assert_eq!(told(&world, turn(&world, 4, false)).await, Turned::Known);
    let later = Turn { wall: world.now + WINDOW, ..turn(&world, 5, true) };
    assert_eq!(told(&world, later).await, Turned::Tell);
    // Others stand for themselves.
    let member = Turn { subject: subject(&world, "c", Some("ann")), ..turn(&world, 1, true) };
    assert_eq!(told(&world, member.clone()).await, Turned::Tell);
    assert_eq!(told(&world, member).await, Turned::Known);
}

pub(crate) async fn of_a_coming_that_is_not_told_the_going_is_not_either(world: World) {
    let quiet = |number| Turn { quiet: true, ..turn(&world, number, true) };
    assert_eq!(told(&world, quiet(1)).await, Turned::Dropped);
    assert_eq!(told(&world, turn(&world, 2, false)).await, Turned::Known);
    // It is no short absence: nobody has heard that it was there.
    assert_eq!(told(&world, turn(&world, 3, true)).await, Turned::Tell);
    // What stands as present stays so, and its going is told.
    assert_eq!(told(&world, quiet(4)).await, Turned::Known);
    assert_eq!(told(&world, turn(&world, 5, false)).await, Turned::Tell);
    let later = |number| Turn { quiet: true, wall: world.now + WINDOW, ..turn(&world, number, true) };
    assert_eq!(told(&world, later(6)).await, Turned::Dropped);
    assert_eq!(told(&world, turn(&world, 7, false)).await, Turned::Known);
    assert_eq!(world.store.standings(None, 9).await.unwrap(), [], "nothing is left to be made up for");
}

pub(crate) async fn an_old_turn_is_no_news(world: World) {
    assert_eq!(told(&world, turn(&world, 1, true)).await, Turned::Tell);
    // Seen while it was there: the going in between is older.
    assert_eq!(told(&world, turn(&world, 5, true)).await, Turned::Known);
    assert_eq!(told(&world, turn(&world, 4, false)).await, Turned::Known);
    assert_eq!(told(&world, turn(&world, 6, false)).await, Turned::Tell);
    assert_eq!(told(&world, turn(&world, 3, true)).await, Turned::Known);
    // What was written down and not told is told by whoever comes next, and then no more.
    assert_eq!(world.store.turn(turn(&world, 7, false)).await.unwrap(), Turned::Known);
    let back = Turn { wall: world.now + WINDOW, ..turn(&world, 8, true) };
    assert_eq!(world.store.turn(back.clone()).await.unwrap(), Turned::Tell);
    assert_eq!(told(&world, back.clone()).await, Turned::Tell);
    assert_eq!(told(&world, back).await, Turned::Known);
}

pub(crate) async fn a_going_is_taken_back_within_its_window(mut world: World) {
    let all = world.listeners(2, Order::None).await;
    told(&world, turn(&world, 1, true)).await;
    going(&world, 2, &all, Lane::Own).await;
    world.now += WINDOW - 1;
    assert_eq!(told(&world, turn(&world, 3, true)).await, Turned::TakenBack);
    let canceled = ("tidings_2".to_owned(), DeliveryState::Canceled);
    assert_eq!(states(&world).await, [canceled.clone(), canceled]);
    world.now += 10 * WINDOW;
    assert_eq!(world.due().await, (Vec::new(), None));
    // It is there, and its next going is one.
    going(&world, 4, &all, Lane::Own).await;
    assert_eq!(world.due().await, (Vec::new(), Some(world.now + WINDOW)));
}

pub(crate) async fn what_has_gone_out_is_not_taken_back(mut world: World) {
    let all = world.listeners(2, Order::None).await;
    told(&world, turn(&world, 1, true)).await;
    going(&world, 2, &all, Lane::Own).await;
    world.now += WINDOW;
    let leased = world.claim(all[0], 1).await;
    assert_eq!(told(&world, turn(&world, 3, true)).await, Turned::Tell);
    world.deliver(&leased[0]).await;
    let (going, pending) = ("tidings_2".to_owned(), DeliveryState::Pending);
    assert_eq!(states(&world).await, [(going.clone(), pending), (going, DeliveryState::Delivered)]);
}

pub(crate) async fn a_going_of_an_ordered_lane_lets_the_next_go(mut world: World) {
    let no = world.listener(Order::Key).await;
    told(&world, turn(&world, 1, true)).await;
    going(&world, 2, &[no], Lane::Key).await;
    assert_eq!(world.publish_keyed("next", no, "c").await.1, [], "it waits behind the going");
    assert_eq!(told(&world, turn(&world, 3, true)).await, Turned::TakenBack);
    world.now += 1;
    let leased = world.claim(no, 2).await;
    assert_eq!(leased.len(), 1);
    world.deliver(&leased[0]).await;
    let ended = [("next".to_owned(), DeliveryState::Delivered), ("tidings_2".to_owned(), DeliveryState::Canceled)];
    assert_eq!(states(&world).await, ended);
}

pub(crate) async fn nobody_hears_of_a_short_absence(mut world: World) {
    // Comings are wanted here, goings by nobody: there is no event of one, and still a short one is none.
    assert_eq!(told(&world, turn(&world, 1, true)).await, Turned::Tell);
    assert_eq!(told(&world, turn(&world, 2, false)).await, Turned::Tell);
    world.now += WINDOW - 1;
    assert_eq!(told(&world, turn(&world, 3, true)).await, Turned::TakenBack);
    assert_eq!(told(&world, turn(&world, 4, false)).await, Turned::Tell);
    world.now += WINDOW;
    assert_eq!(told(&world, turn(&world, 5, true)).await, Turned::Tell);
}

pub(crate) async fn what_is_there_or_not_told_is_listed(mut world: World) {
    assert_eq!(world.store.last_turn().await.unwrap(), 0);
    for (channel, user, number) in [("b", None, 1), ("a", None, 2), ("b", Some("ann"), 3), ("b", Some("bob"), 4)] {
        let turn = Turn { subject: subject(&world, channel, user), ..turn(&world, number, true) };
        assert_eq!(told(&world, turn).await, Turned::Tell);
    }
    for (channel, number) in [("a", 5), ("b", 6)] {
        let turn = Turn { subject: subject(&world, channel, None), ..turn(&world, number, false) };
        assert_eq!(world.store.turn(turn.clone()).await.unwrap(), Turned::Tell);
        if channel == "a" {
            world.store.turn_told(&turn.subject, number).await.unwrap();
        }
    }
    world.reopen().await;
    let mut found = Vec::new();
    let mut after = None;
    loop {
        let page = world.store.standings(after, 2).await.unwrap();
        let Some(last) = page.last() else { break };
        after = Some(last.subject.clone());
        found.extend(page.into_iter().map(|s| (s.subject.channel, s.subject.user, s.present, s.number, s.told)));
    }
    let b =
        |user: Option<&str>, present, number, told| ("b".to_owned(), user.map(str::to_owned), present, number, told);
    assert_eq!(found, [b(None, false, 6, false), b(Some("ann"), true, 3, true), b(Some("bob"), true, 4, true)]);
    assert_eq!(world.store.last_turn().await.unwrap(), 6);
}

pub(crate) async fn what_is_long_gone_is_forgotten(world: World) {
    told(&world, turn(&world, 1, true)).await;
    told(&world, turn(&world, 2, false)).await;
    assert!(!world.store.forget_gone(world.now).await.unwrap());
    assert_eq!(told(&world, turn(&world, 2, false)).await, Turned::Known);
    assert!(!world.store.forget_gone(world.now + 1).await.unwrap());
    assert_eq!(told(&world, turn(&world, 2, false)).await, Turned::Tell, "nothing is known of it");
    told(&world, turn(&world, 3, true)).await;
    assert!(!world.store.forget_gone(world.now + 1).await.unwrap());
    assert_eq!(told(&world, turn(&world, 3, true)).await, Turned::Known, "what is there is not forgotten");
}

pub(crate) async fn of_turns_at_once_one_is_told(world: World) {
    let mut turns = tokio::task::JoinSet::new();
    for number in 1..=20 {
        let (store, turn) = (std::sync::Arc::clone(&world.store), turn(&world, number, true));
        turns.spawn(async move { store.turn(turn).await.unwrap() });
    }
    let told = turns.join_all().await.into_iter().filter(|turned| *turned == Turned::Tell).count();
    assert_eq!(told, 1);
}
