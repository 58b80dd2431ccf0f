//! Proofs from the server's own routes, as pusher-js requests them.

use serde_json::{Value, json};
use tidings_model::clock::{Clock, SystemClock};
use tidings_testkit::{Client, PusherApp, Server, token};

use crate::kit::{APPS, configured};

const CHANNELS: [&str; 3] = ["private-a", "private-b", "presence-room"];

fn bearer() -> String {
    let exp = SystemClock::new().wall_ms() / 1_000 + 600;
    let claims = json!({"sub": "ann", "channels": CHANNELS, "info": {"name": "Ann"}, "exp": exp});
    format!("Bearer {}", token(&APPS[0].token_secret(), &claims))
}

/// The options of pusher-js for proofs: the server's routes in the place of the app's own.
fn options(server: &Server) -> Value {
    let route = |path: &str| {
        let endpoint = format!("{}{path}", server.url);
        json!({"endpoint": endpoint, "transport": "ajax", "headers": {"Authorization": bearer()}})
    };
    json!({"channelAuthorization": route("/a/1/pusher/auth"), "userAuthentication": route("/a/1/pusher/user-auth")})
}

async fn joins(client: &Client, app: &PusherApp, options: Value) {
    client.begin(&app.person("nobody").refused(), options).await;
    client.connected().await;
    for channel in ["private-a", "private-b"] {
        client.subscribe(channel).await;
    }
    let there = client.subscribe("presence-room").await;
    assert_eq!(there["me"], json!({"id": "ann", "info": {"name": "Ann"}}), "{there}");
    client.ask_to_join("private-c").await;
    client.expect("private-c", "pusher:subscription_error").await;
}

// covers: U16
#[tokio::test]
async fn pusher_js_joins_and_signs_in_with_a_token_alone() {
    let server = configured("", "").start().await;
    let app = APPS[0].pusher(&server);
    let (node, page) = tokio::join!(Client::node(&server), Client::chromium());
    for client in [&node, &page] {
        // The page is of another origin, so the browser asks before it sends the header.
        joins(client, &app, options(&server)).await;
        client.sign_in().await;
        client.disconnect().await;
    }
}

// covers: U16
#[tokio::test]
async fn many_channels_are_asked_for_with_one_call() {
    let server = configured("", "").start().await;
    let app = APPS[0].pusher(&server);
    let client = Client::node(&server).await;
    let endpoint = format!("{}/pusher/auth?app={}", server.url, app.key);
    let headers = json!({"Authorization": bearer()});
    joins(
        &client,
        &app,
        json!({"batch": true, "authDelay": 100, "authEndpoint": endpoint, "auth": {"headers": headers}}),
    )
    .await;
}
