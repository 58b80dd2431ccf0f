//! Listeners do not delay each other: one that hangs, one that fails, one that is unreachable, and a healthy one.

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::json;
use tidings_testkit::{Answer, Receiver, eventually};
use tokio::time::{Instant, interval};

use crate::kit::{SOON, all, hook, listener, open};

/// Events per second, and for how long.
const RATE: u32 = 50;
const SECONDS: u32 = 4;

// covers: R01, R12, R15, C08
#[tokio::test(flavor = "multi_thread")]
async fn a_sound_listener_gets_everything_while_others_misbehave() {
    let (sound, others) = (Receiver::start(), Receiver::start());
    others.respond("/hangs", Answer::hang());
    others.respond("/fails", Answer::status(500));
    others.respond("/gone", Answer::status(410));
    let server = open().start().await;
    server.nodes_know_each_other().await;
    let api = server.api();
    hook(&api, "e").await;
    let hanging = json!({"url": others.url("/hangs"), "hooks": ["e"], "timeout": "20s", "concurrency": 8});
    let hanging = listener(&api, hanging).await;
    let failing = listener(&api, json!({"url": others.url("/fails"), "hooks": ["e"]})).await;
    let gone = listener(&api, json!({"url": others.url("/gone"), "hooks": ["e"]})).await;
    listener(&api, json!({"url": sound.url("/in"), "hooks": ["e"]})).await;

    // An open loop: what is slow to be answered does not make the next one come later.
    let mut ticks = interval(Duration::from_secs(1) / RATE);
    let mut publishes = Vec::new();
    for number in 0..RATE * SECONDS {
        ticks.tick().await;
        let api = api.clone();
        publishes.push(tokio::spawn(async move {
            let asked = Instant::now();
            let body = json!({"id": format!("n{number}"), "name": "e", "data": {"n": number}});
            api.post("/v1/events", body).await.expect_status(202);
            asked.elapsed()
        }));
    }
    let mut answers = Vec::new();
    for publish in publishes {
        answers.push(publish.await.unwrap());
    }
    let wanted: BTreeSet<String> = (0..RATE * SECONDS).map(|number| format!("n{number}")).collect();
    let received = sound.wait_for(wanted.len(), |_| true, SOON).await;
    // The one that hangs has all its slots taken meanwhile, and much waits for it: that is what did not matter.
    assert!(others.under_way("/hangs") >= 1, "nobody hangs any more: the test proves nothing");
    let ids: Vec<_> = received.iter().map(|request| request.header("webhook-id").unwrap().to_owned()).collect();
    assert_eq!(ids.iter().cloned().collect::<BTreeSet<_>>(), wanted);
    assert_eq!(ids.len(), wanted.len(), "the sound one was told twice");
    answers.sort();
    println!(
        "publishes answered in {:?} (median), {:?} (slowest)",
        answers[answers.len() / 2],
        answers[answers.len() - 1]
    );

    let shown = eventually(SOON, || async {
        let shown = api.get(&format!("/v1/listeners/{}", gone.id)).await;
        (shown["enabled"] == false).then_some(shown)
    })
    .await;
    assert_eq!(shown["disabled_reason"], "gone");
    assert!(others.received_on("/gone").len() < wanted.len(), "a listener that is gone was called on");
    let waiting = all(&api, &format!("/v1/deliveries?state=pending&listener={}", hanging.id)).await;
    assert!(!waiting.is_empty(), "what hangs is pending");
    assert!(others.most_at_once("/hangs") <= 8, "more than its concurrency: {}", others.most_at_once("/hangs"));
    // The failing one was tried with every event once, and is not disabled for it.
    eventually(SOON, || async { (others.received_on("/fails").len() >= wanted.len()).then_some(()) }).await;
    assert_eq!(api.get(&format!("/v1/listeners/{}", failing.id)).await["enabled"], true);
}

/// New events overtake nothing within a key, and a failing delivery blocks only its own key.
// covers: C08
#[tokio::test]
async fn a_stuck_key_holds_up_its_own_events_only() {
    let receiver = Receiver::start();
    receiver.answer_with("/in", |request| {
        let stuck = request.json()["data"]["key"] == "stuck";
        Answer::status(if stuck { 500 } else { 204 })
    });
    let server = open().start().await;
    let api = server.api();
    hook(&api, "e").await;
    let schedule = json!(["0s", "400ms", "400ms"]);
    listener(&api, json!({"url": receiver.url("/in"), "hooks": ["e"], "order": "key", "schedule": schedule})).await;
    for number in 0..30 {
        for key in ["stuck", "a", "b"] {
            if key == "stuck" && number >= 2 {
                continue;
            }
            let body = json!({"name": "e", "key": key, "data": {"key": key, "n": number}});
            api.post("/v1/events", body).await.expect_status(202);
        }
    }
    receiver.wait_for(60, |request| request.json()["data"]["key"] != "stuck", SOON).await;
    crate::kit::nothing_pending(&api).await;
    let received = receiver.received();
    let numbers = |key: &str| -> Vec<i64> {
        let of_key = received.iter().map(|request| request.json()["data"].clone()).filter(|data| data["key"] == key);
        of_key.map(|data| data["n"].as_i64().unwrap()).collect()
    };
    for key in ["a", "b"] {
        assert_eq!(numbers(key), (0..30).collect::<Vec<_>>(), "{key}");
    }
    assert_eq!(numbers("stuck"), [0, 0, 0, 1, 1, 1], "the second one waits until the first has run out of attempts");
}
