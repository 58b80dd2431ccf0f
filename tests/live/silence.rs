//! A silent client is detected in time, and a client that does not read delays no other.

use std::time::Duration;

use serde_json::json;
use tidings_testkit::{Cut, proxy};

use crate::kit::{APPS, SOON, closed, configured, metric, still_serves};

// covers: L09
#[tokio::test]
async fn a_member_whose_line_falls_silent_is_gone_within_the_activity_timeout() {
    let server = configured("[live]\nactivity_timeout = \"2s\"\npong_timeout = \"2s\"\n", "").start().await;
    let app = APPS[0].pusher(&server);
    let line = proxy(server.addr);
    let mut alice = app.connect().await;
    assert_eq!(alice.activity_timeout, 2);
    alice.subscribe_as("presence-room", "alice", json!({})).await;
    let mut bob = app.session().via(line.addr()).connect().await;
    bob.subscribe_as("presence-room", "bob", json!({})).await;
    assert_eq!(alice.expect("pusher_internal:member_added", SOON).await.data()["user_id"], "bob");
    line.go_silent();
    // No end of his connection is told; the server has to find out. Alice answers its pings and stays.
    assert_eq!(alice.expect("pusher_internal:member_removed", SOON).await.data()["user_id"], "bob");
    assert_eq!(line.connections(), 1, "his side of the line is still there");
    alice.settle().await;
}

// covers: L09
#[tokio::test]
async fn a_member_whose_line_is_cut_is_gone_at_once() {
    let server = configured("", "").start().await;
    let app = APPS[0].pusher(&server);
    let mut alice = app.connect().await;
    alice.subscribe_as("presence-room", "alice", json!({})).await;
    for how in [Cut::Fin, Cut::Reset] {
        let line = proxy(server.addr);
        let mut bob = app.session().via(line.addr()).connect().await;
        bob.subscribe_as("presence-room", "bob", json!({})).await;
        alice.expect("pusher_internal:member_added", SOON).await;
        line.cut(how);
        assert_eq!(alice.expect("pusher_internal:member_removed", SOON).await.data()["user_id"], "bob", "{how:?}");
    }
}

// covers: L10
#[tokio::test]
async fn who_does_not_read_is_dropped_and_delays_nobody() {
    const EVENTS: usize = 1_500;
    let server = configured("[live]\nsession_queue = \"64KiB\"\nsend_buffer = \"16KiB\"\n", "").start().await;
    let app = APPS[0].pusher(&server);
    let (mut slow, mut quick) = (app.connect().await, app.connect().await);
    slow.subscribe("much").await;
    quick.subscribe("much").await;
    let stalled = APPS[0].stream(&server, "much", "").stream().await.unwrap();
    let text = "x".repeat(8 * 1024);
    let mut told = false;
    for n in 0..EVENTS {
        app.trigger(&["much"], "e", &json!({"n": n, "text": text}).to_string()).await.expect_status(200);
        let frame = quick.expect_on("e", "much", SOON).await;
        assert_eq!(frame.data()["n"], n);
        // Both have been dropped, the session and the stream. Whoever reads on soon after finds what was on the way,
        // and then the code that lets pusher-js come back later.
        if !told && n % 10 == 0 && metric(&server, "tidings_live_slow_total").await > 1.0 {
            assert_eq!(closed(&mut slow).await, 4100);
            told = true;
        }
    }
    assert!(told, "who does not read was not dropped");
    ends(stalled).await;
    still_serves(&app).await;
}

async fn ends(mut stream: tidings_testkit::Stream) {
    while stream.next(SOON).await.is_some() {}
    assert!(stream.has_ended(), "a stream that was not read is still open");
}

/// A slow connection is not silence: a client that receives everything late stays connected.
// covers: L10
#[tokio::test]
async fn a_slow_line_is_served_as_fast_as_it_goes() {
    let server = configured("", "").start().await;
    let app = APPS[0].pusher(&server);
    let line = proxy(server.addr);
    line.delay(tidings_testkit::Toward::Client, Duration::from_millis(50));
    let mut bob = app.session().via(line.addr()).connect().await;
    bob.subscribe("news").await;
    for n in 0..50 {
        app.trigger(&["news"], "e", &json!({"n": n}).to_string()).await.expect_status(200);
    }
    for n in 0..50 {
        assert_eq!(bob.expect("e", SOON).await.data()["n"], n);
    }
}
