//! Channel events, as listeners receive them.

use std::time::Duration;

use tidings_live::ClientEvent;
use tidings_model::app::{App, AppLimits};
use tidings_model::channel::ChannelOptions;
use tidings_model::delivery::DeliveryState::{Canceled, Pending};
use tidings_model::event::Data;
use tidings_model::policy::Namespaces;

use crate::kit::TestNode;

const OCCUPANCY: [&str; 2] = ["tidings.channel.occupied", "tidings.channel.vacated"];
const MEMBERS: [&str; 2] = ["tidings.channel.member_added", "tidings.channel.member_removed"];
/// How long a departure can be reverted.
const WINDOW: Duration = Duration::from_secs(3);

/// The kinds of the channel events, each with the state of its only delivery.
async fn announced(node: &TestNode, count: usize) -> Vec<(String, tidings_model::delivery::DeliveryState)> {
    node.wait_for_events(count).await;
    node.settle().await;
    let announced = node.channel_events().await;
    announced.into_iter().map(|(kind, _, states)| (kind, *states.first().unwrap())).collect()
}

fn kinds(
    expected: &[(&str, tidings_model::delivery::DeliveryState)],
) -> Vec<(String, tidings_model::delivery::DeliveryState)> {
    expected.iter().map(|(kind, state)| ((*kind).to_owned(), *state)).collect()
}

/// An app whose channels all have these options.
fn app_of(options: &ChannelOptions) -> App {
    App { namespaces: Namespaces::new(options, &[]), ..App::new("1", "public", "secret".into()) }
}

#[tokio::test]
async fn a_channel_is_occupied_by_its_first_session_and_vacated_by_its_last() {
    let node = TestNode::start().await;
    node.listen("one", &OCCUPANCY, "{}").await;
    let first = node.join("1", "news", None).await;
    let second = node.join("1", "news", None).await;
    drop(second);
    node.leave(first).await;
    let announced = node.wait_for_events(2).await;
    node.settle().await;
    assert_eq!(node.channel_events().await, announced, "each is announced once");
    let data = r#"{"channel":"news"}"#.to_owned();
    let expected = ["occupied", "vacated"].map(|kind| (kind.to_owned(), data.clone(), vec![Pending]));
    assert_eq!(announced, expected);
    // The departure waits for as long as it can be taken back.
    let rows = node.deliveries_of("1").await;
    let due = |kind: &str| rows.iter().find(|row| row.event_name.ends_with(kind)).and_then(|row| row.due);
    assert_eq!(due("occupied"), Some(node.now()));
    assert_eq!(due("vacated"), Some(node.now() + 3_000));
}

#[tokio::test]
async fn who_is_back_in_time_has_never_left() {
    let node = TestNode::start().await;
    node.listen("one", &OCCUPANCY, "{}").await;
    let mut session = node.join("1", "news", None).await;
    for _ in 0..3 {
        node.leave(session).await;
        node.settle().await;
        node.clock.advance(WINDOW - Duration::from_millis(1));
        session = node.join("1", "news", None).await;
        node.settle().await;
    }
    let expected = [("occupied", Pending), ("vacated", Canceled), ("vacated", Canceled), ("vacated", Canceled)];
    assert_eq!(announced(&node, 4).await, kinds(&expected));
}

#[tokio::test]
async fn who_is_back_later_has_left_and_come() {
    let node = TestNode::start().await;
    node.listen("one", &OCCUPANCY, "{}").await;
    let session = node.join("1", "news", None).await;
    node.leave(session).await;
    node.settle().await;
    node.clock.advance(WINDOW);
    let _session = node.join("1", "news", None).await;
    assert_eq!(announced(&node, 3).await, kinds(&[("occupied", Pending), ("vacated", Pending), ("occupied", Pending)]));
}

#[tokio::test]
async fn a_user_is_added_by_their_first_session_and_removed_by_their_last() {
    let node = TestNode::with(app_of(&ChannelOptions { presence: true, ..ChannelOptions::default() })).await;
    node.listen("one", &MEMBERS, "{}").await;
    let ada = node.join("1", "room", Some("ada")).await;
    let again = node.join("1", "room", Some("ada")).await;
    let bob = node.join("1", "room", Some("bob")).await;
    node.settle().await;
    drop((again, bob));
    node.leave(ada).await;
    let announced = node.wait_for_events(4).await;
    node.settle().await;
    assert_eq!(node.channel_events().await.len(), 4);
    let user = |kind: &str, user: &str| {
        let data = serde_json::json!({"channel": "room", "user_id": user}).to_string();
        announced.iter().position(|(announced, with, _)| announced == kind && *with == data)
    };
    assert_eq!((user("member_added", "ada"), user("member_added", "bob")), (Some(0), Some(1)));
    assert!(user("member_removed", "ada") > Some(1) && user("member_removed", "bob") > Some(1), "{announced:?}");
    // One of them is back in time.
    let _bob = node.join("1", "room", Some("bob")).await;
    node.settle().await;
    let stands = node.channel_events().await;
    for (kind, data, states) in &stands {
        let is_taken_back = kind == "member_removed" && data.contains("bob");
        assert_eq!(states, &[if is_taken_back { Canceled } else { Pending }], "{kind} {data}");
    }
    assert_eq!(stands.len(), 4);
}

#[tokio::test]
async fn counts_and_misses_and_what_clients_publish_are_told_at_once() {
    let options = ChannelOptions {
        public: true,
        subscription_count: true,
        cache_ttl: Some(Duration::from_secs(60)),
        ..ChannelOptions::default()
    };
    let node = TestNode::with(app_of(&options)).await;
    let hooks = ["subscription_count", "cache_miss", "client_event"].map(|kind| format!("tidings.channel.{kind}"));
    node.listen("one", &hooks.each_ref().map(String::as_str), "{}").await;
    let event = ClientEvent {
        channel: "private-room".into(),
        name: "client-waves".to_owned(),
        data: Data::json("1"),
        user: Some("ada".into()),
    };
    let session = node.join_and_publish("1", event).await;
    let announced = node.wait_for_events(3).await;
    node.settle().await;
    assert_eq!(node.channel_events().await.len(), 3);
    let data = |kind: &str| announced.iter().find(|(announced, ..)| announced == kind).map(|(_, data, _)| data.clone());
    let json = |value: serde_json::Value| Some(value.to_string());
    assert_eq!(
        data("subscription_count"),
        json(serde_json::json!({"channel": "private-room", "subscription_count": 1}))
    );
    assert_eq!(data("cache_miss"), json(serde_json::json!({"channel": "private-room"})));
    let session = session.id.to_string();
    let event = serde_json::json!({
        "channel": "private-room", "event": "client-waves", "data": "1", "socket_id": session, "user_id": "ada",
    });
    assert_eq!(data("client_event"), json(event));
    assert!(node.deliveries_of("1").await.iter().all(|row| row.due == Some(node.now())));
}

#[tokio::test]
async fn only_what_a_listener_wants_is_told() {
    let node = TestNode::start().await;
    let unheard = node.join("1", "unheard", None).await;
    node.listen("one", &OCCUPANCY, r#"{"channel": {"starts_with": "room"}}"#).await;
    // What there was before is nothing that has happened; and a departure belongs to an arrival that was announced.
    node.leave(unheard).await;
    let _others = node.join("1", "lobby", None).await;
    let _session = node.join("1", "room.1", None).await;
    assert_eq!(announced(&node, 1).await, kinds(&[("occupied", Pending)]));
    node.bus().delete_listener(&"1".into(), "one").await.unwrap();
    let _session = node.join("1", "room.2", None).await;
    node.settle().await;
    assert_eq!(node.channel_events().await.len(), 1);
}

#[tokio::test]
async fn an_app_causes_so_many_arrivals_and_hears_of_no_departure_but_theirs() {
    let limits = AppLimits { channel_events: 2, ..AppLimits::default() };
    let node = TestNode::with(App { limits, ..App::new("1", "public", "secret".into()) }).await;
    node.listen("one", &OCCUPANCY, "{}").await;
    let mut sessions = Vec::new();
    for n in 0..4 {
        sessions.push(node.join("1", &format!("room.{n}"), None).await);
        node.settle().await;
    }
    for session in sessions {
        node.leave(session).await;
    }
    node.wait_for_events(4).await;
    node.settle().await;
    let announced: Vec<_> = node.channel_events().await.into_iter().map(|(kind, data, _)| (kind, data)).collect();
    let of = |kind: &str, n: u8| (kind.to_owned(), format!(r#"{{"channel":"room.{n}"}}"#));
    assert_eq!(announced, [of("occupied", 0), of("occupied", 1), of("vacated", 0), of("vacated", 1)]);
    assert!(node.node.metrics().contains(r#"tidings_bus_channel_events_dropped_total{limit="app"} 2"#));
}
