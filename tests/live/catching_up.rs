//! pusher-js fetches missed messages with the code in docs/pusher.md; and `replay` sends the last events to every new
//! subscriber.

use serde_json::{Value, json};
use tidings_testkit::{Client, PusherApp, proxy};

use crate::kit::{APPS, configured};

const HISTORY: &str = "[[apps.namespaces]]\nname = \"kept\"\nmatch = [\"private-kept-\"]\nhistory_size = 5\n\
    [[apps.namespaces]]\nname = \"last\"\nmatch = [\"last-\"]\nhistory_size = 5\nreplay = 2\n";

/// The block of the documentation that begins with this line.
fn documented(first: &str) -> String {
    let docs = include_str!("../../docs/pusher.md");
    let from = docs.find(first).unwrap_or_else(|| panic!("docs/pusher.md has no {first:?}"));
    docs[from..].split("\n```").next().unwrap_or_default().to_owned()
}

async fn say(app: &PusherApp, channel: &str, numbers: std::ops::RangeInclusive<u32>) {
    for n in numbers {
        app.trigger(&[channel], "e", &json!({"n": n}).to_string()).await.expect_status(200);
    }
}

async fn expect(client: &Client, channel: &str, numbers: std::ops::RangeInclusive<u32>) {
    for n in numbers {
        assert_eq!(client.expect(channel, "e").await["data"]["n"], n);
    }
}

// covers: U17
#[tokio::test]
async fn pusher_js_with_the_recipe_misses_nothing() {
    let server = configured("", HISTORY).start().await;
    let app = APPS[0].pusher(&server);
    let recipe = format!("{}\ncatchUp(pusher);", documented("function catchUp(pusher)"));
    let channel = "private-kept-a";
    let chaos = proxy(server.addr);
    let (node, page) = tokio::join!(Client::node(&server), Client::chromium());
    let through = PusherApp { url: format!("http://{}", chaos.addr()), ..app.clone() };
    for client in [&node, &page] {
        client.begin_with(&through.person("ann"), json!({}), Some(&recipe)).await;
        client.connected().await;
        client.subscribe(channel).await;
    }
    say(&app, channel, 1..=2).await;
    for client in [&node, &page] {
        expect(client, channel, 1..=2).await;
    }
    // The line is cut, and something is said before anybody is back.
    chaos.go_down().await;
    for client in [&node, &page] {
        client.expect_state("connecting").await;
    }
    say(&app, channel, 3..=5).await;
    chaos.come_back();
    for client in [&node, &page] {
        expect(client, channel, 3..=5).await;
        assert_eq!(client.heard(channel, "e"), Vec::<Value>::new(), "nothing is told twice");
        assert_eq!(client.heard(channel, "tidings.lost"), Vec::<Value>::new());
    }
    say(&app, channel, 6..=6).await;
    expect(&node, channel, 6..=6).await;
    // More than is kept: that is said, and what comes next is heard.
    expect(&page, channel, 6..=6).await;
    chaos.go_down().await;
    node.expect_state("connecting").await;
    say(&app, channel, 7..=20).await;
    chaos.come_back();
    node.expect(channel, "tidings.lost").await;
    say(&app, channel, 21..=21).await;
    expect(&node, channel, 21..=21).await;
}

// covers: U17
#[tokio::test]
async fn a_channel_gives_its_last_events_to_every_newcomer() {
    let server = configured("", HISTORY).start().await;
    let app = APPS[0].pusher(&server);
    say(&app, "last-a", 1..=4).await;
    let client = Client::node(&server).await;
    client.connect(&app.person("ann")).await;
    client.subscribe("last-a").await;
    expect(&client, "last-a", 3..=4).await;
    say(&app, "last-a", 5..=5).await;
    expect(&client, "last-a", 5..=5).await;
}
