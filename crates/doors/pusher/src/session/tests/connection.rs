//! The connection itself: its beginning, keep-alive, invalid messages, and its end.

use std::time::Duration;

use proptest::prelude::*;
use serde_json::{Value, json};
use tidings_broker::Lost;
use tidings_live::{CloseReason, Message, SessionProtocol};
use tidings_model::app::App;
use tidings_model::channel::ChannelKey;

use super::super::Session;
use super::kit::{Client, NOW, SOCKET, app, auth, data, error};

#[test]
fn the_first_frame_names_the_socket_and_a_timeout() {
    let mut client = Client::before(app(), 7);
    client.session.opened(&mut client.tester.context());
    let frames = client.frames();
    assert_eq!(frames.len(), 1);
    assert_eq!(frames[0]["event"], "pusher:connection_established");
    assert_eq!(data(&frames[0]), json!({"socket_id": SOCKET, "activity_timeout": 45}));
}

#[test]
fn a_ping_is_answered_and_a_pong_is_not() {
    let mut client = Client::new();
    assert_eq!(client.say("pusher:ping", json!({})), [json!({"event": "pusher:pong", "data": "{}"})]);
    assert_eq!(client.send(r#"{"event":"pusher:ping"}"#).len(), 1);
    assert!(client.say("pusher:pong", json!({})).is_empty());
    assert!(client.tester.asked().is_empty());
}

#[test]
fn a_client_that_is_silent_is_asked_and_then_let_go() {
    let mut client = Client::new();
    let wake = |client: &mut Client, now: i64| {
        client.tester.now = now;
        client.session.woken(&mut client.tester.context());
        client.frames()
    };
    assert_eq!(client.tester.wake_at(), Some(NOW + 50_625), "an eighth later than it would ask itself");
    client.tester.last_read_at = NOW + 40_000;
    client.tester.last_write_at = NOW + 40_000;
    assert!(wake(&mut client, NOW + 50_625).is_empty(), "it was heard of");
    assert_eq!(client.tester.wake_at(), Some(NOW + 90_625));
    assert_eq!(wake(&mut client, NOW + 90_625), [json!({"event": "pusher:ping", "data": "{}"})]);
    client.tester.last_write_at = NOW + 90_625;
    assert_eq!(client.tester.wake_at(), Some(NOW + 120_625));
    // It answers, in time; then no more.
    client.tester.last_read_at = NOW + 90_700;
    assert!(wake(&mut client, NOW + 120_625).is_empty());
    assert_eq!(client.tester.wake_at(), Some(NOW + 141_250));
    assert_eq!(wake(&mut client, NOW + 141_250).len(), 1);
    assert!(wake(&mut client, NOW + 170_000).is_empty(), "woken early");
    assert_eq!(client.ended(), None);
    assert!(wake(&mut client, NOW + 171_250).is_empty());
    assert_eq!(client.ended().map(|end| end.0), Some(4201));
}

#[test]
fn a_client_that_proves_nothing_in_time_is_let_go_where_its_app_asks_for_that() {
    let handler = || App { authorize_within: Some(Duration::from_secs(30)), ..app() };
    let wake = |client: &mut Client, now: i64| {
        client.tester.now = now;
        client.session.woken(&mut client.tester.context());
        client.ended().map(|end| end.0)
    };
    let mut client = Client::of(handler(), 7);
    assert_eq!(client.tester.wake_at(), Some(NOW + 30_000));
    client.join("public", None);
    assert_eq!(wake(&mut client, NOW + 29_999), None, "woken early");
    assert_eq!(client.tester.wake_at(), Some(NOW + 30_000));
    assert_eq!(wake(&mut client, NOW + 30_000), Some(4009));
    for proof in ["private-a", "presence-a"] {
        let mut client = Client::of(handler(), 7);
        client.join(proof, Some(r#"{"user_id":"u"}"#));
        assert_eq!(wake(&mut client, NOW + 30_000), None, "{proof}");
        assert_eq!(client.tester.wake_at(), Some(NOW + 50_625));
    }
    let mut client = Client::of(handler(), 7);
    let user = auth("1234.1234::user::{\"id\":\"u\"}");
    client.say("pusher:signin", json!({"auth": user, "user_data": "{\"id\":\"u\"}"}));
    assert_eq!(wake(&mut client, NOW + 30_000), None);
}

#[test]
fn a_client_too_old_for_pings_is_asked_by_websocket() {
    let mut client = Client::of(app(), 4);
    client.tester.now = NOW + 50_625;
    client.session.woken(&mut client.tester.context());
    assert_eq!(client.tester.written(), [&b"\x89\x00"[..]]);
}

#[test]
fn who_may_have_missed_comings_and_goings_is_sent_away_to_come_back() {
    let lost = |channel, members| Lost {
        channel: ChannelKey::new("1".into(), channel),
        position: None,
        publications: true,
        members,
    };
    let mut client = Client::new();
    for (channel, members) in [("private-a", true), ("presence-a", false)] {
        client.session.lost(&mut client.tester.context(), &lost(channel, members));
        assert_eq!(client.frames(), [json!({"event": "tidings.lost", "channel": channel, "data": "{}"})]);
        assert_eq!(client.ended(), None);
    }
    client.session.lost(&mut client.tester.context(), &lost("presence-a", true));
    assert_eq!(client.ended().map(|end| end.0), Some(4200));
}

#[test]
fn the_server_ends_a_session_with_a_code_that_says_whether_to_come_back() {
    for (why, code) in [
        (CloseReason::GoingAway, 4200),
        (CloseReason::Restarting, 4100),
        (CloseReason::Slow, 4100),
        (CloseReason::Disconnected, 4009),
    ] {
        let mut client = Client::new();
        client.session.closing(&mut client.tester.context(), why);
        assert!(client.frames().is_empty(), "since version 7 the code says it");
        assert_eq!(client.ended().map(|end| end.0), Some(code), "{why:?}");

        let mut client = Client::of(app(), 6);
        client.session.closing(&mut client.tester.context(), why);
        let message = error(&client.frames(), json!(code));
        assert_eq!(client.ended(), Some((code, message)));
    }
}

#[test]
fn what_is_no_frame_is_answered_and_the_connection_stays() {
    let mut client = Client::new();
    for text in [
        "",
        "{",
        "[]",
        "[\"pusher:ping\"]",
        "1",
        "null",
        "{}",
        r#"{"event":1}"#,
        r#"{"event":"a","event":"b"}"#,
        r#"{"event":"\ud800"}"#,
    ] {
        error(&client.send(text), Value::Null);
    }
    client.session.received(&mut client.tester.context(), Message::Binary(b"{\"event\":\"pusher:ping\"}"));
    assert_eq!(error(&client.frames(), Value::Null), "Binary WebSocket frames are not supported");
    for name in ["subscribe", "pusher:connection_established", "pusher_internal:member_added", "Client-x", ""] {
        let message = error(&client.say(name, json!({})), Value::Null);
        assert_eq!(message, format!("Unsupported event received on socket: {name}"));
    }
    let long = "é".repeat(1_000);
    assert!(error(&client.say(&long, json!({})), Value::Null).len() < 300);
    assert_eq!(client.ended(), None);
}

#[test]
fn a_flood_of_what_is_no_frame_ends_the_session() {
    let mut client = Client::new();
    let sent = (0..1_000).take_while(|_| client.send("no").len() == 1 && client.ended().is_none()).count();
    assert_eq!(sent, 50);
    assert_eq!(client.send("no").len(), 1);
    assert_eq!(client.ended().map(|end| end.0), Some(1002));
    client.tester.now += 10_000;
    client.send("no");
    assert_eq!(client.ended(), None, "in time it is forgiven");
}

#[test]
fn a_session_is_small() {
    assert!(size_of::<Session>() <= 160, "{}", size_of::<Session>());
}

fn piece() -> impl Strategy<Value = String> {
    prop_oneof![
        Just("pusher:subscribe".to_owned()),
        Just("pusher:unsubscribe".to_owned()),
        Just("pusher:signin".to_owned()),
        Just("client-x".to_owned()),
        Just("presence-x".to_owned()),
        Just("#server-to-user-u".to_owned()),
        Just(format!("{}:00", super::kit::KEY)),
        Just(r#"{"user_id":1,"id":"u"}"#.to_owned()),
        ".*",
    ]
}

fn value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        piece().prop_map(Value::from)
    ];
    leaf.prop_recursive(3, 16, 4, |inner| {
        let key = prop_oneof![
            Just("channel".to_owned()),
            Just("auth".to_owned()),
            Just("channel_data".to_owned()),
            Just("user_data".to_owned()),
            ".*"
        ];
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            proptest::collection::btree_map(key, inner, 0..4).prop_map(Value::from_iter)
        ]
    })
}

proptest! {
    #[test]
    fn any_text_is_survived(texts in proptest::collection::vec(".*", 1..8)) {
        let mut client = Client::new();
        for text in texts {
            prop_assert!(!client.send(&text).is_empty());
            client.ended();
        }
    }

    #[test]
    fn any_frame_gets_an_answer_or_is_asked_for(event in piece(), channel in value(), data in value()) {
        let mut client = Client::new();
        let frames = client.send(&json!({"event": event, "channel": channel, "data": data}).to_string());
        prop_assert!(!frames.is_empty() || client.tester.asked().len() == 1);
        for frame in frames {
            prop_assert!(frame["event"].is_string());
        }
        client.ended();
    }
}
