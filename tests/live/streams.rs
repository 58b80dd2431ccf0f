//! Event streams: coming back without a gap, and being told where there is one.

use serde_json::json;
use tidings_testkit::{Client, Stream};

use crate::kit::{APPS, SOON, configured, joined, opened, say};

const HISTORY: &str = "[apps.channels]\npublic = true\nhistory_size = 10\nhistory_ttl = \"1h\"\n";

async fn number(stream: &mut Stream) -> (u64, String) {
    let event = stream.expect("message", SOON).await;
    (event.json()["data"]["n"].as_u64().unwrap(), event.id)
}

// covers: L08, L13
#[tokio::test]
async fn who_comes_back_gets_what_was_missed_or_is_told_that_it_is_gone() {
    let server = configured("", HISTORY).start().await;
    let one = APPS[0];
    let api = one.api(&server);
    let mut stream = opened(one.stream(&server, "news", "")).await;
    joined(&api, "news", 1).await;
    say(&api, &["news"], 1).await;
    let (n, id) = number(&mut stream).await;
    assert_eq!(n, 1);
    drop(stream);
    for n in 2..=6 {
        say(&api, &["news"], n).await;
    }
    let mut stream = opened(one.stream(&server, "news", "").header("last-event-id", &id)).await;
    for n in 2..=6 {
        assert_eq!(number(&mut stream).await.0, n);
    }
    // The same as a parameter, for clients that cannot set a header.
    let more = format!("&last_event_id={}", crate::kit::escaped(&id));
    let mut stream = opened(one.stream(&server, "news", &more)).await;
    assert_eq!(number(&mut stream).await.0, 2);

    for n in 7..=30 {
        say(&api, &["news"], n).await;
    }
    let mut stream = opened(one.stream(&server, "news", "").header("last-event-id", &id)).await;
    assert_eq!(stream.next(SOON).await.unwrap().name, "tidings.lost");
    say(&api, &["news"], 31).await;
    assert_eq!(number(&mut stream).await.0, 31, "after what is lost it goes on live");
    // Another life of the channel: nothing is ever mistaken for its continuation.
    let mut stream = opened(one.stream(&server, "news", "").header("last-event-id", "dead:31")).await;
    let lost = stream.next(SOON).await.unwrap();
    assert_eq!((lost.name.as_str(), lost.json()["channel"].as_str()), ("tidings.lost", Some("news")));
    let refused = one.stream(&server, "news", "").header("last-event-id", "nonsense").stream().await.unwrap_err();
    assert!((400..500).contains(&refused.status), "{}", refused.text());
}

// covers: L08, L03
#[tokio::test]
async fn a_browsers_own_reconnect_misses_nothing() {
    let server =
        configured("", "[apps.channels]\npublic = true\nhistory_size = 1000\nhistory_ttl = \"1h\"\n").start().await;
    let one = APPS[0];
    let api = one.api(&server);
    let line = tidings_testkit::proxy(server.addr);
    let (alice, bob) = tokio::join!(Client::node(&server), Client::chromium());
    let url = format!("http://{}/v1/stream?app={}&channels=news", line.addr(), one.key());
    for client in [&alice, &bob] {
        client.open_stream("s", &url, &["tidings.open", "tidings.lost"]).await;
        client.expect_streamed("s", "tidings.open").await;
    }
    let mut n = 0;
    for _ in 0..3 {
        for _ in 0..20 {
            n += 1;
            say(&api, &["news"], n).await;
        }
        // A first event has been read before the line breaks, so that there is an id to come back with.
        for client in [&alice, &bob] {
            assert_streamed(client, n - 19).await;
        }
        line.cut(tidings_testkit::Cut::Reset);
        for client in [&alice, &bob] {
            for expected in n - 18..=n {
                assert_streamed(client, expected).await;
            }
            client.expect_streamed("s", "tidings.open").await;
        }
    }
}

async fn assert_streamed(client: &Client, expected: u64) {
    let told = client.expect_streamed("s", "message").await;
    let message: serde_json::Value = serde_json::from_str(told["data"].as_str().unwrap()).unwrap();
    assert_eq!(message["data"], json!({"n": expected}), "{told}");
}
