//! Closed sessions leave no memory behind.

use std::net::Ipv4Addr;
use std::sync::Arc;

use serde_json::json;
use tidings_testkit::{PusherApp, Server, eventually};
use tokio::task::JoinSet;

use crate::kit::{APPS, SOON, configured, metric};

const SESSIONS: u32 = 10_000;
/// Sessions at one time; each takes a descriptor here and one in the server.
const AT_ONCE: u32 = 200;
/// Metrics that must be zero when all sessions are gone.
const LEVELS: [&str; 4] =
    ["tidings_live_sessions", "tidings_live_slots", "tidings_live_local_channels", "tidings_live_subscriptions"];
/// How many readings are made; the smallest counts.
const READINGS: usize = 10;
/// In KiB.
const MEBIBYTE: u64 = 1024;

const ROUNDS: u8 = 6;

/// The second round may leave a MiB more than the first. A leak grows with every round, but memory that the allocator
/// keeps does not: so there are more rounds, which together may leave three MiB more.
// covers: L11
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sessions_that_are_gone_leave_no_memory_and_no_counts() {
    // Without huge pages, of which one that is nearly empty would count as 2 MiB.
    let server = configured("max_connections = 10000", "").alone().env("MIMALLOC_ALLOW_THP", "0").start().await;
    let app = Arc::new(APPS[0].pusher(&server));
    let mut left = Vec::new();
    for number in 0..ROUNDS {
        round(&app, number, SESSIONS).await;
        left.push(settled(&server).await);
    }
    println!("KiB after each round of {SESSIONS} sessions: {left:?}");
    assert!(left[1] <= left[0] + MEBIBYTE, "KiB after each round: {left:?}");
    assert!(left[left.len() - 1] <= left[0] + 3 * MEBIBYTE, "KiB after each round: {left:?}");
}

async fn round(app: &Arc<PusherApp>, number: u8, sessions: u32) {
    let mut under_way = JoinSet::new();
    for n in 0..sessions {
        if under_way.len() >= AT_ONCE as usize {
            under_way.join_next().await.unwrap().unwrap();
        }
        let app = Arc::clone(app);
        // Each local address has ports of its own, and a port rests for a minute after its use.
        let from = Ipv4Addr::new(127, 0, 1 + number, 1 + (n / 1_000) as u8);
        under_way.spawn(async move {
            let mut session = app.session().from(from).connect().await;
            session.subscribe(&format!("private-{}", n % 500)).await;
            session.subscribe_as("presence-all", &format!("user-{}", n % 50), json!({})).await;
            match n % 3 {
                0 => session.close().await,
                1 => session.unsubscribe("presence-all").await,
                // Gone without a word.
                _ => drop(session),
            }
        });
    }
    while let Some(done) = under_way.join_next().await {
        done.unwrap();
    }
}

/// Waits until these metrics are zero, and reads the memory: the smallest of several readings.
async fn settled(server: &Server) -> u64 {
    for name in LEVELS {
        eventually(SOON, || async { (metric(server, name).await == 0.0).then_some(()) }).await;
    }
    let mut least = u64::MAX;
    for _ in 0..READINGS {
        // Each reading is apart from the last by a request, which lets the server's threads run.
        metric(server, LEVELS[0]).await;
        least = least.min(server.rss_kib());
    }
    least
}
