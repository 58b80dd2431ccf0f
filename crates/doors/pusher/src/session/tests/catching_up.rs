//! Recovery of missed events, and the replay that every new subscription gets.

use std::sync::Arc;

use serde_json::{Value, json};
use tidings_broker::{DeliveryMode, Recovery, Since, Welcome};
use tidings_model::channel::{ChannelKey, ChannelOptions, Epoch, Position};
use tidings_model::event::{Data, Event};
use tidings_model::policy::Namespaces;
use tidings_wire::{ChannelMessage, EncodedMessage, Publication};

use super::kit::{Client, app, refused};
use crate::wire::{FORMAT, POSITIONED};

fn position(offset: u64) -> Position {
    Position { offset, epoch: Epoch::parse("ab").unwrap() }
}

fn publication(offset: u64) -> Arc<EncodedMessage> {
    let channel = ChannelKey::new("3".into(), "c");
    let event = Event {
        id: "evt_1".to_owned(),
        app: "3".into(),
        name: format!("e{offset}"),
        channels: vec!["c".to_owned()],
        data: Data::json("1"),
        time: 0,
        op: None,
        key: None,
        except: None,
    };
    let position = Some(position(offset));
    Arc::new(EncodedMessage::new(ChannelMessage::Publication(Publication {
        event: Arc::new(event),
        channel,
        position,
        user: None,
    })))
}

fn event(offset: u64, id: Option<&str>) -> Value {
    let mut event = json!({"event": format!("e{offset}"), "channel": "c", "data": "1"});
    if let Some(id) = id {
        event["id"] = id.into();
    }
    event
}

fn succeeded(id: Option<&str>) -> Value {
    let mut frame = json!({"event": "pusher_internal:subscription_succeeded", "channel": "c", "data": "{}"});
    if let Some(id) = id {
        frame["id"] = id.into();
    }
    frame
}

/// Subscribes, and returns the requested past events and the frames that a welcome becomes.
fn subscribe(client: &mut Client, since: Option<&str>, welcome: Welcome) -> (Option<Since>, Vec<Value>) {
    let mut data = json!({"channel": "c"});
    if let Some(since) = since {
        data["since"] = since.into();
    }
    assert!(client.say("pusher:subscribe", data).is_empty());
    let (request_id, join) = client.asked_to_join();
    let DeliveryMode::Shared(format) = join.mode else { panic!("{join:?}") };
    assert!(std::ptr::eq(format, if since.is_some() { &POSITIONED } else { &FORMAT }));
    let channel = client.key("c");
    tidings_live::SessionProtocol::joined(
        &mut client.session,
        &mut client.tester.context(),
        request_id,
        &channel,
        Ok(welcome),
    );
    (join.since, client.frames())
}

fn welcome(offset: u64, recovery: Recovery, missed: &[u64]) -> Welcome {
    let publications = missed.iter().map(|&offset| publication(offset)).collect();
    Welcome { position: Some(position(offset)), recovery, publications, ..Welcome::default() }
}

#[test]
fn a_client_that_names_a_position_gets_what_came_after_it() {
    let mut client = Client::new();
    let (asked, frames) = subscribe(&mut client, Some("ab:5"), welcome(7, Recovery::Complete, &[6, 7]));
    assert_eq!(asked, Some(Since::Position(position(5))));
    assert_eq!(frames, [succeeded(None), event(6, Some("ab:6")), event(7, Some("ab:7"))]);
    let (_, frames) = subscribe(&mut Client::new(), Some("ab:7"), welcome(7, Recovery::Complete, &[]));
    assert_eq!(frames, [succeeded(Some("ab:7"))]);
}

#[test]
fn what_is_not_there_any_more_is_said() {
    let (_, frames) = subscribe(&mut Client::new(), Some("xy:5"), welcome(7, Recovery::Lost, &[]));
    let lost = json!({"event": "tidings.lost", "channel": "c", "data": "{}", "id": "ab:7"});
    assert_eq!(frames, [succeeded(Some("ab:7")), lost]);
    // What a life of the history that is new to the client holds comes behind that, with its own positions.
    let (_, frames) = subscribe(&mut Client::new(), Some("xy:5"), welcome(7, Recovery::Lost, &[6, 7]));
    let lost = json!({"event": "tidings.lost", "channel": "c", "data": "{}"});
    assert_eq!(frames, [succeeded(None), lost, event(6, Some("ab:6")), event(7, Some("ab:7"))]);
}

#[test]
fn a_client_that_asks_for_positions_gets_them_and_others_do_not() {
    let (asked, frames) = subscribe(&mut Client::new(), Some(""), welcome(7, Recovery::NotAsked, &[]));
    assert_eq!((asked, frames), (None, vec![succeeded(Some("ab:7"))]));
    let (asked, frames) = subscribe(&mut Client::new(), None, welcome(7, Recovery::NotAsked, &[]));
    assert_eq!((asked, frames), (None, vec![succeeded(None)]));
}

#[test]
fn a_channel_may_give_its_last_events_to_every_newcomer() {
    let options = ChannelOptions { history_size: 10, replay: 2, ..ChannelOptions::default() };
    let given = || Client::of(tidings_model::app::App { namespaces: Namespaces::new(&options, &[]), ..app() }, 7);
    let last = || welcome(7, Recovery::NotAsked, &[6, 7]);
    let (asked, frames) = subscribe(&mut given(), None, last());
    assert_eq!((asked, frames), (Some(Since::Last(2)), vec![succeeded(None), event(6, None), event(7, None)]));
    // Whoever has a position wants what came after it, and not what it has.
    let (asked, _) = subscribe(&mut given(), Some("ab:5"), welcome(7, Recovery::Complete, &[6, 7]));
    assert_eq!(asked, Some(Since::Position(position(5))));
    let (asked, frames) = subscribe(&mut given(), Some(""), last());
    assert_eq!((asked, frames[1].clone()), (Some(Since::Last(2)), event(6, Some("ab:6"))));
}

#[test]
fn no_more_is_given_to_everybody_than_a_socket_takes() {
    let large = || {
        let prepared = publication(1);
        let ChannelMessage::Publication(publication) = prepared.content() else { panic!("it is one") };
        let event = Event { data: Data::text("x".repeat(100 << 10)), ..(*publication.event).clone() };
        Arc::new(EncodedMessage::new(ChannelMessage::Publication(Publication {
            event: Arc::new(event),
            ..publication.clone()
        })))
    };
    let publications: Vec<_> = (0..5).map(|_| large()).collect();
    let given = |recovery| Welcome { recovery, publications: publications.clone(), ..Welcome::default() };
    assert_eq!(subscribe(&mut Client::new(), None, given(Recovery::NotAsked)).1.len(), 1 + 2);
    assert_eq!(subscribe(&mut Client::new(), Some("ab:5"), given(Recovery::Complete)).1.len(), 1 + 5);
}

#[test]
fn what_is_no_position_is_refused() {
    for bad in ["5", "ab:", "a b:1"] {
        let mut client = Client::new();
        let frames = client.say("pusher:subscribe", json!({"channel": "c", "since": bad}));
        let (kind, status, message) = refused(&frames, "c");
        assert_eq!((kind.as_str(), status), ("InvalidSince", 400), "{message}");
    }
}
