//! Signing in.

use serde_json::{Value, json};
use tidings_broker::Welcome;
use tidings_live::Proof;

use super::kit::{Client, KEY, auth, data, error, member, refused};

fn sign_in(client: &mut Client, user_data: &str) -> Vec<Value> {
    let auth = auth(format!("1234.1234::user::{user_data}"));
    let frames = client.say("pusher:signin", json!({"auth": auth, "user_data": user_data}));
    // Who is online is another test's business.
    client.tester.asked();
    frames
}

#[test]
fn pushers_own_example_signs_a_user_in() {
    let mut client = Client::new();
    let auth = format!("{KEY}:4708d583dada6a56435fb8bc611c77c359a31eebde13337c16ab43aa6de336ba");
    let frames = client.say("pusher:signin", json!({"auth": auth, "user_data": "{\"id\":\"12345\"}"}));
    assert_eq!(frames.len(), 1);
    assert_eq!(frames[0]["event"], "pusher:signin_success");
    assert_eq!(data(&frames[0]), json!({"user_data": "{\"id\":\"12345\"}"}));
    assert_eq!(client.tester.user().as_deref(), Some("12345"));
    client.tester.asked();
    // Its own channel is the policy's business, which knows the user.
    assert!(client.say("pusher:subscribe", json!({"auth": "", "channel": "#server-to-user-12345"})).is_empty());
    let frames = client.admit(Welcome::default());
    assert_eq!(frames[0]["channel"], "#server-to-user-12345");
}

#[test]
fn a_user_who_has_signed_in_needs_no_channel_data() {
    let mut client = Client::new();
    assert_eq!(sign_in(&mut client, r#"{"id":"u","user_info":{"n":1},"watchlist":["v"]}"#).len(), 1);
    assert!(client.subscribe("presence-a", None).is_empty());
    let (_, join) = client.asked_to_join();
    assert_eq!((join.proof, join.member), (Proof::Channel, Some(member("u", Some("{\"n\":1}")))));
    // What the app says of this channel counts more.
    let mut client = Client::new();
    sign_in(&mut client, r#"{"id":"u","user_info":{"n":1}}"#);
    assert!(client.subscribe("presence-a", Some(r#"{"user_id":"w"}"#)).is_empty());
    assert_eq!(client.asked_to_join().1.member, Some(member("w", None)));
}

#[test]
fn a_connection_is_one_users() {
    let mut client = Client::new();
    assert_eq!(sign_in(&mut client, r#"{"id":"u"}"#)[0]["event"], "pusher:signin_success");
    assert_eq!(sign_in(&mut client, r#"{"id":"u"}"#)[0]["event"], "pusher:signin_success");
    let message = error(&sign_in(&mut client, r#"{"id":"v"}"#), Value::Null);
    assert!(message.contains("another user"), "{message}");
    assert_eq!(client.tester.user().as_deref(), Some("u"));
}

#[test]
fn a_presence_channel_says_whose_a_connection_is_and_signs_nobody_in() {
    let mut client = Client::new();
    client.join("presence-a", Some(r#"{"user_id":"u"}"#));
    assert_eq!(client.tester.user().as_deref(), Some("u"));
    client.join("presence-b", Some(r#"{"user_id":"v"}"#));
    assert_eq!(client.tester.user().as_deref(), Some("u"), "the first word counts");
    let frames = client.say("pusher:subscribe", json!({"auth": "", "channel": "#server-to-user-u"}));
    assert!(refused(&frames, "#server-to-user-u").2.contains("signed in"));
    // A sign-in counts more, and is not contradicted by what was in between.
    assert_eq!(sign_in(&mut client, r#"{"id":"w"}"#)[0]["event"], "pusher:signin_success");
    assert_eq!(client.tester.user().as_deref(), Some("w"));
    client.join("presence-c", Some(r#"{"user_id":"x"}"#));
    assert_eq!(client.tester.user().as_deref(), Some("w"));
}

#[test]
fn an_id_has_a_length() {
    let mut client = Client::new();
    assert_eq!(sign_in(&mut client, &json!({"id": "ä".repeat(100)}).to_string())[0]["event"], "pusher:signin_success");
    let long = json!({"id": "u".repeat(129)}).to_string();
    assert!(error(&sign_in(&mut Client::new(), &long), Value::Null).contains("128 characters"));
    let long = json!({"user_id": "u".repeat(129)}).to_string();
    let (kind, status, _) = refused(&Client::new().subscribe("presence-a", Some(&long)), "presence-a");
    assert_eq!((kind.as_str(), status), ("LimitReached", 413));
}

#[test]
fn what_proves_nothing_is_refused() {
    let mut client = Client::new();
    for user_data in ["{}", "[]", "x", r#"{"id":""}"#, r#"{"id":null}"#, r#"{"user_id":"u"}"#] {
        assert!(error(&sign_in(&mut client, user_data), Value::Null).contains("`id`"), "{user_data}");
    }
    let much = format!(r#"{{"id":"u","user_info":"{}"}}"#, "x".repeat(1_023));
    assert!(error(&sign_in(&mut client, &much), Value::Null).contains("1024 bytes"));
    let table = [
        (
            auth("1234.1234::user::{\"id\":\"v\"}"),
            "Invalid signature: Expected HMAC SHA256 hex digest of 1234.1234::user::",
        ),
        (auth("1.1::user::{\"id\":\"u\"}"), "Invalid signature: Expected"),
        (format!("{KEY}::user::00"), "Invalid signature: Expected"),
        ("other:00".to_owned(), "Invalid key in subscription auth data: 'other:00'"),
        (String::new(), "none was sent"),
    ];
    for (auth, expected) in table {
        let frames = client.say("pusher:signin", json!({"auth": auth, "user_data": "{\"id\":\"u\"}"}));
        let message = error(&frames, Value::Null);
        assert!(message.contains(expected), "{message}");
    }
    for data in [json!({}), json!(null), json!({"auth": "x"}), json!({"auth": "x", "user_data": {"id": "u"}})] {
        error(&client.say("pusher:signin", data), Value::Null);
    }
    assert_eq!(client.tester.user(), None);
    assert_eq!(client.ended(), None);
}
