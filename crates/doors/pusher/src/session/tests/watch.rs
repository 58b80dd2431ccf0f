//! Watchlists.

use std::sync::Arc;

use serde_json::{Value, json};
use tidings_broker::{JoinRefused, Lost, Welcome};
use tidings_live::{Proof, SessionProtocol, SessionRequest};
use tidings_model::channel::ChannelKey;
use tidings_model::policy::online;
use tidings_wire::{ChannelMessage, EncodedMessage, MemberChange};

use super::kit::{Client, NOW, app, auth, data, error, member};

/// Signs in as `u`, and returns the frames of the response and the joins of online channels, with their ids.
fn sign_in(client: &mut Client, watchlist: Value) -> (Vec<Value>, Vec<(u32, ChannelKey)>) {
    let user_data = json!({"id": "u", "watchlist": watchlist}).to_string();
    let auth = auth(format!("1234.1234::user::{user_data}"));
    let frames = client.say("pusher:signin", json!({"auth": auth, "user_data": user_data}));
    assert_eq!(frames[0]["event"], "pusher:signin_success");
    (frames, looked(client))
}

fn looked(client: &mut Client) -> Vec<(u32, ChannelKey)> {
    let look = |(request_id, what): (u32, SessionRequest)| match what {
        SessionRequest::Join(join) => {
            assert_eq!(join.proof, Proof::Channel);
            Some((request_id, ChannelKey::new("3".into(), join.channel)))
        }
        _ => None,
    };
    client.tester.asked().into_iter().filter_map(look).collect()
}

/// Answers the joins so that these users are online.
fn response(client: &mut Client, looked: &[(u32, ChannelKey)], there: &[&str]) -> Vec<Value> {
    for (request_id, channel) in looked {
        let is_there = |user: &&&str| *channel.name == *online(user);
        let members = there.iter().find(is_there).map(|user| member(user, None)).into_iter().collect();
        let welcome = Welcome { members, ..Welcome::default() };
        client.session.joined(&mut client.tester.context(), *request_id, channel, Ok(welcome));
    }
    client.frames()
}

fn said(user: &str, changes_users: bool, come: bool) -> Arc<EncodedMessage> {
    let channel = ChannelKey::new("3".into(), online(user));
    let session = "9.9".parse().unwrap();
    let presence = MemberChange { channel, session, member: member(user, None), changes_users };
    Arc::new(EncodedMessage::new(if come { ChannelMessage::Joined(presence) } else { ChannelMessage::Left(presence) }))
}

fn events(frames: &[Value]) -> Value {
    assert_eq!(frames.len(), 1, "{frames:?}");
    assert_eq!(frames[0]["event"], "pusher_internal:watchlist_events");
    assert_eq!(frames[0].get("channel"), None);
    data(&frames[0])["events"].clone()
}

#[test]
fn who_has_signed_in_is_told_who_is_online_and_what_changes() {
    let mut client = Client::new();
    let (frames, looked) = sign_in(&mut client, json!(["v", 7, "w", "v"]));
    assert_eq!(frames.len(), 1);
    let names: Vec<_> = looked.iter().map(|(_, channel)| channel.name.to_string()).collect();
    assert_eq!(names, ["u", "v", "7", "w"].map(online), "itself first, and nobody twice");
    assert_eq!(
        events(&response(&mut client, &looked, &["u", "7"])),
        json!([{"name": "online", "user_ids": ["7"]}, {"name": "offline", "user_ids": ["v", "w"]}])
    );
    for (come, name) in [(true, "online"), (false, "offline")] {
        client.session.channel_message(&mut client.tester.context(), &said("v", true, come));
        assert_eq!(events(&client.frames()), json!([{"name": name, "user_ids": ["v"]}]));
        client.session.channel_message(&mut client.tester.context(), &said("v", false, come));
        assert!(client.frames().is_empty(), "another session of the same user");
    }
}

#[test]
fn what_changes_before_all_is_known_is_told_once() {
    let mut client = Client::new();
    let (_, looked) = sign_in(&mut client, json!(["v", "w", "u"]));
    assert!(response(&mut client, &looked[..2], &[]).is_empty());
    client.session.channel_message(&mut client.tester.context(), &said("v", true, true));
    assert!(client.frames().is_empty());
    assert_eq!(
        events(&response(&mut client, &looked[2..], &[])),
        json!([{"name": "online", "user_ids": ["u", "v"]}, {"name": "offline", "user_ids": ["w"]}])
    );
}

#[test]
fn a_list_that_is_too_long_or_none_signs_in_all_the_same() {
    let mut client = Client::new();
    let (frames, looked) = sign_in(&mut client, (0..101).map(|n| format!("v{n}")).collect());
    error(&frames[1..], json!(4302));
    assert_eq!(looked.len(), 101, "itself, and a hundred others");
    for wrong in [json!("v"), json!([{}]), json!([""]), json!([null]), json!({"v": 1})] {
        let mut client = Client::new();
        let (frames, looked) = sign_in(&mut client, wrong);
        assert!(error(&frames[1..], Value::Null).contains("list of user ids"));
        assert_eq!(looked.len(), 1);
        assert!(response(&mut client, &looked, &[]).is_empty());
    }
}

#[test]
fn an_app_may_do_without() {
    let mut app = app();
    app.limits.watchlist = 0;
    let mut client = Client::of(app, 7);
    let (frames, looked) = sign_in(&mut client, json!(["v"]));
    assert_eq!((frames.len(), looked.len()), (1, 0));
}

#[test]
fn another_sign_in_brings_another_list() {
    let mut client = Client::new();
    let (_, looked) = sign_in(&mut client, json!(["v", "w"]));
    response(&mut client, &looked, &[]);
    let user_data = json!({"id": "u", "watchlist": ["w", "x"]}).to_string();
    let auth = auth(format!("1234.1234::user::{user_data}"));
    client.say("pusher:signin", json!({"auth": auth, "user_data": user_data}));
    let asked = client.tester.asked();
    let left = asked
        .iter()
        .filter_map(|(_, request_id)| if let SessionRequest::Leave(name) = request_id { Some(&**name) } else { None });
    assert_eq!(left.collect::<Vec<_>>(), [online("v")]);
    let joined =
        asked.iter().filter_map(
            |(_, request_id)| if let SessionRequest::Join(join) = request_id { Some(&*join.channel) } else { None },
        );
    assert_eq!(joined.collect::<Vec<_>>(), ["u", "w", "x"].map(online));
}

#[test]
fn what_may_have_been_missed_is_asked_for_once_more() {
    let mut client = Client::new();
    let (_, looked) = sign_in(&mut client, json!(["v"]));
    response(&mut client, &looked, &[]);
    let channel = ChannelKey::new("3".into(), online("v"));
    let lost = Lost { channel, position: None, publications: false, members: true };
    client.session.lost(&mut client.tester.context(), &lost);
    let again = self::looked(&mut client);
    assert_eq!(events(&response(&mut client, &again, &["v"])), json!([{"name": "online", "user_ids": ["v"]}]));
    assert_eq!(client.ended(), None);
}

#[test]
fn what_cannot_be_known_is_asked_for_again() {
    let mut client = Client::new();
    let (_, looked) = sign_in(&mut client, json!(["v"]));
    for (request_id, channel) in &looked {
        client.session.joined(&mut client.tester.context(), *request_id, channel, Err(JoinRefused::Unavailable));
    }
    assert!(client.frames().is_empty());
    assert_eq!(client.tester.wake_at(), Some(NOW + 5_000));
    client.tester.now = NOW + 5_000;
    client.session.woken(&mut client.tester.context());
    let again = self::looked(&mut client);
    let names: Vec<_> = again.iter().map(|(_, channel)| channel.name.to_string()).collect();
    assert_eq!(names, ["u", "v"].map(online));
    assert_eq!(events(&response(&mut client, &again, &["v"])), json!([{"name": "online", "user_ids": ["v"]}]));
    client.session.woken(&mut client.tester.context());
    assert!(client.tester.asked().is_empty());
}
