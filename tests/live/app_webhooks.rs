//! Pusher's app webhooks: channel events are sent to URLs, signed as Pusher's libraries expect, each change once.

use std::time::Duration;

use serde_json::{Value, json};
use tidings_testkit::{
    Answer, Cluster, PusherApp, Received, Receiver, Server, ServerBuilder, eventually, verify_with_pushers_libraries,
};

use crate::kit::{APPS, SOON, configured, everywhere};
use crate::nodes::node_of;

/// The names of all webhook events.
const ALL: [&str; 7] = [
    "channel_occupied",
    "channel_vacated",
    "member_added",
    "member_removed",
    "client_event",
    "cache_miss",
    "subscription_count",
];
/// Two apps of the config file, each with a webhook at a path of its own.
const COUNTING: &str = "[apps.channels]\npublic = true\nsubscription_count = true\n\
    [[apps.namespaces]]\nname = \"cached\"\nmatch = [\"cache-\"]\npublic = true\ncache_ttl = \"1h\"\n";

fn webhook(url: &str, events: &[&str], more: &str) -> String {
    format!("[[apps.webhooks]]\nurl = {url:?}\nevents = {events:?}\n{more}\n")
}

/// A server whose apps send all webhook events to `/told`, and which waits only a second for sessions to rejoin.
fn telling(receiver: &Receiver, top: &str) -> ServerBuilder {
    let each = format!("{COUNTING}{}", webhook(&receiver.url("/told"), &ALL, ""));
    configured(&format!("[live]\nrejoin_within = \"1s\"\n{top}"), &each)
}

/// The events of webhooks, in the order of arrival, without `subscription_count`.
fn events(received: &[Received]) -> Vec<Value> {
    let all = received.iter().flat_map(|request| request.json()["events"].as_array().unwrap().clone());
    all.filter(|event| event["name"] != "subscription_count").collect()
}

/// An event as a short text: its name, channel and user.
fn line(event: &Value) -> String {
    let words = ["name", "channel", "user_id"].map(|field| event[field].as_str().unwrap_or_default());
    words.join(" ").trim_end().to_owned()
}

/// The events on a path, as short texts.
fn lines(receiver: &Receiver, path: &str) -> Vec<String> {
    events(&receiver.received_on(path)).iter().map(line).collect()
}

/// Waits until exactly these events have come on a path.
async fn told(receiver: &Receiver, path: &str, expected: &[&str]) {
    let mut expected: Vec<_> = expected.iter().map(|line| (*line).to_owned()).collect();
    expected.sort();
    let enough = eventually(SOON, || async { (lines(receiver, path).len() >= expected.len()).then_some(()) });
    let came = tokio::time::timeout(SOON / 2, enough).await;
    let mut lines = lines(receiver, path);
    lines.sort();
    assert_eq!(lines, expected, "{came:?}");
}

/// Waits until the results of all deliveries are written. Those that are not when a node dies are sent again by another
/// node, when their leases have run out.
async fn nothing_under_way(server: &Server) {
    eventually(SOON, || async {
        let pending = APPS[0].api(server).get("/v1/deliveries?state=pending").await.expect_status(200);
        pending["data"].as_array().unwrap().is_empty().then_some(())
    })
    .await;
}

/// Waits until all earlier changes have been sent, by occupying and vacating a marker channel.
async fn all_told(app: &PusherApp, receiver: &Receiver, marker: &str) {
    let mut last = app.connect().await;
    last.subscribe(marker).await;
    last.close().await;
    let gone = format!("channel_vacated {marker}");
    eventually(SOON, || async { lines(receiver, "/told").contains(&gone).then_some(()) }).await;
}

/// The events of all channels except the marker.
fn but(receiver: &Receiver, marker: &str) -> Vec<String> {
    lines(receiver, "/told").into_iter().filter(|line| !line.ends_with(marker)).collect()
}

// covers: H01, H02, G301
#[tokio::test]
async fn every_event_is_told_as_pushers_libraries_expect_it() {
    let receiver = Receiver::start();
    let server = telling(&receiver, "").start().await;
    let app = APPS[0].pusher(&server);
    let mut ann = app.connect().await;
    ann.subscribe_as("presence-room", "ann", json!({})).await;
    ann.subscribe("cache-news").await;
    ann.subscribe("open").await;
    ann.send(json!({"event": "client-typing", "channel": "presence-room", "data": {"at": "start"}})).await;
    ann.settle().await;
    let socket = ann.socket_id.clone();
    ann.close().await;
    let of = |received: &[Received], name: &str| {
        received.iter().filter(|request| request.json()["events"][0]["name"] == name).count()
    };
    let enough = |all: &[Received]| of(all, "channel_vacated") == 3 && of(all, "member_removed") == 1;
    let received = eventually(SOON, || async { Some(receiver.received_on("/told")).filter(|all| enough(all)) }).await;

    let read = verify_with_pushers_libraries(&received, &app);
    let mut read: Vec<Value> = read.into_iter().filter(|event| event["name"] != "subscription_count").collect();
    read.sort_by_key(line);
    let channel = |name: &str, channel: &str| json!({"name": name, "channel": channel});
    let member = |name: &str| json!({"name": name, "channel": "presence-room", "user_id": "ann"});
    let expected = [
        channel("cache_miss", "cache-news"),
        channel("channel_occupied", "cache-news"),
        channel("channel_occupied", "open"),
        channel("channel_occupied", "presence-room"),
        channel("channel_vacated", "cache-news"),
        channel("channel_vacated", "open"),
        channel("channel_vacated", "presence-room"),
        json!({"name": "client_event", "channel": "presence-room", "event": "client-typing",
               "data": "{\"at\":\"start\"}", "socket_id": socket, "user_id": "ann"}),
        member("member_added"),
        member("member_removed"),
    ];
    assert_eq!(read, expected);
    let counts: Vec<_> = received
        .iter()
        .flat_map(|request| request.json()["events"].as_array().unwrap().clone())
        .filter(|event| event["name"] == "subscription_count")
        .collect();
    assert!(
        counts.contains(&json!({"name": "subscription_count", "channel": "open", "subscription_count": 1})),
        "{counts:?}"
    );
    // In each channel's order, however many there are at once.
    let room: Vec<_> = events(&received).iter().filter(|event| event["channel"] == "presence-room").map(line).collect();
    let in_order = ["channel_occupied", "member_added", "client_event", "member_removed", "channel_vacated"];
    assert!(room.iter().zip(in_order).all(|(line, name)| line.starts_with(name)), "{room:?}");
}

// covers: H03
#[tokio::test]
async fn a_short_absence_and_a_second_tab_are_no_news() {
    let receiver = Receiver::start();
    let server = telling(&receiver, "").start().await;
    let app = APPS[0].pusher(&server);
    let mut tab = app.connect().await;
    tab.subscribe_as("presence-room", "ann", json!({})).await;
    let mut other = app.connect().await;
    other.subscribe_as("presence-room", "ann", json!({})).await;
    tab.close().await;
    other.close().await;
    // Both are gone; the user comes back before anybody was told.
    let mut back = app.connect().await;
    back.subscribe_as("presence-room", "ann", json!({})).await;
    all_told(&app, &receiver, "marker").await;
    assert_eq!(but(&receiver, "marker"), ["channel_occupied presence-room", "member_added presence-room ann"]);
    // What was taken back is in the log, canceled.
    let canceled = APPS[0].api(&server).get("/v1/deliveries?state=canceled").await.expect_status(200);
    let names: Vec<_> = canceled["data"].as_array().unwrap().iter().map(|row| row["event"]["name"].clone()).collect();
    assert_eq!(names.len(), 2, "{}", canceled.text());
    back.close().await;
    told(
        &receiver,
        "/told",
        &[
            "channel_occupied marker",
            "channel_occupied presence-room",
            "channel_vacated marker",
            "channel_vacated presence-room",
            "member_added presence-room ann",
            "member_removed presence-room ann",
        ],
    )
    .await;
}

// covers: H04
#[tokio::test]
async fn after_kill_9_who_is_not_back_is_told_to_be_gone_once() {
    let receiver = Receiver::start();
    let mut server = telling(&receiver, "").start().await;
    let app = APPS[0].pusher(&server);
    let mut ann = app.connect().await;
    ann.subscribe_as("presence-room", "ann", json!({})).await;
    let mut bob = app.connect().await;
    bob.subscribe("stays").await;
    bob.subscribe("goes").await;
    let there = [
        "channel_occupied goes",
        "channel_occupied presence-room",
        "channel_occupied stays",
        "member_added presence-room ann",
    ];
    told(&receiver, "/told", &there).await;
    nothing_under_way(&server).await;
    server.kill9().await;
    server.restart().await;
    let mut bob = APPS[0].pusher(&server).connect().await;
    bob.subscribe("stays").await;
    let gone = ["channel_vacated goes", "channel_vacated presence-room", "member_removed presence-room ann"];
    told(&receiver, "/told", &[&there[..], &gone[..]].concat()).await;
    // Nor does another start tell it again.
    nothing_under_way(&server).await;
    server.kill9().await;
    server.restart().await;
    let gone_too = ["channel_vacated stays"];
    told(&receiver, "/told", &[&there[..], &gone[..], &gone_too[..]].concat()).await;
    verify_with_pushers_libraries(&receiver.received_on("/told"), &APPS[0].pusher(&server));
}

// covers: H05
#[tokio::test]
async fn of_two_nodes_one_tells_each_coming_and_going() {
    let receiver = Receiver::start();
    let cluster = Cluster::new().await;
    let top = format!("[live]\nrejoin_within = \"1s\"\n{}", cluster.lines());
    let each = format!("{COUNTING}{}", webhook(&receiver.url("/told"), &ALL, ""));
    let (mut first, second) = (node_of(&top, &each).await, node_of(&top, &each).await);
    let (one, two) = (APPS[0].pusher(&first), APPS[0].pusher(&second));
    let mut ann = one.connect().await;
    ann.subscribe_as("presence-room", "ann", json!({})).await;
    let mut ann_there = two.connect().await;
    ann_there.subscribe_as("presence-room", "ann", json!({})).await;
    let mut bob = one.connect().await;
    bob.subscribe("only-here").await;
    let mut both =
        ["channel_occupied only-here", "channel_occupied presence-room", "member_added presence-room ann"].to_vec();
    told(&receiver, "/told", &both).await;
    // From one node to the other within the window: nobody hears of it.
    ann_there.close().await;
    let mut ann_there = two.connect().await;
    ann_there.subscribe_as("presence-room", "ann", json!({})).await;
    nothing_under_way(&second).await;
    first.kill9().await;
    // What only the dead node had is gone; what the other has stays.
    both.push("channel_vacated only-here");
    told(&receiver, "/told", &both).await;
    ann_there.close().await;
    both.extend(["channel_vacated presence-room", "member_removed presence-room ann"]);
    told(&receiver, "/told", &both).await;
    verify_with_pushers_libraries(&receiver.received_on("/told"), &two);
}

// covers: H06
#[tokio::test]
async fn webhooks_are_chosen_by_event_and_channel_and_tried_again() {
    let receiver = Receiver::start();
    receiver.respond_sequence("/fails", vec![Answer::status(500), Answer::status(200)]);
    let each = [
        COUNTING.to_owned(),
        webhook(
            &receiver.url("/rooms"),
            &ALL,
            "filter = { channel_name_starts_with = \"presence-\", channel_name_ends_with = \"-room\" }",
        ),
        webhook(&receiver.url("/fails"), &["channel_occupied"], "headers = { x-token = \"hidden-token\" }"),
    ];
    let server = configured("", &each.concat()).start().await;
    let app = APPS[0].pusher(&server);
    let mut ann = app.connect().await;
    ann.subscribe_as("presence-a-room", "ann", json!({})).await;
    ann.subscribe("presence").await;
    ann.subscribe("a-room").await;
    told(&receiver, "/rooms", &["channel_occupied presence-a-room", "member_added presence-a-room ann"]).await;
    let attempts = receiver.wait_for(4, |request| request.path == "/fails", SOON).await;
    assert!(attempts.iter().all(|request| request.header("x-token") == Some("hidden-token")));
    verify_with_pushers_libraries(&attempts, &app);
    // They are deliveries like any other: listed, and played again by hand.
    let api = APPS[0].api(&server);
    let all = eventually(SOON, || async {
        let all = api.get("/v1/deliveries?state=delivered").await.expect_status(200);
        (all["data"].as_array().unwrap().len() == 6).then_some(all)
    })
    .await;
    let id = all["data"][0]["id"].as_str().unwrap().to_owned();
    let before = receiver.total();
    api.post(&format!("/v1/deliveries/{id}/retry"), json!({})).await.expect_status(202);
    eventually(SOON, || async { (receiver.total() > before).then_some(()) }).await;
    // And they are changed with the app alone.
    let listener = all["data"][0]["listener"].as_str().unwrap().to_owned();
    let refused = api.patch(&format!("/v1/listeners/{listener}"), json!({"url": "https://example.com"})).await;
    assert!(refused.expect_status(409).text().contains("[[apps.webhooks]]"));
    api.delete(&format!("/v1/listeners/{listener}")).await.expect_status(409);
}

// covers: H08
#[tokio::test]
async fn what_waits_at_the_same_time_shares_requests() {
    let receiver = Receiver::start();
    receiver.respond("/told", Answer::status(200).delay(Duration::from_millis(300)));
    let each = webhook(&receiver.url("/told"), &["channel_occupied", "channel_vacated"], "batch = 20");
    let server = configured("", &each).start().await;
    let app = APPS[0].pusher(&server);
    let mut session = app.connect().await;
    let channels: Vec<_> = (0..100).map(|n| format!("c{n}")).collect();
    for channel in &channels {
        session.subscribe(channel).await;
    }
    session.close().await;
    let all = eventually(SOON, || async { Some(lines(&receiver, "/told")).filter(|all| all.len() >= 200) }).await;
    assert_eq!(all.len(), 200, "each once");
    for channel in &channels {
        let own: Vec<_> = all.iter().filter(|line| line.ends_with(&format!(" {channel}"))).collect();
        assert_eq!(own, [&format!("channel_occupied {channel}"), &format!("channel_vacated {channel}")]);
    }
    let received = receiver.received_on("/told");
    let carried: Vec<_> = received.iter().map(|request| request.json()["events"].as_array().unwrap().len()).collect();
    assert!(carried.iter().all(|count| *count <= 20) && carried.iter().any(|count| *count > 1), "{carried:?}");
    verify_with_pushers_libraries(&received, &app);
}

// covers: G271
#[tokio::test]
async fn three_hundred_of_one_channel_take_a_few_requests() {
    let receiver = Receiver::start();
    // While the first hangs, the others come to wait.
    receiver.respond_sequence("/told", vec![Answer::hang(), Answer::status(200).delay(Duration::from_millis(100))]);
    let told = webhook(&receiver.url("/told"), &["member_added"], "batch = 100");
    let each = format!("[apps.channels]\nmax_members = 300\n{told}");
    let server = configured("[courier]\ntimeout = \"5m\"\nlease = \"15m\"", &each).start().await;
    let app = APPS[0].pusher(&server);
    let mut sessions = Vec::new();
    for n in 0..300 {
        let mut session = app.connect().await;
        session.subscribe_as("presence-busy", &format!("u{n:03}"), json!({})).await;
        sessions.push(session);
    }
    // It hangs until all of them wait.
    let api = APPS[0].api(&server);
    eventually(SOON * 3, || async {
        let first = api.get("/v1/deliveries?state=pending&limit=250").await.expect_status(200);
        let next = first["next"].as_str()?.to_owned();
        let rest = api.get(&format!("/v1/deliveries?state=pending&limit=250&cursor={next}")).await.expect_status(200);
        let count = |page: &Value| page["data"].as_array().map_or(0, Vec::len);
        (count(&first.json) + count(&rest.json) == 300).then_some(())
    })
    .await;
    receiver.go_down().await;
    receiver.come_back();
    let got = async |count: usize| {
        eventually(SOON * 3, || async { Some(lines(&receiver, "/told")).filter(|all| all.len() >= count) }).await
    };
    // What hung is sent again, first of all.
    let mut all = got(301).await;
    all.dedup();
    let expected: Vec<_> = (0..300).map(|n| format!("member_added presence-busy u{n:03}")).collect();
    assert_eq!(all, expected);
    let received = receiver.received_on("/told");
    let carried: Vec<_> = received.iter().map(|request| request.json()["events"].as_array().unwrap().len()).collect();
    // The one that hung, then a full batch wherever a hundred wait in a row.
    assert!(carried.len() <= 5 && carried.iter().all(|count| *count <= 100), "{carried:?}");
    assert!(carried.iter().filter(|count| **count == 100).count() >= 2, "{carried:?}");
    verify_with_pushers_libraries(&received, &app);
}

// covers: H07
#[tokio::test]
async fn listeners_hear_of_the_same_in_standard_webhooks() {
    let receiver = Receiver::start();
    let server = configured("", COUNTING).start().await;
    let api = APPS[0].api(&server);
    let listener = json!({"url": receiver.url("/in"), "hooks": ["tidings.channel.*"], "match": {"channel": "news"}});
    let made = api.post("/v1/listeners", listener).await.expect_status(201);
    let secret = made.text_at("secret");
    everywhere(&server, &APPS[0].api_key(), &format!("/v1/listeners/{}", made.text_at("id")), 200).await;
    let mut session = APPS[0].pusher(&server).connect().await;
    session.subscribe("news").await;
    session.subscribe("other").await;
    session.close().await;
    let received = receiver.wait_for(3, |_| true, SOON).await;
    tidings_testkit::verify_with_official_clients(&received, &secret);
    let said: Vec<_> = received
        .iter()
        .map(|request| {
            let body = request.json();
            (body["type"].as_str().unwrap().to_owned(), body["data"].clone())
        })
        .collect();
    let count = ("tidings.channel.subscription_count".to_owned(), json!({"channel": "news", "subscription_count": 1}));
    for expected in [
        ("tidings.channel.occupied".to_owned(), json!({"channel": "news"})),
        ("tidings.channel.vacated".to_owned(), json!({"channel": "news"})),
        count,
    ] {
        assert!(said.contains(&expected), "{expected:?} is not in {said:?}");
    }
}

/// Stops a server in order, and starts it again.
async fn stopped_and_started(server: &mut Server) {
    server.terminate().await;
    server.restart().await;
}

// covers: H04
#[tokio::test]
async fn after_an_orderly_restart_who_is_back_was_never_gone() {
    let receiver = Receiver::start();
    let each = format!("{COUNTING}{}", webhook(&receiver.url("/told"), &ALL, ""));
    let mut server = configured("shutdown_grace = \"2s\"\n[live]\nrejoin_within = \"15s\"\n", &each).start().await;
    let mut ann = APPS[0].pusher(&server).connect().await;
    ann.subscribe("stays").await;
    told(&receiver, "/told", &["channel_occupied stays"]).await;
    stopped_and_started(&mut server).await;
    let app = APPS[0].pusher(&server);
    let mut ann = app.connect().await;
    ann.subscribe("stays").await;
    all_told(&app, &receiver, "marker").await;
    assert_eq!(but(&receiver, "marker"), ["channel_occupied stays"]);
    tokio::time::timeout(Duration::from_secs(60), ann.close()).await.unwrap();
}

// covers: G049
#[tokio::test]
async fn who_invents_channels_makes_no_more_webhooks_than_may_be() {
    const MAY: usize = 5;
    const NAMES: usize = 60;
    let receiver = Receiver::start();
    let hook = webhook(&receiver.url("/told"), &["channel_occupied", "channel_vacated"], "");
    let each = format!("[apps.limits]\nchannel_events_per_session = {MAY}\n{hook}");
    let server = configured("[live]\nrejoin_within = \"1s\"", &each).alone().start().await;
    let app = APPS[0].pusher(&server);
    let mut stranger = app.connect().await;
    for n in 0..NAMES {
        stranger.subscribe(&format!("invented-{n}")).await;
    }
    // Others are not held up.
    let mut other = app.connect().await;
    other.subscribe("invented-59").await;
    other.subscribe("honest").await;
    stranger.close().await;
    other.close().await;
    let expected = [2 * MAY, 2];
    let of = |lines: &[String], honest: bool| lines.iter().filter(|line| line.ends_with("honest") == honest).count();
    let enough = |lines: &[String]| [of(lines, false), of(lines, true)] == expected;
    let lines = eventually(SOON, || async { Some(lines(&receiver, "/told")).filter(|lines| enough(lines)) }).await;
    for n in 0..NAMES {
        let times = |event: &str| lines.iter().filter(|line| **line == format!("{event} invented-{n}")).count();
        assert_eq!(times("channel_occupied"), times("channel_vacated"), "invented-{n}: {lines:?}");
    }
    let dropped = crate::kit::metric(&server, "tidings_bus_channel_events_dropped_total").await;
    assert_eq!(dropped, (NAMES - MAY) as f64);
    assert!(server.stderr().contains("channel events dropped"), "{}", server.stderr());
    // All that was to come has come: nothing is left in the queue.
    nothing_under_way(&server).await;
    assert!(enough(&self::lines(&receiver, "/told")));
}
