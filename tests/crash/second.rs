//! A data folder has one server; an orderly stop repeats nothing; and data of a later version is not touched.

use std::time::Duration;

use serde_json::json;
use tidings_testkit::{Answer, Receiver};

use crate::common::{LATER, SOON, assert_each_once, drained, hook, listener, local, publish_all, readiness};
use crate::holder::query;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_server_is_told_who_has_the_data() {
    let partner = Receiver::start();
    let server = local().alone().start().await;
    let api = server.api();
    hook(&api, "door.opened").await;
    listener(&api, json!({"url": partner.url("/in"), "hooks": ["door.opened"]})).await;
    publish_all(&api, "door.opened", 0..5).await;

    let refused = local().dir(&server.dir).run_to_exit().await.expect_code(1);
    println!("{}", refused.stderr.trim());
    for told in [format!("pid {}", server.pid()), server.url.clone(), "another server".to_owned()] {
        assert!(refused.stderr.contains(&told), "it does not say {told:?}: {}", refused.stderr);
    }
    assert_eq!(readiness(&server).await.map(|reply| reply.status), Some(200));
    publish_all(&api, "door.opened", 5..10).await;
    drained(&server, SOON).await;
    assert_each_once(&partner.received(), 0..10);
}

// covers: C04, C09
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stop_that_is_asked_for_lets_attempts_end_and_repeats_nothing() {
    let partner = Receiver::start();
    partner.respond("/slow", Answer::default().delay(Duration::from_secs(1)));
    partner.respond("/line", Answer::default().delay(Duration::from_millis(300)));
    let mut server = local().start().await;
    let api = server.api();
    hook(&api, "door.closed").await;
    listener(&api, json!({"url": partner.url("/slow"), "hooks": ["door.closed"], "concurrency": 4})).await;
    listener(&api, json!({"url": partner.url("/line"), "hooks": ["door.closed"], "order": "fifo"})).await;
    publish_all(&api, "door.closed", 0..12).await;
    partner.wait_for(4, |request| request.path == "/slow", SOON).await;
    // Four of twelve are under way, and of the line about one; the others wait in memory or in the store.
    server.terminate().await.expect_code(0);
    assert_eq!(partner.under_way("/slow"), 0, "it has ended before its attempts have");
    let before = partner.received_on("/slow").len();
    assert!(before < 12, "nothing was left for after the stop: nothing is tested");

    server.restart().await;
    publish_all(&server.api(), "door.closed", 12..15).await;
    drained(&server, LATER).await;
    assert_each_once(&partner.received_on("/slow"), 0..15);
    let line: Vec<u64> = partner.received_on("/line").iter().map(crate::common::number).collect();
    assert_eq!(line, (0..15).collect::<Vec<_>>(), "the line's order, over a stop");
    println!("{before} of 12 before the stop, the rest after it, none twice");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_database_of_a_later_version_is_refused_and_left_alone() {
    let partner = Receiver::start();
    let mut server = local().alone().start().await;
    hook(&server.api(), "door.locked").await;
    listener(&server.api(), json!({"url": partner.url("/in"), "hooks": ["door.locked"]})).await;
    publish_all(&server.api(), "door.locked", 0..3).await;
    drained(&server, SOON).await;
    server.terminate().await.expect_code(0);
    let database = server.data_dir().join("tidings.db");
    let known: i64 = query(&database, "PRAGMA user_version").parse().unwrap();
    query(&database, "PRAGMA user_version = 9999");
    let before = std::fs::read(&database).unwrap();

    let refused = local().dir(&server.dir).run_to_exit().await.expect_code(1);
    println!("{}", refused.stderr.trim());
    for told in ["later version", "9999", &known.to_string(), "backup"] {
        assert!(refused.stderr.contains(told), "it does not say {told:?}: {}", refused.stderr);
    }
    assert!(std::fs::read(&database).unwrap() == before, "the database was changed by a server that refused it");

    // What was set back works as before.
    query(&database, &format!("PRAGMA user_version = {known}"));
    server.restart().await;
    publish_all(&server.api(), "door.locked", 3..5).await;
    drained(&server, SOON).await;
    assert_each_once(&partner.received(), 0..5);
}
