//! Tens of thousands of deliveries are pending when the server is killed, twice.

use std::collections::HashMap;
use std::time::Duration;

use serde_json::json;
use tidings_testkit::{Receiver, eventually};
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::common::{LATER, SOON, drained, hook, listener, local, number, publish, readiness};
use crate::tally::Tally;

const LISTENERS: usize = 60;
const EVENTS: usize = 340;
const OWED: usize = LISTENERS * EVENTS;
const IN_FLIGHT: usize = 128;
/// The repeats that each node may make, as in `kill.rs`: attempts in flight, and results that are not written yet.
const MOST_REPEATED: usize = IN_FLIGHT + 2 * 256;

// covers: C01, C07
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tens_of_thousands_are_taken_up_again() {
    let partner = Receiver::start_with_threads(2);
    partner.go_down().await;
    let mut server = local().env("TIDINGS__COURIER__MAX_IN_FLIGHT", &IN_FLIGHT.to_string()).start().await;
    let api = server.api();
    hook(&api, "meter.read").await;
    let schedule: Vec<_> = ["0s"].into_iter().chain(std::iter::repeat_n("1s", 49)).collect();
    for i in 0..LISTENERS {
        let url = partner.url(&format!("/in/{i}"));
        listener(&api, json!({"url": url, "hooks": ["meter.read"], "schedule": schedule})).await;
    }
    let began = Instant::now();
    let mut publishing = JoinSet::new();
    for n in 0..EVENTS {
        let api = api.clone();
        publishing.spawn(async move { publish(&api, "meter.read", n as u64).await.expect_status(202) });
        if publishing.len() == 32 {
            publishing.join_next().await;
        }
    }
    publishing.join_all().await;
    println!("{OWED} deliveries owed after {:?}", began.elapsed());
    server.kill9().await;

    partner.come_back();
    let started = Instant::now();
    server.restart().await;
    let first = partner.wait_for(1, |_| true, SOON).await[0].at - started.into_std();
    println!("ready and the first redelivery {first:?} after the start of the process");
    // Killed again in the middle of catching up.
    eventually(LATER, || async { (partner.total() > OWED / 3).then_some(()) }).await;
    let at_kill = partner.total();
    server.kill9().await;
    let started = Instant::now();
    server.restart().await;
    let open = readiness(&server).await.map(|reply| reply["open_deliveries"].clone());
    drained(&server, LATER).await;
    println!("killed again after {at_kill}; {open:?} were open; all done {:?} after the start", started.elapsed());

    let mut paths: HashMap<String, Vec<_>> = HashMap::new();
    for request in partner.received() {
        paths.entry(request.path.clone()).or_default().push(request);
    }
    let tallies: Vec<_> = paths.values().map(|requests| Tally::of(requests.iter(), |_| true)).collect();
    let delivered: usize = tallies.iter().map(Tally::distinct).sum();
    let repeated: usize = tallies.iter().map(Tally::repeated).sum();
    println!("owed {OWED}, delivered {delivered}, repeated {repeated}, lost {}", OWED - delivered);
    assert_eq!(delivered, OWED, "acknowledged and never delivered");
    let most = server.each_node().count() * MOST_REPEATED;
    assert!(repeated <= most, "{repeated} were repeated by one kill");
}

// covers: C07
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_listener_with_a_rate_gets_its_backlog_at_that_rate_after_a_crash() {
    const RATE: u32 = 50;
    const BACKLOG: u64 = 200;
    let partner = Receiver::start();
    let mut server = local().start().await;
    hook(&server.api(), "meter.due").await;
    let id = listener(&server.api(), json!({"url": partner.url("/in"), "hooks": ["meter.due"], "rate": 1})).await;
    for n in 0..BACKLOG {
        publish(&server.api(), "meter.due", n).await.expect_status(202);
    }
    server.kill9().await;
    server.restart().await;
    let api = server.api();
    api.patch(&format!("/v1/listeners/{id}"), json!({"rate": RATE})).await.expect_status(200);
    let from = partner.total();
    drained(&server, LATER).await;
    let received = partner.received();
    let mut came: Vec<_> = received.iter().map(number).collect();
    came.sort_unstable();
    came.dedup();
    assert_eq!(came, (0..BACKLOG).collect::<Vec<_>>());
    // A second's worth may come at once; over the whole it is the rate.
    let caught_up = &received[from..];
    let took = caught_up[caught_up.len() - 1].at - caught_up[0].at;
    let least = Duration::from_secs_f64((caught_up.len() as f64 - 1.0) / f64::from(RATE) - 1.2);
    println!("{} in {took:?} at {RATE} a second", caught_up.len());
    assert!(took >= least, "{} deliveries in {took:?}, faster than {RATE} a second", caught_up.len());
}
