//! One order: all sessions of a channel receive the same sequence, whoever publishes, and on any shard and door.

use std::time::Duration;

use serde_json::{Value, json};
use tidings_testkit::{Api, Incoming, PusherSession, Stream, eventually};

use crate::kit::{APPS, configured, joined, opened};

const CHANNEL: &str = "order";
const PUBLISHERS: u64 = 8;
const EACH: u64 = 1_250;
const ALL: usize = (PUBLISHERS * EACH) as usize;
const SESSIONS: usize = 20;
const WANDERERS: usize = 6;
/// The timeout of the test, on a busy machine.
const LATER: Duration = Duration::from_secs(180);

// covers: L06, L07, L08
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_events_are_heard_in_one_order_by_all() {
    let top = "[live]\nshards = 4\nsession_queue = \"16MiB\"\n";
    let each = "[apps.channels]\npublic = true\nhistory_size = 20000\nhistory_ttl = \"1h\"\n";
    let server = configured(top, each).start().await;
    let one = APPS[0];
    let app = one.pusher(&server);

    let mut pushers = Vec::new();
    let mut streams = Vec::new();
    for _ in 0..SESSIONS {
        let mut session = app.connect().await;
        session.subscribe(CHANNEL).await;
        pushers.push(tokio::spawn(sequence(session)));
        streams.push(tokio::spawn(stream_sequence(opened(one.stream(&server, CHANNEL, "")).await)));
    }
    let mut wanderers = Vec::new();
    for n in 0..WANDERERS {
        let stream = opened(one.stream(&server, CHANNEL, "")).await;
        let request = one.stream(&server, CHANNEL, "");
        let again = move |id: &str| request.clone().header("last-event-id", id);
        wanderers.push(tokio::spawn(wander(stream, again, 40 + 61 * n)));
    }

    joined(&one.api(&server), CHANNEL, (2 * SESSIONS + WANDERERS) as u64).await;

    let publishers: Vec<_> = (0..PUBLISHERS).map(|p| tokio::spawn(publish(one.api(&server), p))).collect();
    for publisher in publishers {
        publisher.await.unwrap();
    }

    let first = pushers.remove(0).await.unwrap();
    assert_eq!(first.len(), ALL);
    for p in 0..PUBLISHERS {
        let own: Vec<_> = first.iter().filter(|(from, _)| *from == p).map(|(_, n)| *n).collect();
        assert_eq!(own, (0..EACH).collect::<Vec<_>>(), "publisher {p}'s own order");
    }
    for (n, session) in pushers.into_iter().enumerate() {
        assert_same(&format!("session {n}"), &session.await.unwrap(), &first);
    }
    for (n, stream) in streams.into_iter().enumerate() {
        assert_same(&format!("stream {n}"), &stream.await.unwrap(), &first);
    }
    for (n, wanderer) in wanderers.into_iter().enumerate() {
        let (heard, times) = wanderer.await.unwrap();
        assert!(times > 5, "wanderer {n} came back {times} times only");
        assert_same(&format!("wanderer {n}"), &heard, &first);
    }
}

type Sequence = Vec<(u64, u64)>;

#[track_caller]
fn assert_same(who: &str, heard: &Sequence, first: &Sequence) {
    let place = heard.iter().zip(first).position(|(own, other)| own != other);
    assert!(place.is_none() && heard.len() == first.len(), "{who} differs at {place:?}, {} events", heard.len());
}

async fn publish(api: Api, p: u64) {
    for n in 0..EACH {
        let event = json!({"name": "e", "channels": [CHANNEL], "data": {"p": p, "n": n}});
        // Sessions that cannot keep up are protected: a publisher is asked to come back, and nothing was said yet.
        let published = || async {
            let reply = api.post("/v1/events", event.clone()).await;
            (reply.status != 503).then_some(reply)
        };
        eventually(LATER, published).await.expect_status(202);
    }
}

fn pair(data: &Value) -> (u64, u64) {
    (data["p"].as_u64().unwrap(), data["n"].as_u64().unwrap())
}

async fn sequence(mut session: PusherSession) -> Sequence {
    let mut heard = Vec::new();
    while heard.len() < ALL {
        match session.next(LATER).await {
            Incoming::Frame(frame) if frame.event == "e" => heard.push(pair(&frame.data())),
            Incoming::Frame(_) => {}
            other => panic!("after {} events: {other:?}", heard.len()),
        }
    }
    heard
}

/// The events of a stream; asserts that its cursors have no gap.
async fn stream_sequence(mut stream: Stream) -> Sequence {
    let mut heard = Vec::new();
    let mut epoch = None;
    while heard.len() < ALL {
        let event = next(&mut stream, heard.len()).await;
        heard.push(event.0);
        let (own_epoch, offset) = event.1.rsplit_once(':').expect("a cursor");
        assert_eq!(offset.parse::<usize>().unwrap(), heard.len(), "a gap in the offsets");
        assert_eq!(epoch.get_or_insert_with(|| own_epoch.to_owned()), own_epoch);
    }
    heard
}

async fn next(stream: &mut Stream, so_far: usize) -> ((u64, u64), String) {
    loop {
        let event = stream.next(LATER).await.unwrap_or_else(|| panic!("the stream stopped after {so_far} events"));
        match event.name.as_str() {
            "message" => return (pair(&event.json()["data"]), event.id),
            "tidings.open" | "tidings.joined" => {}
            other => panic!("{other} after {so_far} events: {}", event.data),
        }
    }
}

/// Disconnects after every so many events, and reconnects with the last id.
async fn wander(
    mut stream: Stream,
    again: impl Fn(&str) -> tidings_testkit::Request,
    stay: usize,
) -> (Sequence, usize) {
    let (mut heard, mut times) = (Vec::new(), 0);
    while heard.len() < ALL {
        let (event, id) = next(&mut stream, heard.len()).await;
        heard.push(event);
        if heard.len() % stay == 0 && heard.len() < ALL {
            drop(stream);
            stream = again(&id).stream().await.unwrap_or_else(|reply| panic!("not again: {}", reply.text()));
            times += 1;
        }
    }
    (heard, times)
}
