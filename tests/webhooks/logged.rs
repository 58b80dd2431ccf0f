//! Log lines about deliveries: one per listener and change, with the remedy.

use serde_json::json;
use tidings_testkit::{Answer, Receiver, Server, eventually};

use crate::kit::{SOON, attempted, hook, listener, open, publish};

/// The lines of the log that have all of these.
fn lines(server: &Server, parts: &[&str]) -> usize {
    server.stderr().lines().filter(|line| parts.iter().all(|part| line.contains(part))).count()
}

// covers: G368
#[tokio::test]
async fn a_listener_that_fails_is_in_the_log_once() {
    let receiver = Receiver::start();
    receiver.respond("/fails", Answer::status(500));
    receiver.respond("/busy", Answer::status(429));
    receiver.respond("/gone", Answer::status(410));
    let server = open().alone().start().await;
    let api = server.api();
    for name in ["fails", "busy", "gone"] {
        hook(&api, name).await;
    }
    let make = async |name: &str| {
        let fields =
            json!({"url": receiver.url(&format!("/{name}")), "hooks": [name], "schedule": ["0s", "10ms", "1h"]});
        listener(&api, fields).await.id
    };
    let (fails, busy, gone) = (make("fails").await, make("busy").await, make("gone").await);
    for _ in 0..5 {
        let event = publish(&api, "fails", json!({})).await;
        attempted(&api, &event, 2).await;
    }
    publish(&api, "busy", json!({})).await;
    publish(&api, "gone", json!({})).await;
    let said = |listener: &str, text: &str| lines(&server, &["WARN", listener, text]);
    eventually(SOON, || async {
        let all = said(&busy, "asked for fewer deliveries") == 1
            && said(&gone, "listener disabled because its deliveries failed") == 1;
        all.then_some(())
    })
    .await;
    assert_eq!(said(&fails, "deliveries to a listener are failing"), 1, "{}", server.stderr());
    assert_eq!(lines(&server, &[&fails, "answered 500", "tidings delivery attempts"]), 1, "{}", server.stderr());
    assert_eq!(lines(&server, &[&gone, "gone", "tidings listener update --enabled"]), 1, "{}", server.stderr());
}
