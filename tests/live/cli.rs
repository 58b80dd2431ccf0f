//! The commands for live channels, as users type them.

use serde_json::json;
use tidings_testkit::{server, tidings};

use crate::kit::{SOON, joined, occupied};

// covers: L14
#[tokio::test]
async fn subscribe_prints_what_publish_says() {
    let server = server().start().await;
    let listening = tidings(&server).args(["subscribe", "news", "private-desk"]).start();
    occupied(&server.pusher(), "private-desk").await;
    let said = tidings(&server)
        .args(["publish", "news", "private-desk", "--event", "headline", "--data", r#"{"title":"It works"}"#])
        .run()
        .await;
    said.expect_code(0);
    for channel in ["news", "private-desk"] {
        let line = listening.wait_for_line(|line| line.contains(channel) && line.contains("headline"), SOON).await;
        assert!(line.contains("headline"), "{line}");
    }
    listening.wait_for_line(|line| line.contains("It works"), SOON).await;
    listening.interrupt().await.expect_code(0);
}

// covers: L14, A03
#[tokio::test]
async fn a_token_of_the_command_line_opens_what_it_names() {
    let server = server().start().await;
    let words = ["token", "--sub", "u1", "--channel", "private-orders", "--expires-in", "1h"];
    let made = tidings(&server).args(words).run().await.expect_code(0).stdout;
    let token = made.split_whitespace().find(|word| word.matches('.').count() == 2).expect("a token").to_owned();
    let api = server.api().without_key();
    let path = |channel: &str| format!("/v1/stream?app={}&channel={channel}&token={token}", server.credentials.key);
    let mut stream = crate::kit::opened(api.get(&path("private-orders"))).await;
    joined(&server.api(), "private-orders", 1).await;
    let event = json!({"name": "e", "channels": ["private-orders"], "data": 1});
    server.api().post("/v1/events", event).await.expect_status(202);
    stream.expect("message", SOON).await;
    crate::kit::opened(api.get(&path("%23u1"))).await;
    for other in ["private-other", "%23u2"] {
        assert_eq!(api.get(&path(other)).stream().await.unwrap_err().status, 403);
    }
}
