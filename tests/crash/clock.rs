//! The wall clock is set forward or back by an hour: schedules follow the time that really passes, signatures have the
//! clock's time, and a restart at the other time neither waits for an hour nor makes all attempts at once.

use std::collections::HashMap;
use std::time::Duration;

use serde_json::json;
use tidings_model::clock::{Clock, SystemClock};
use tidings_testkit::{Answer, Api, Received, Receiver, Server, eventually};

use crate::common::{LATER, SOON, assert_each_once, counts, drained, hook, listener, number, publish_all};
use crate::wrong_clock::WrongClock;

const HOUR: i64 = 3_600;
/// How far a signature's time may be from the clock's.
const TOLERANCE: i64 = 10;
/// The shortest time between attempts at `/again`: a second, minus the schedule's jitter of a fifth and rounding to
/// milliseconds.
const LEAST_GAP: Duration = Duration::from_millis(780);
const EVENTS: u64 = 10;
/// Retries by hand that a listener may have within a minute.
const RETRIES: usize = 10;

// covers: C03, P01
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_clock_that_jumps_neither_stops_retries_nor_lets_them_storm() {
    let partner = Receiver::start();
    let clock = WrongClock::new();
    let server = clock.server().start().await;
    let api = server.api();
    set_up(&api, &partner).await;
    let mut numbers = 0..EVENTS;
    for offset in [0, HOUR, -HOUR, 0] {
        clock.set(offset);
        let from = partner.total();
        publish_all(&api, "clock.ticked", numbers.clone()).await;
        // New ones are attempted, and old and new ones again, three times each.
        let tries = numbers.end as usize * 3;
        let here = |request: &Received| request.path == "/again" && request.number > from;
        let came = partner.wait_for(tries, here, SOON).await;
        // What was signed before the clock was set may arrive just after; a little later none.
        for request in came.iter().skip(tries / 2) {
            assert_eq!(hours_off(request), offset / HOUR, "the signature's time is not the clock's at {offset} s");
        }
        numbers = numbers.end..numbers.end + EVENTS;
    }
    let all = numbers.start;
    assert_each_once(&partner.received_on("/later"), 0..all);
    assert_steady(&partner);
    partner.respond("/again", Answer::default());
    partner.respond("/later", Answer::default());
    assert_eq!(logged_numbers(&api).await, (0..all).collect::<Vec<_>>(), "the log's order");
    let before = partner.received_on("/later").len();
    let retried = retry_later(&api).await;
    partner.wait_for(before + retried, |request| request.path == "/later", SOON).await;
    give_up_later(&api).await;
    drained(&server, LATER).await;
}

// covers: C03, C09
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_clock_that_was_set_back_before_a_restart_delays_nothing() {
    restart_with(&[0], -HOUR, 1).await;
}

// covers: C03, C09
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_clock_that_was_set_back_while_it_ran_delays_nothing_after_a_restart() {
    restart_with(&[0, -HOUR], -HOUR, 1).await;
}

// covers: C03, C09
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_clock_that_was_an_hour_fast_for_a_while_delays_nothing_after_a_restart() {
    // What the store knows of the clock before the crash it has from the events' numbers, which are an hour ahead of
    // the schedules here. So it moves those by an hour: what is due later comes early, once. Nothing comes late.
    restart_with(&[0, HOUR], 0, 2).await;
}

/// Publishes at each of these offsets, kills the server, and starts it with the last one. `/later` gets each event at
/// most so often.
async fn restart_with(offsets: &[i64], last: i64, later: usize) {
    let partner = Receiver::start();
    let clock = WrongClock::new();
    let mut server = clock.server().start().await;
    set_up(&server.api(), &partner).await;
    let mut numbers = 0..EVENTS;
    for offset in offsets {
        clock.set(*offset);
        publish_all(&server.api(), "clock.ticked", numbers.clone()).await;
        numbers = numbers.end..numbers.end + EVENTS;
        attempted(&server, numbers.start).await;
    }
    let all = numbers.start;
    server.kill9().await;
    clock.set(last);
    let from = partner.total();
    server.restart().await;
    // All pending retries are made soon: twice each.
    let tries = all as usize * 2;
    let again = |request: &Received| request.path == "/again" && request.number > from;
    let came = partner.wait_for(tries, again, SOON).await;
    assert_eq!(counts(&came).len() as u64, all, "some are not retried: {:?}", counts(&came));
    // And those that have half an hour left are not made yet.
    let times = counts(&partner.received_on("/later"));
    assert_eq!(times.len() as u64, all, "{times:?}");
    assert!(times.values().all(|times| *times <= later), "not at most {later} each: {times:?}");
    // What is published now stands behind what was published when the clock said more.
    publish_all(&server.api(), "clock.ticked", all..all + 5).await;
    assert_eq!(logged_numbers(&server.api()).await, (0..all + 5).collect::<Vec<_>>(), "the log's order");
    partner.respond("/again", Answer::default());
    partner.respond("/later", Answer::default());
    retry_later(&server.api()).await;
    give_up_later(&server.api()).await;
    drained(&server, LATER).await;
}

/// Two listeners that refuse everything: one is tried again every second, the other after half an hour.
async fn set_up(api: &Api, partner: &Receiver) {
    hook(api, "clock.ticked").await;
    let often: Vec<_> = std::iter::once("0s").chain(std::iter::repeat_n("1s", 49)).collect();
    for (path, schedule) in [("/again", json!(often)), ("/later", json!(["0s", "30m", "30m"]))] {
        partner.respond(path, Answer::status(500));
        listener(api, json!({"url": partner.url(path), "hooks": ["clock.ticked"], "schedule": schedule})).await;
    }
}

/// Waits until the results of the first attempts of so many events are written, so that a kill repeats none of them.
async fn attempted(server: &Server, events: u64) {
    let api = server.api();
    tidings_testkit::eventually(SOON, || async {
        let page = api.get("/v1/deliveries?state=pending&limit=250").await.expect_status(200);
        let all = page["data"].as_array().cloned().unwrap_or_default();
        let tried = all.iter().filter(|one| one["attempts"].as_u64() >= Some(1)).count();
        (tried as u64 == 2 * events).then_some(())
    })
    .await;
}

/// The id of the listener that is tried again after half an hour.
async fn later(api: &Api) -> String {
    let page = api.get("/v1/listeners").await.expect_status(200);
    let all = page["data"].as_array().cloned().unwrap_or_default();
    let later = all.iter().find(|one| one["url"].as_str().is_some_and(|url| url.ends_with("/later")));
    later.and_then(|one| one["id"].as_str()).unwrap_or_else(|| panic!("no listener in {all:?}")).to_owned()
}

/// Retries by hand as many of the deliveries that wait for half an hour as is allowed within a minute, once none is in
/// flight: those would not be attempted again. Returns how many.
async fn retry_later(api: &Api) -> usize {
    let listener = later(api).await;
    let pending = eventually(SOON, || async {
        let page = api.get(&format!("/v1/deliveries?state=pending&listener={listener}&limit=250")).await;
        let pending = page.expect_status(200)["data"].as_array().cloned().unwrap_or_default();
        pending.iter().all(|one| one["next_attempt_at"].is_string()).then_some(pending)
    })
    .await;
    let mut retried = 0;
    for delivery in pending.iter().take(RETRIES) {
        let id = delivery["id"].as_str().unwrap_or_default();
        api.post(&format!("/v1/deliveries/{id}/retry"), json!({})).await.expect_status(202);
        retried += 1;
    }
    retried
}

/// Cancels the deliveries that still wait for half an hour.
async fn give_up_later(api: &Api) {
    let listener = later(api).await;
    api.delete(&format!("/v1/listeners/{listener}")).await.expect_status(204);
}

/// The difference between the signature's time and ours, in hours.
#[track_caller]
fn hours_off(request: &Received) -> i64 {
    let signed: i64 = request.header("webhook-timestamp").and_then(|text| text.parse().ok()).unwrap_or_default();
    let off = signed - SystemClock::new().wall_ms() / 1_000;
    let hours = (off as f64 / HOUR as f64).round() as i64;
    let rest = (off - hours * HOUR).abs();
    assert!(rest < TOLERANCE + SOON.as_secs() as i64, "the signature's time is {off} s from ours");
    hours
}

/// Asserts that no two attempts of one delivery at `/again` are closer than the schedule says.
fn assert_steady(partner: &Receiver) {
    let mut last: HashMap<u64, Received> = HashMap::new();
    for request in partner.received_on("/again") {
        let n = number(&request);
        if let Some(before) = last.get(&n) {
            let gap = request.at - before.at;
            assert!(gap >= LEAST_GAP, "event {n} was tried again after {gap:?}: a storm");
        }
        last.insert(n, request);
    }
}

/// The numbers of the events in the log, oldest first.
async fn logged_numbers(api: &Api) -> Vec<u64> {
    let page = api.get("/v1/events?limit=250").await.expect_status(200);
    let events = page["data"].as_array().cloned().unwrap_or_default();
    events.iter().rev().filter_map(|event| event["data"]["n"].as_u64()).collect()
}
