//! A full disk: publishes are refused, the server lives, results wait, and everything goes on by itself once there is
//! room.

use std::time::Duration;

use serde_json::json;
use tidings_testkit::{Answer, Receiver, eventually};

use crate::common::{
    LATER, SOON, assert_each_once, assert_refused, counts, drained, hook, listed, listener, local, logged, publish,
    publish_all, readiness,
};
use crate::small_disk::SmallDisk;

/// The size of the disk in MiB, enough for a server that has done little.
const MEBIBYTES: u32 = 16;

// covers: C03, C04
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_costs_patience_only() {
    let partner = Receiver::start();
    partner.respond("/slow", Answer::default().delay(Duration::from_secs(3)));
    // Refuses each event's first two attempts, after the time it takes to fill the disk.
    partner.answer_with("/failing", {
        let tries = parking_lot::Mutex::new(std::collections::HashMap::new());
        move |request| {
            let mut tries = tries.lock();
            let tried = tries.entry(crate::common::number(request)).or_insert(0);
            *tried += 1;
            match *tried {
                1 => Answer::status(500).delay(Duration::from_secs(3)),
                2 => Answer::status(500),
                _ => Answer::default(),
            }
        }
    });
    let disk = SmallDisk::mount(MEBIBYTES);
    let server = local().alone().dir(disk.path()).start().await;
    let api = server.api();
    hook(&api, "page.saved").await;
    let slow = listener(&api, json!({"url": partner.url("/slow"), "hooks": ["page.saved"]})).await;
    let schedule = ["0s", "1s", "1s", "1s", "1s"];
    let body = json!({"url": partner.url("/failing"), "hooks": ["page.saved"], "schedule": schedule});
    let failing = listener(&api, body).await;
    publish_all(&api, "page.saved", 0..5).await;
    partner.wait_for(10, |_| true, SOON).await;

    let ballast = disk.fill();
    let under_way = (partner.under_way("/slow"), partner.under_way("/failing"));
    assert_eq!(under_way, (5, 5), "the attempts ended before the disk was full: nothing is tested");
    // The last page of the log may have had room for one or two more.
    let mut acknowledged: Vec<u64> = (0..5).collect();
    let mut n = 100;
    let refusal = loop {
        let reply = publish(&api, "page.saved", n).await;
        if reply.status != 202 {
            break reply;
        }
        acknowledged.push(n);
        n += 1;
        assert!(n < 1_000, "the disk is full, and publishes are still acknowledged");
    };
    println!("{} publishes were acknowledged after the disk was full", n - 100);
    assert_refused(&refusal, "store_full");
    assert!(refusal["remedy"].as_str().is_some_and(|text| text.contains("space")), "{}", refusal.text());
    // What is too little for an event may be enough for the few bytes that `/readyz` writes; it uses that up.
    let ready = eventually(SOON, || async { readiness(&server).await.filter(|reply| reply.status == 503) }).await;
    assert!(ready.text().contains("full"), "it does not say why it is not ready: {}", ready.text());
    for n in 2_000..2_020 {
        assert_refused(&publish(&api, "page.saved", n).await, "store_full");
    }
    api.get("/healthz").await.expect_status(200);
    // What the ten attempts came to is known and cannot be written; tried again and again.
    logged(&server, "writing results of deliveries failed", 3).await;
    assert_eq!(partner.under_way("/slow"), 0);
    let while_full = partner.total();

    ballast.remove();
    // By itself: nothing is restarted.
    eventually(SOON, || async { (publish(&api, "page.saved", 3_000).await.status == 202).then_some(()) }).await;
    acknowledged.push(3_000);
    publish_all(&api, "page.saved", 3_001..3_010).await;
    acknowledged.extend(3_001..3_010);
    drained(&server, LATER).await;
    println!("{while_full} requests until there was room again, {} in all", partner.total());

    // Nothing is lost, nobody hears of what was refused, and a result that waited is no reason for another attempt.
    assert_each_once(&partner.received_on("/slow"), acknowledged.iter().copied());
    let tries = counts(&partner.received_on("/failing"));
    assert!(tries.values().all(|tries| *tries == 3), "two refusals and a success each, not {tries:?}");
    assert_eq!(tries.len(), acknowledged.len(), "{tries:?}");
    for listener in [slow, failing] {
        assert_eq!(listed(&api, &listener, "delivered").await, acknowledged.len());
    }
    assert_eq!(readiness(&server).await.map(|reply| reply.status), Some(200));
}

// covers: C01, C03
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_start_on_a_full_disk_harms_nothing() {
    let partner = Receiver::start();
    partner.respond("/slow", Answer::default().delay(Duration::from_secs(2)));
    let disk = SmallDisk::mount(MEBIBYTES);
    let mut server = local().alone().dir(disk.path()).start().await;
    let api = server.api();
    let key = server.credentials.api_key.clone();
    hook(&api, "page.saved").await;
    listener(&api, json!({"url": partner.url("/slow"), "hooks": ["page.saved"]})).await;
    publish_all(&api, "page.saved", 0..5).await;
    partner.wait_for(5, |_| true, SOON).await;
    let ballast = disk.fill();
    server.kill9().await;

    let refused = local().dir(disk.path()).run_to_exit().await.expect_code(1);
    println!("{}", refused.stderr.trim());
    let said = refused.stderr.to_lowercase();
    assert!(said.contains("full") || said.contains("space"), "it does not say what is wrong: {}", refused.stderr);

    ballast.remove();
    server.restart().await;
    assert_eq!(server.credentials.api_key, key, "the keys were lost");
    drained(&server, LATER).await;
    let counts = counts(&partner.received_on("/slow"));
    assert!(counts.len() == 5 && counts.values().all(|times| *times == 2), "each once before and after: {counts:?}");
}
