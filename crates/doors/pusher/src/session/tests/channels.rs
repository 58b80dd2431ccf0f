//! Joining and leaving.

use std::sync::Arc;

use bytes::Bytes;
use serde_json::{Value, json};
use tidings_broker::{DeliveryMode, JoinRefused, Welcome};
use tidings_live::{LeaveFailed, Proof, SessionProtocol, SessionRequest};
use tidings_model::app::{App, AppLimits};
use tidings_model::channel::{ChannelKey, ChannelOptions, UserId};
use tidings_model::event::{Data, Event};
use tidings_model::policy::Namespaces;
use tidings_wire::{ChannelMessage, EncodedMessage, Publication};

use super::kit::{Client, KEY, app, auth, data, error, member, refused};

fn succeeded(channel: &str) -> Value {
    json!({"event": "pusher_internal:subscription_succeeded", "channel": channel, "data": "{}"})
}

#[test]
fn a_public_channel_needs_nothing() {
    for data in
        [json!({"auth": "", "channel": "pub"}), json!({"channel": "pub"}), json!({"channel": "pub", "auth": null})]
    {
        let mut client = Client::new();
        assert!(client.say("pusher:subscribe", data).is_empty());
        let asked = client.tester.asked();
        let [(request_id, SessionRequest::Join(join))] = &asked[..] else { panic!("{asked:?}") };
        assert_eq!((&*join.channel, join.proof, &join.member), ("pub", Proof::None, &None));
        assert!(matches!(join.mode, DeliveryMode::Shared(format) if std::ptr::eq(format, &crate::FORMAT)));
        let channel = client.key("pub");
        client.session.joined(&mut client.tester.context(), *request_id, &channel, Ok(Welcome::default()));
        assert_eq!(client.frames(), [succeeded("pub")]);
    }
}

#[test]
fn data_may_be_json_in_a_string() {
    let mut client = Client::new();
    assert!(client.say("pusher:subscribe", json!(r#"{"channel":"pub"}"#)).is_empty());
    assert_eq!(client.admit(Welcome::default()), [succeeded("pub")]);
}

#[test]
fn pushers_own_example_of_a_signature_opens_a_private_channel() {
    let mut client = Client::new();
    let auth = format!("{KEY}:58df8b0c36d6982b82c3ecf6b4662e34fe8c25bba48f5369f135bf843651c3a4");
    assert!(client.say("pusher:subscribe", json!({"auth": auth, "channel": "private-foobar"})).is_empty());
    let (_, join) = client.asked_to_join();
    assert_eq!(join.proof, Proof::Channel);
}

#[test]
fn channel_data_is_signed_in_any_kind_of_channel() {
    for channel in ["private-a", "private-encrypted-a", "private-cache-a", "private-encrypted-cache-a"] {
        let mut client = Client::new();
        assert!(client.subscribe(channel, Some("{\"x\":1}")).is_empty(), "{channel}");
        let (_, join) = client.asked_to_join();
        assert_eq!((join.proof, join.member), (Proof::Channel, None));
        // A signature of the channel alone says nothing about its data.
        let wrong =
            json!({"auth": auth(format!("1234.1234:{channel}")), "channel": channel, "channel_data": "{\"x\":1}"});
        assert_eq!(refused(&client.say("pusher:subscribe", wrong), channel).1, 401);
    }
}

#[test]
fn a_presence_channel_tells_who_is_there() {
    let mut client = Client::new();
    assert!(client.subscribe("presence-b", Some(r#"{"user_id":10,"user_info":{"name": "Mr. Channels"}}"#)).is_empty());
    let (request_id, join) = client.asked_to_join();
    assert_eq!(join.member, Some(member("10", Some(r#"{"name": "Mr. Channels"}"#))));
    let members = vec![member("10", Some(r#"{"name": "Mr. Channels"}"#)), member("u\"2", None)];
    let channel = client.key("presence-b");
    let welcome = Welcome { members, ..Welcome::default() };
    client.session.joined(&mut client.tester.context(), request_id, &channel, Ok(welcome));
    let frames = client.frames();
    assert_eq!(frames.len(), 1);
    let presence = json!({"ids": ["10", "u\"2"], "hash": {"10": {"name": "Mr. Channels"}, "u\"2": null}, "count": 2});
    assert_eq!(data(&frames[0]), json!({"presence": presence}));
}

#[test]
fn a_presence_channel_needs_a_user() {
    let mut client = Client::new();
    for data in
        ["{}", "[]", "x", r#"{"user_id":""}"#, r#"{"user_id":null}"#, r#"{"user_id":true}"#, r#"{"user_id":"a\n"}"#]
    {
        let (kind, status, message) = refused(&client.subscribe("presence-b", Some(data)), "presence-b");
        assert_eq!((kind.as_str(), status), ("AuthError", 401), "{data}");
        assert!(message.contains("user_id"), "{message}");
    }
    let (kind, status, message) = refused(&client.subscribe("presence-b", None), "presence-b");
    assert_eq!((kind.as_str(), status), ("AuthError", 401));
    assert!(message.contains("signed in"), "{message}");
    let too_much = format!(r#"{{"user_id":"u","user_info":"{}"}}"#, "x".repeat(1_023));
    let (kind, status, message) = refused(&client.subscribe("presence-b", Some(&too_much)), "presence-b");
    assert_eq!((kind.as_str(), status), ("LimitReached", 413));
    assert!(message.contains("1024 bytes"), "{message}");
    assert!(client.tester.asked().is_empty());
}

#[test]
fn a_wrong_signature_is_said_twice_in_pushers_words_and_the_connection_stays() {
    let mut client = Client::new();
    let mut say = |auth: Value| {
        let data = json!({"channel": "private-a", "auth": auth});
        let (kind, status, message) = refused(&client.say("pusher:subscribe", data), "private-a");
        assert_eq!((kind.as_str(), status), ("AuthError", 401));
        assert!(client.tester.asked().is_empty());
        assert_eq!(client.ended(), None);
        message
    };
    let wrong = "00".repeat(32);
    assert_eq!(
        say(json!(format!("{KEY}:{wrong}"))),
        format!("Invalid signature: Expected HMAC SHA256 hex digest of 1234.1234:private-a, but got {wrong}")
    );
    // Of the socket that it was before it reconnected.
    let old = auth("1.1:private-a");
    assert!(say(json!(old)).starts_with("Invalid signature: Expected"));
    assert!(say(json!(auth("1234.1234:private-b"))).starts_with("Invalid signature: Expected"));
    assert_eq!(say(json!("other:00")), "Invalid key in subscription auth data: 'other:00'");
    assert_eq!(say(json!("x")), "Invalid key in subscription auth data: 'x'");
    for missing in [json!(""), json!(null)] {
        assert!(say(missing).contains("none was sent"));
    }
}

#[test]
fn names_keep_pushers_rules() {
    let mut client = Client::new();
    let long = "x".repeat(201);
    for name in ["", "#u", "#server-to-user-", "a b", "chat:a", "ä", &long] {
        let (kind, status, message) = refused(&client.say("pusher:subscribe", json!({"channel": name})), name);
        assert_eq!((kind.as_str(), status), ("InvalidChannel", 400), "{name}");
        assert!(message.starts_with("Invalid channel name"), "{message}");
    }
    for data in
        [json!({}), json!(null), json!("x"), json!([]), json!({"channel": 1}), json!({"channel": "a", "auth": 1})]
    {
        error(&client.say("pusher:subscribe", data), Value::Null);
    }
    assert!(client.tester.asked().is_empty());
}

#[test]
fn what_is_said_twice_is_answered() {
    let mut client = Client::new();
    client.join("pub", None);
    let again = client.say("pusher:subscribe", json!({"channel": "pub"}));
    assert_eq!(error(&again, Value::Null), "Existing subscription to channel pub");
    assert!(client.say("pusher:unsubscribe", json!({"channel": "pub"})).is_empty());
    let (request_id, leave) = client.asked();
    assert!(matches!(leave, SessionRequest::Leave(name) if &*name == "pub"));
    let channel = client.key("pub");
    client.session.left(&mut client.tester.context(), request_id, &channel, Ok(()));
    assert!(client.frames().is_empty(), "leaving has no response");
    let again = client.say("pusher:unsubscribe", json!({"channel": "pub"}));
    assert_eq!(error(&again, Value::Null), "No current subscription to channel pub, or subscription in progress");
    error(&client.say("pusher:unsubscribe", json!({})), Value::Null);
    client.join("pub", None);
}

#[test]
fn a_session_is_in_so_many_channels_at_most() {
    let limits = AppLimits { channels_per_session: 2, ..AppLimits::default() };
    let mut client = Client::of(App { limits, ..app() }, 7);
    client.join("b", None);
    client.join("a", None);
    assert_eq!(refused(&client.say("pusher:subscribe", json!({"channel": "c"})), "c").0, "LimitReached");
    client.say("pusher:unsubscribe", json!({"channel": "b"}));
    let (request_id, _) = client.asked();
    let channel = client.key("b");
    client.session.left(&mut client.tester.context(), request_id, &channel, Ok(()));
    client.join("c", None);
}

#[test]
fn what_the_broker_refuses_is_told() {
    let table = [
        (JoinRefused::NoProof, "AuthError", 401),
        (JoinRefused::OtherUser, "AuthError", 401),
        (JoinRefused::TooManyMembers { limit: 100 }, "LimitReached", 403),
        (JoinRefused::Unavailable, "Unavailable", 503),
    ];
    for (refusal, kind, status) in table {
        let mut client = Client::new();
        client.say("pusher:subscribe", json!({"channel": "closed"}));
        let (request_id, _) = client.asked_to_join();
        let channel = client.key("closed");
        client.session.joined(&mut client.tester.context(), request_id, &channel, Err(refusal.clone()));
        let told = refused(&client.frames(), "closed");
        assert_eq!((told.0.as_str(), told.1, told.2), (kind, status, refusal.to_string()));
    }
    let mut client = Client::new();
    client.join("pub", None);
    client.say("pusher:unsubscribe", json!({"channel": "pub"}));
    let (request_id, _) = client.asked();
    let channel = client.key("pub");
    client.session.left(&mut client.tester.context(), request_id, &channel, Err(LeaveFailed));
    assert_eq!(
        error(&client.frames(), Value::Null),
        "The subscription to channel pub could not be ended: channels cannot be left at the moment"
    );
    assert_eq!(client.say("pusher:unsubscribe", json!({"channel": "pub"})), Vec::<Value>::new(), "it may try again");
}

fn publication(channel: &ChannelKey, data: Data, user: Option<&str>) -> ChannelMessage {
    let event = Event {
        id: "evt_1".to_owned(),
        app: channel.app.clone(),
        name: "new \"event\"".to_owned(),
        channels: vec![channel.name.as_ref().to_owned()],
        data,
        time: 0,
        op: None,
        key: None,
        except: None,
    };
    ChannelMessage::Publication(Publication {
        event: Arc::new(event),
        channel: channel.clone(),
        position: None,
        user: user.map(UserId::from),
    })
}

#[test]
fn a_cache_channel_gives_its_last_event_or_says_that_it_has_none() {
    for name in ["cache-x", "private-cache-x", "private-encrypted-cache-x", "presence-cache-x"] {
        let mut client = Client::new();
        let user = name.starts_with("presence-").then_some(r#"{"user_id":"u"}"#);
        assert!(client.subscribe(name, user).is_empty());
        let frames = client.admit(Welcome::default());
        assert_eq!(frames.len(), 2);
        assert_eq!(frames[1], json!({"event": "pusher:cache_miss", "channel": name, "data": "{}"}));

        let mut client = Client::new();
        client.subscribe(name, user);
        let cached = publication(&client.key(name), Data::text("{\"a\": 1}"), None);
        let welcome = Welcome { cached: Some(Arc::new(EncodedMessage::new(cached))), ..Welcome::default() };
        let frames = client.admit(welcome);
        assert_eq!(frames.len(), 2);
        assert_eq!(frames[1], json!({"event": "new \"event\"", "channel": name, "data": "{\"a\": 1}"}));
    }
    let kept = ChannelOptions { cache_ttl: Some(std::time::Duration::from_secs(1)), ..ChannelOptions::default() };
    let mut client = Client::of(App { namespaces: Namespaces::new(&kept, &[]), ..app() }, 7);
    client.subscribe("any", None);
    assert_eq!(client.admit(Welcome::default()).len(), 2);
}

#[test]
fn everything_that_is_said_looks_as_pushers_clients_expect() {
    let frame =
        |said: ChannelMessage| EncodedMessage::new(said).bytes(&crate::FORMAT).map(|bytes| super::kit::payload(bytes));
    let key = |name: &str| ChannelKey::new("3".into(), name);
    let event = |name: &str, data, user| frame(publication(&key(name), data, user));
    let table = [
        (Data::text("plain \"text\""), "plain \"text\""),
        (Data::text("{\"a\" :1.50}"), "{\"a\" :1.50}"),
        (Data::json("[1, 2]"), "[1, 2]"),
        (Data { bytes: Bytes::from_static(&[0xff]), content_type: Some("image/png".to_owned()) }, "/w=="),
    ];
    for (given, shown) in table {
        let expected = json!({"event": "new \"event\"", "channel": "c", "data": shown});
        assert_eq!(event("c", given, None), Some(expected));
    }
    assert_eq!(
        event("presence-c", Data::text(""), Some("u")),
        Some(json!({"event": "new \"event\"", "channel": "presence-c", "data": "", "user_id": "u"}))
    );
    assert_eq!(event("#u", Data::text(""), None).unwrap()["channel"], "#server-to-user-u");

    let presence = |name, changes_users, info| tidings_wire::MemberChange {
        channel: key(name),
        session: "1.1".parse().unwrap(),
        member: member("u", info),
        changes_users,
    };
    let told = |said, event: &str, inner: Value| {
        let frame = frame(said).unwrap();
        assert_eq!((&frame["event"], data(&frame)), (&json!(event), inner));
        frame["channel"].as_str().unwrap().to_owned()
    };
    let added = ChannelMessage::Joined(presence("presence-c", true, Some("{\"n\":1}")));
    told(added, "pusher_internal:member_added", json!({"user_id": "u", "user_info": {"n": 1}}));
    let added = ChannelMessage::Joined(presence("presence-c", true, None));
    told(added, "pusher_internal:member_added", json!({"user_id": "u"}));
    let removed = ChannelMessage::Left(presence("presence-c", true, Some("{\"n\":1}")));
    told(removed, "pusher_internal:member_removed", json!({"user_id": "u"}));
    let count = ChannelMessage::Subscriptions { channel: key("#u"), count: 7 };
    let channel = told(count, "pusher_internal:subscription_count", json!({"subscription_count": 7}));
    assert_eq!(channel, "#server-to-user-u");

    assert_eq!(frame(ChannelMessage::Joined(presence("presence-c", false, None))), None, "a second tab of the user");
    assert_eq!(frame(ChannelMessage::Left(presence("presence-c", false, None))), None);
    assert_eq!(frame(ChannelMessage::Joined(presence("c", true, None))), None, "clients don't know of members there");
    assert_eq!(frame(ChannelMessage::Subscriptions { channel: key("presence-c"), count: 7 }), None);
}
