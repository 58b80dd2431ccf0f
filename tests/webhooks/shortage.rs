//! A shortage of sockets on this machine does not count against receivers.

use serde_json::{Value, json};
use std::time::Duration;
use tidings_testkit::{Answer, Receiver};

use crate::kit::{SOON, all, attempts, hook, listener, open, publish, settled};

const RECEIVERS: usize = 60;

// covers: G068
#[tokio::test]
async fn a_want_of_descriptors_is_no_attempt() {
    let receiver = Receiver::start();
    receiver.respond_otherwise(Answer::status(204).delay(Duration::from_millis(700)));
    let server = open().alone().start().await;
    let api = server.api();
    hook(&api, "e").await;
    for number in 0..RECEIVERS {
        listener(&api, json!({"url": receiver.url(&format!("/{number}")), "hooks": ["e"]})).await;
    }
    // Far fewer sockets than there are receivers.
    let maximum = rustix_limit();
    server.limit_open_files(|open| open + 20);
    let event = publish(&api, "e", json!({})).await;
    receiver.wait_for(RECEIVERS, |_| true, SOON).await;
    server.limit_open_files(|_| maximum);
    for delivery in settled(&api, &event).await {
        let attempts = attempts(&api, &delivery).await;
        assert_eq!(delivery["state"], "delivered", "{delivery}");
        assert_eq!(attempts.len(), 1, "{attempts:?}");
    }
    assert_eq!(all(&api, &format!("/v1/deliveries?event={event}")).await.len(), RECEIVERS);
    let postponed = server.metrics().await.lines().any(|line| {
        line.strip_prefix("tidings_courier_attempts_postponed_total ").is_some_and(|count| count.parse() != Ok(0))
    });
    assert!(postponed, "nothing was short, so nothing was shown");
    assert!(
        server.stderr().contains("deliveries postponed: this machine cannot open more connections"),
        "{}",
        server.stderr()
    );
    assert_eq!(receiver.total(), RECEIVERS);
    let failing = all(&api, "/v1/listeners").await;
    assert!(failing.iter().all(|listener| listener["failing_since"] == Value::Null));
}

fn rustix_limit() -> u64 {
    rustix::process::getrlimit(rustix::process::Resource::Nofile).maximum.unwrap_or(1 << 19)
}
