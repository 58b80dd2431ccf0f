//! Lanes and crashes: a failing delivery blocks its own key and no other, before and after a kill.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::json;
use tidings_testkit::{Answer, Received, Receiver};

use crate::common::{LATER, SOON, drained, hook, listener, local, number};
use crate::tally::Tally;

const KEYS: u64 = 5;
const EVENTS: u64 = 100;

// covers: C08
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stuck_key_holds_up_no_other_and_nothing_overtakes() {
    let partner = Receiver::start();
    let mended = Arc::new(AtomicBool::new(false));
    let is_mended = Arc::clone(&mended);
    partner.answer_with("/in", move |request| {
        let stuck = key_of(number(request)) == 0 && !is_mended.load(Ordering::SeqCst);
        if stuck { Answer::status(500) } else { Answer::default() }
    });
    let mut server = local().start().await;
    hook(&server.api(), "account.changed").await;
    let schedule: Vec<_> = std::iter::once("0s").chain(std::iter::repeat_n("500ms", 29)).collect();
    let body = json!({"url": partner.url("/in"), "hooks": ["account.changed"], "order": "key", "schedule": schedule});
    listener(&server.api(), body).await;
    publish_keyed(&server.api(), 0..EVENTS / 2).await;
    server.kill9().await;
    server.restart().await;
    publish_keyed(&server.api(), EVENTS / 2..EVENTS).await;
    // All of the other keys arrive, while the first of the stuck one is tried again and again.
    let free = |request: &Received| key_of(number(request)) != 0;
    let others = (EVENTS - EVENTS / KEYS) as usize;
    partner.wait_for(others, free, SOON).await;
    let tries = partner.wait_for(4, |request| !free(request), SOON).await;
    assert!(tries.iter().all(|request| number(request) == 0), "something overtook the first of the stuck key");

    server.kill9().await;
    server.restart().await;
    mended.store(true, Ordering::SeqCst);
    let is_last = |request: &Received| number(request) == EVENTS - KEYS;
    partner.wait_for(1, is_last, SOON).await;
    drained(&server, LATER).await;
    let received = partner.received();
    for key in 0..KEYS {
        let lane: Vec<_> = received.iter().filter(|request| key_of(number(request)) == key).collect();
        let tally = Tally::of(lane.into_iter(), |_| true);
        assert_eq!(tally.first_ones(), (0..EVENTS).filter(|n| key_of(*n) == key).collect::<Vec<_>>(), "key {key}");
        tally.assert_repeats_follow(&format!("key {key}"));
    }
}

fn key_of(n: u64) -> u64 {
    n % KEYS
}

async fn publish_keyed(api: &tidings_testkit::Api, numbers: std::ops::Range<u64>) {
    for n in numbers {
        let event = json!({"name": "account.changed", "key": format!("k{}", key_of(n)), "data": {"n": n}});
        api.post("/v1/events", event).await.expect_status(202);
    }
}
