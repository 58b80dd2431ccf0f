//! One event, ten thousand listeners.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde_json::json;
use tidings_testkit::{Api, Receiver, Server, eventually};
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::kit::{hook, listener, open, publish};

const LISTENERS: usize = 10_000;
/// How long a debug build may take for all of them on a busy machine.
const PATIENCE: Duration = Duration::from_secs(150);
/// Attempts in flight, and so the receiver's connections.
const IN_FLIGHT: usize = 512;

async fn make_listeners(api: &Api, receiver: &Receiver) {
    let mut makers = JoinSet::new();
    for maker in 0..32 {
        let (api, base) = (api.clone(), receiver.url("/l/"));
        makers.spawn(async move {
            for number in (maker..LISTENERS).step_by(32) {
                listener(&api, json!({"url": format!("{base}{number}"), "hooks": ["many"]})).await;
            }
        });
    }
    while let Some(made) = makers.join_next().await {
        made.unwrap();
    }
}

/// How often each path received the event.
fn told_of(receiver: &Receiver, event: &str) -> BTreeMap<String, usize> {
    let mut told = BTreeMap::new();
    for request in receiver.received() {
        if request.header("webhook-id") == Some(event) {
            *told.entry(request.path).or_default() += 1;
        }
    }
    told
}

async fn everybody_told(receiver: &Receiver, event: &str) -> BTreeMap<String, usize> {
    eventually(PATIENCE, || async {
        // Looking through all of them is expensive, and the total is a good first guess.
        let enough = receiver.total() >= LISTENERS;
        let told = if enough { told_of(receiver, event) } else { BTreeMap::new() };
        tokio::time::sleep(Duration::from_millis(50)).await;
        (told.len() >= LISTENERS).then_some(told)
    })
    .await
}

async fn counts(server: &Server) -> (usize, usize) {
    let metrics = server.api().get("/metrics").await.text();
    let count = |name: &str| {
        let line = metrics.lines().find(|line| line.starts_with(name));
        line.and_then(|line| line.rsplit(' ').next()?.parse::<usize>().ok()).unwrap_or(0)
    };
    (count("tidings_courier_in_flight"), count("tidings_courier_held_bytes"))
}

// covers: C01, C02, C04
#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_listeners_are_told_once_and_after_a_crash_none_is_forgotten() {
    let receiver = Receiver::start_with_threads(2);
    let mut server = open().env("TIDINGS__COURIER__MAX_IN_FLIGHT", &IN_FLIGHT.to_string()).start().await;
    let api = server.api();
    hook(&api, "one").await;
    hook(&api, "many").await;
    listener(&api, json!({"url": receiver.url("/one"), "hooks": ["one"]})).await;
    let began = Instant::now();
    make_listeners(&api, &receiver).await;
    println!("{LISTENERS} listeners made in {:?}", began.elapsed());

    let mut alone = Vec::new();
    for _ in 0..9 {
        let asked = Instant::now();
        publish(&api, "one", json!({"n": 1})).await;
        alone.push(asked.elapsed());
    }
    alone.sort();
    let asked = Instant::now();
    let said = api.post("/v1/events", json!({"name": "many", "data": {"n": 1}})).await.expect_status(202);
    let answered = asked.elapsed();
    let told_by_then = receiver.received().iter().filter(|request| request.path != "/one").count();
    assert_eq!(said["deliveries"], LISTENERS, "{}", said.text());
    println!(
        "202 for one listener in {:?} (median), for {LISTENERS} in {answered:?}, {told_by_then} of them told by then",
        alone[4]
    );
    assert!(told_by_then < LISTENERS, "the answer waited for the deliveries");
    let first = everybody_told(&receiver, &said.text_at("id")).await;
    println!(
        "all told {:?} after the publish; (in flight, bytes held) now {:?}",
        asked.elapsed(),
        counts(&server).await
    );
    crate::kit::nothing_pending(&api).await;
    let all: BTreeSet<String> = (0..LISTENERS).map(|number| format!("/l/{number}")).collect();
    assert_eq!(first.keys().cloned().collect::<BTreeSet<_>>(), all);
    let told = told_of(&receiver, &said.text_at("id"));
    assert!(told.values().all(|times| *times == 1), "somebody was told twice without a crash");

    // Again, with a crash in the middle of it.
    let before = receiver.total();
    let second = publish(&api, "many", json!({"n": 2})).await;
    eventually(PATIENCE, || async { (receiver.total() >= before + 700).then_some(()) }).await;
    server.kill9().await;
    let at_the_crash = receiver.total() - before;
    assert!(at_the_crash < LISTENERS, "the crash came too late to prove anything: {at_the_crash} were told");
    server.restart().await;
    let told = everybody_told(&receiver, &second).await;
    crate::kit::nothing_pending(&server.api()).await;
    assert_eq!(told.keys().cloned().collect::<BTreeSet<_>>(), all, "somebody was forgotten");
    let told = told_of(&receiver, &second);
    let repeats: usize = told.values().map(|times| times - 1).sum();
    println!("killed when {at_the_crash} were told; all told after the restart, {repeats} of them again");
    // Under way at each node, and done but not yet written down.
    let most = server.each_node().count() * (2 * IN_FLIGHT + 512);
    assert!(repeats <= most, "{repeats} were told again");
    assert!(told.values().all(|times| *times <= 2), "one crash, more than two times");

    // And once more, stopped as one should: what is under way ends and is written down, so nobody is told twice.
    let before = receiver.total();
    let third = publish(&server.api(), "many", json!({"n": 3})).await;
    eventually(PATIENCE, || async { (receiver.total() >= before + 700).then_some(()) }).await;
    server.terminate().await.expect_code(0);
    let at_the_stop = receiver.total() - before;
    assert!(at_the_stop < LISTENERS, "the stop came too late to prove anything: {at_the_stop} were told");
    server.restart().await;
    let told = everybody_told(&receiver, &third).await;
    crate::kit::nothing_pending(&server.api()).await;
    assert_eq!(told.keys().cloned().collect::<BTreeSet<_>>(), all, "somebody was forgotten");
    let told = told_of(&receiver, &third);
    let repeats: usize = told.values().map(|times| times - 1).sum();
    println!("stopped when {at_the_stop} were told; all told after the restart, {repeats} of them again");
    assert_eq!(repeats, 0, "an orderly stop costs repeats");
}
