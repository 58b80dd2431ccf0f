//! Another process locks the database: publishes are refused, nothing is lost, and everything goes on when the lock is
//! released.

use std::time::Duration;

use serde_json::json;
use tidings_testkit::{Answer, Receiver};
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::common::{
    LATER, SOON, assert_each_once, assert_refused, drained, hook, listed, listener, local, logged, publish,
    publish_all, readiness,
};
use crate::holder::Holder;

// covers: C03, C04
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_that_another_process_holds_costs_patience_only() {
    let partner = Receiver::start();
    // Long enough for the database to be taken while attempts are under way.
    partner.respond("/slow", Answer::default().delay(Duration::from_secs(3)));
    let server = local().alone().start().await;
    let api = server.api();
    hook(&api, "stock.moved").await;
    let slow = listener(&api, json!({"url": partner.url("/slow"), "hooks": ["stock.moved"]})).await;
    publish_all(&api, "stock.moved", 0..10).await;
    partner.wait_for(10, |_| true, SOON).await;

    let holder = Holder::take(&server.data_dir().join("tidings.db"));
    assert_eq!(partner.under_way("/slow"), 10, "the attempts ended before the database was taken: nothing is tested");
    let began = Instant::now();
    let mut waiting = JoinSet::new();
    for n in 100..130 {
        let api = api.clone();
        waiting.spawn(async move { publish(&api, "stock.moved", n).await });
    }
    for reply in waiting.join_all().await {
        assert_refused(&reply, "store_locked");
    }
    let answered = began.elapsed();
    println!("30 publishes that waited were refused after {answered:?}");
    assert!(answered < Duration::from_secs(10), "waiting publishers were told only after {answered:?}");
    let ready = readiness(&server).await.expect("it has to answer while it cannot write");
    assert_eq!(ready.status, 503, "{}", ready.text());
    api.get("/healthz").await.expect_status(200);
    // Reading goes on.
    assert_eq!(listed(&api, &slow, "pending").await, 10, "results can not have been written");
    // The results of the ten are there and cannot be written; tried more than once.
    logged(&server, "writing results of deliveries failed", 2).await;
    assert_eq!(partner.under_way("/slow"), 0);

    holder.release();
    drained(&server, LATER).await;
    assert_eq!(listed(&api, &slow, "delivered").await, 10);
    publish_all(&api, "stock.moved", 200..210).await;
    drained(&server, LATER).await;
    // Nothing was lost; nobody heard of what was refused; and what had its result kept was not made again.
    assert_each_once(&partner.received(), (0..10).chain(200..210));
    assert_eq!(readiness(&server).await.map(|reply| reply.status), Some(200));
}
