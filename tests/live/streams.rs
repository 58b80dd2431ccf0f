//! Event streams: reconnecting without a gap, or with a message that there is one.

use serde_json::{Value, json};
use tidings_testkit::{Client, Cut, Receiver, Stream, eventually, proxy};

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
    let line = proxy(server.addr);
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
        line.cut(Cut::Reset);
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

// covers: G241, G251
#[tokio::test]
async fn every_library_gets_each_event_before_the_next_one_and_nothing_else() {
    let kept = "[[apps.namespaces]]\nname = \"kept\"\npublic = true\nhistory_size = 10\nhistory_ttl = \"1h\"\n";
    let server = configured("", kept).start().await;
    let one = APPS[0];
    let api = one.api(&server);
    let (page, node, python) = tokio::join!(Client::chromium(), Client::node_readers(), Client::python_readers());
    let readers = [
        (&page, "EventSource"),
        (&node, "eventsource 2"),
        (&node, "eventsource 3"),
        (&node, "eventsource 4"),
        (&node, "fetch-event-source"),
        (&python, "sseclient-py"),
        (&python, "requests"),
        (&python, "requests-sse"),
        (&python, "httpx-sse"),
        (&python, "aiohttp-sse-client"),
    ];
    // One channel's events are written by all sessions' shard as they are, the other's by each session with its id.
    let url = format!("{}/v1/stream?app={}&channels=kept:news,plain", server.url, one.key());
    for (client, library) in readers {
        client.open_stream_with(library, library, &url, &["tidings.open", "tidings.joined"]).await;
        client.expect_streamed(library, "tidings.joined").await;
    }
    for n in 1..=6 {
        let channel = if n % 2 == 0 { "kept:news" } else { "plain" };
        say(&api, &[channel], n).await;
        for (client, library) in readers {
            let told = client.expect_streamed(library, "message").await;
            let message: Value = serde_json::from_str(told["data"].as_str().unwrap()).unwrap();
            assert_eq!(
                (&message["data"], &message["channel"]),
                (&json!({"n": n}), &json!(channel)),
                "{library}: {told}"
            );
        }
    }
    for (client, library) in readers {
        let rest: Vec<Value> =
            client.streamed(library).into_iter().filter(|told| told["type"] != "tidings.open").collect();
        assert!(rest.is_empty(), "{library} was told more: {rest:?}");
    }
}

// covers: G293
#[tokio::test]
async fn an_orderly_restart_loses_nothing_and_a_crash_says_what_it_lost() {
    let mut server = configured("", HISTORY).alone().start().await;
    let one = APPS[0];
    let mut stream = opened(one.stream(&server, "news", "")).await;
    joined(&one.api(&server), "news", 1).await;
    say(&one.api(&server), &["news"], 1).await;
    let (_, id) = number(&mut stream).await;
    say(&one.api(&server), &["news"], 2).await;
    number(&mut stream).await;
    drop(stream);
    server.terminate().await;
    assert!(server.data_dir().join("histories").exists(), "nothing was written");
    server.restart().await;
    assert!(!server.data_dir().join("histories").exists(), "it can be taken twice");
    say(&one.api(&server), &["news"], 3).await;
    let mut stream = opened(one.stream(&server, "news", "").header("last-event-id", &id)).await;
    for n in 2..=3 {
        assert_eq!(stream.next(SOON).await.unwrap().json()["data"]["n"], n);
    }
    let (_, id) = {
        say(&one.api(&server), &["news"], 4).await;
        number(&mut stream).await
    };
    server.kill9().await;
    server.restart().await;
    say(&one.api(&server), &["news"], 5).await;
    let mut stream = opened(one.stream(&server, "news", "").header("last-event-id", &id)).await;
    assert_eq!(stream.next(SOON).await.unwrap().name, "tidings.lost");
    assert_eq!(stream.next(SOON).await.unwrap().json()["data"]["n"], 5);
    say(&one.api(&server), &["news"], 6).await;
    assert_eq!(number(&mut stream).await.0, 6);
}

// covers: G089
#[tokio::test]
async fn readers_come_back_by_themselves_after_a_restart_and_miss_nothing() {
    let mut server = configured("", HISTORY).alone().start().await;
    let one = APPS[0];
    let (page, node) = tokio::join!(Client::chromium(), Client::node_readers());
    let readers =
        [(&page, "EventSource"), (&node, "eventsource 2"), (&node, "eventsource 3"), (&node, "eventsource 4")];
    // The next start listens on another port.
    let address = proxy(server.addr);
    let url = format!("http://{}/v1/stream?app={}&channels=news", address.addr(), one.key());
    for (client, library) in readers {
        client.open_stream_with(library, library, &url, &["tidings.open", "tidings.joined", "tidings.close"]).await;
        client.expect_streamed(library, "tidings.joined").await;
    }
    let mut n = 0;
    for _ in 0..2 {
        n += 1;
        say(&one.api(&server), &["news"], n).await;
        for (client, library) in readers {
            assert_said(client, library, n).await;
        }
        server.terminate().await;
        for (client, library) in readers {
            let told = client.expect_streamed(library, "tidings.close").await;
            assert_eq!(told["data"], r#"{"reason":"going_away"}"#, "{library}");
        }
        let begun = tokio::time::Instant::now();
        server.restart().await;
        address.retarget(server.addr);
        n += 1;
        say(&one.api(&server), &["news"], n).await;
        let started = begun.elapsed();
        for (client, library) in readers {
            client.expect_streamed(library, "tidings.joined").await;
            println!("{library} is back {:?} after the end; the start took {started:?}", begun.elapsed());
            assert_said(client, library, n).await;
        }
    }
}

async fn assert_said(client: &Client, library: &str, n: u64) {
    let told = client.expect_streamed(library, "message").await;
    let message: Value = serde_json::from_str(told["data"].as_str().unwrap()).unwrap();
    assert_eq!(message["data"], json!({"n": n}), "{library}: {told}");
}

// covers: G216
#[tokio::test]
async fn a_library_that_opens_a_stream_anew_goes_on_where_it_was() {
    let server = configured("", HISTORY).start().await;
    let one = APPS[0];
    let (api, library) = (one.api(&server), "reconnecting-eventsource");
    let address = proxy(server.addr);
    let reader = Client::node_readers().await;
    let url = format!("http://{}/v1/stream?app={}&channels=news", address.addr(), one.key());
    reader.open_stream_with(library, library, &url, &["tidings.joined"]).await;
    reader.expect_streamed(library, "tidings.joined").await;
    say(&api, &["news"], 1).await;
    assert_said(&reader, library, 1).await;
    // What answers in the server's place is no stream, and EventSource gives up.
    let other = Receiver::start();
    address.retarget(other.addr());
    address.cut(Cut::Reset);
    say(&api, &["news"], 2).await;
    eventually(SOON, || async { (!other.received().is_empty()).then_some(()) }).await;
    address.retarget(server.addr);
    // Connections that were kept would go on leading elsewhere.
    address.cut(Cut::Reset);
    // The library's own name for the id is in its URL now.
    assert_said(&reader, library, 2).await;
}
