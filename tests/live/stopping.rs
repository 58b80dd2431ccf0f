//! An orderly stop: clients are asked to reconnect, and reconnect after the next start.

use serde_json::json;
use tidings_testkit::{Client, proxy, server};

use crate::kit::{SOON, opened};

// covers: L12, G086
#[tokio::test]
async fn who_is_told_to_come_back_comes_back_after_a_restart() {
    let mut server = server().start().await;
    let line = proxy(server.addr);
    let mut app = server.pusher();
    let mut light = app.connect().await;
    light.subscribe("news").await;
    let api = server.api();
    let mut stream = opened(api.get("/v1/stream?channels=news")).await;
    // The real clients know an address that stays the same.
    app.url = format!("http://{}", line.addr());
    let (alice, bob, old) = tokio::join!(Client::node(&server), Client::chromium(), Client::pysher());
    // It goes by `pusher:error`, and joins its channels again only where its page does.
    old.connect(&app.person("x")).await;
    old.ask_to_join("news").await;
    old.expect("news", "pusher_internal:subscription_succeeded").await;
    for client in [&alice, &bob] {
        client.connect(&app.person("x")).await;
        client.subscribe("private-news").await;
    }
    let (exit, close) = tokio::join!(server.terminate(), light.expect_close(SOON));
    // Where nobody takes over, clients are told to come back in a moment. The last of several nodes may find itself
    // alone.
    assert!(close.0 == 4100 || close.0 == 4200 && server.each_node().count() > 1, "{} {}", close.0, close.1);
    exit.expect_code(0);
    stream.expect("tidings.close", SOON).await;
    assert_eq!(stream.next(SOON).await, None);
    assert!(stream.has_ended());

    server.restart().await;
    line.retarget(server.addr);
    for client in [&alice, &bob] {
        client.connected().await;
        // They join their channels again by themselves.
        client.expect("private-news", "pusher:subscription_succeeded").await;
    }
    old.connected().await;
    old.ask_to_join("news").await;
    old.expect("news", "pusher_internal:subscription_succeeded").await;
    server.pusher().trigger(&["private-news", "news"], "e", &json!({"n": 1}).to_string()).await.expect_status(200);
    assert_eq!(old.expect("news", "e").await["data"]["n"], 1);
    for client in [&alice, &bob] {
        assert_eq!(client.expect("private-news", "e").await["data"]["n"], 1);
    }
}
