//! Values of apps and clients are passed on unchanged.

use std::sync::Arc;

use serde_json::{Value, json};
use tidings_broker::Welcome;
use tidings_live::{SessionProtocol, SessionRequest};
use tidings_model::channel::{Member, SessionId, UserId};
use tidings_model::event::{Data, Event};
use tidings_wire::{ChannelMessage, EncodedMessage, MemberChange, Publication};

use super::kit::{Client, data, payload};
use crate::wire::FORMAT;

/// The frame that the others in a channel receive.
fn encoded(said: ChannelMessage) -> Value {
    payload(EncodedMessage::new(said).bytes(&FORMAT).unwrap())
}

fn joins(client: &Client, member: &Arc<Member>) -> Value {
    encoded(ChannelMessage::Joined(MemberChange {
        channel: client.key("presence-c"),
        session: SessionId::from_random([1; 16]),
        member: Arc::clone(member),
        changes_users: true,
    }))
}

// covers: G281
#[test]
fn a_user_id_and_what_is_shown_of_a_user_are_passed_on_as_they_came() {
    for (id, info) in [
        ("10", Some(r#"{"n": 1.50, "a":[null]}"#)),
        ("\"10\"", Some("null")),
        ("-7", Some("\"x\"")),
        ("12345678901234567890123", Some("12345678901234567890123")),
        ("\"a\\\"b\"", None),
    ] {
        let mut client = Client::new();
        let info_member = info.map(|info| format!(",\"user_info\":{info}")).unwrap_or_default();
        assert!(client.subscribe("presence-c", Some(&format!("{{\"user_id\":{id}{info_member}}}"))).is_empty());
        let (request_id, join) = client.asked_to_join();
        let member = join.member.unwrap();
        // Raw, since a JSON reader here would make another number of a long one.
        let raw = |frame: &Value| frame["data"].as_str().unwrap().to_owned();
        let added = raw(&joins(&client, &member));
        assert_eq!(added, format!("{{\"user_id\":{id}{info_member}}}"));
        let channel = client.key("presence-c");
        let welcome = Welcome { members: vec![Arc::clone(&member)], ..Welcome::default() };
        client.session.joined(&mut client.tester.context(), request_id, &channel, Ok(welcome));
        let presence = raw(&client.frames()[0]);
        let (key, shown) =
            (if id.starts_with('"') { id.to_owned() } else { format!("\"{id}\"") }, info.unwrap_or("null"));
        assert_eq!(presence, format!("{{\"presence\":{{\"ids\":[{id}],\"hash\":{{{key}:{shown}}},\"count\":1}}}}"));
        let left = encoded(ChannelMessage::Left(MemberChange {
            channel: client.key("presence-c"),
            session: SessionId::from_random([1; 16]),
            member,
            changes_users: true,
        }));
        assert_eq!(raw(&left), format!("{{\"user_id\":{id}}}"));
    }
}

// covers: G281
#[test]
fn what_a_client_says_bears_the_id_as_the_app_gave_it() {
    let mut client = Client::new();
    client.join("presence-c", Some(r#"{"user_id":10}"#));
    client.send(r#"{"event":"client-x","channel":"presence-c","data":{"n": 1.0}}"#);
    let (request_id, SessionRequest::Publish(said)) = client.asked() else { panic!("nothing was said") };
    client.session.published(&mut client.tester.context(), request_id, Ok(()));
    assert_eq!(said.data, Data::json(r#"{"n": 1.0}"#));
    let event = Event {
        id: "1".to_owned(),
        app: "3".into(),
        name: said.name,
        channels: Vec::new(),
        data: said.data,
        time: 0,
        op: None,
        key: None,
        except: None,
    };
    let channel = client.key("presence-c");
    let publication = Publication { event: Arc::new(event), channel, position: None, user: said.user };
    let frame = encoded(ChannelMessage::Publication(publication));
    assert_eq!((&frame["user_id"], &frame["data"]), (&json!(10), &json!("{\"n\": 1.0}")));
}

// covers: G282
#[test]
fn who_signed_in_with_a_number_and_with_its_text_is_the_same_user() {
    let mut client = Client::new();
    let sign_in = |client: &mut Client, user_data: &str| {
        let auth = super::kit::auth(format!("1234.1234::user::{user_data}"));
        client.say("pusher:signin", json!({"auth": auth, "user_data": user_data}))
    };
    let frames = sign_in(&mut client, r#"{"id":10}"#);
    assert_eq!(data(&frames[0])["user_data"], r#"{"id":10}"#, "as it came");
    client.tester.asked();
    assert_eq!(client.tester.user().as_deref(), Some("10"));
    let frames = sign_in(&mut client, r#"{"id":"10"}"#);
    assert_eq!(frames[0]["event"], "pusher:signin_success");
    client.tester.asked();
    // The one who has signed in is the member where the app signs no other.
    assert!(client.subscribe("presence-d", None).is_empty());
    let (_, join) = client.asked_to_join();
    assert_eq!(join.member.map(|member| member.user.clone()), Some(UserId::number("10")));
}
