//! Client events.

use serde_json::{Value, json};
use tidings_live::{ClientEvent, PublishRefused, SessionProtocol, SessionRequest};
use tidings_model::app::{App, AppLimits};
use tidings_model::event::Data;

use super::kit::{Client, app, error};

/// A client in a channel of each kind.
fn client(app: App) -> Client {
    let mut client = Client::of(app, 7);
    client.join("pub", None);
    client.join("private-a", None);
    client.join("private-encrypted-a", None);
    client.join("presence-a", Some(r#"{"user_id":5}"#));
    client
}

fn frame(name: &str, channel: &str, data: Value) -> String {
    json!({"event": name, "channel": channel, "data": data}).to_string()
}

#[track_caller]
fn published(client: &mut Client) -> ClientEvent {
    match client.asked() {
        (request_id, SessionRequest::Publish(event)) => {
            client.session.published(&mut client.tester.context(), request_id, Ok(()));
            assert!(client.frames().is_empty());
            event
        }
        (_, other) => panic!("{other:?}"),
    }
}

#[test]
fn an_event_goes_to_the_others_with_its_user_where_users_are_known() {
    let mut client = client(app());
    assert!(client.send(&frame("client-typing", "private-a", json!({"a": 1}))).is_empty());
    let event = published(&mut client);
    assert_eq!((&*event.channel, event.name.as_str()), ("private-a", "client-typing"));
    assert_eq!((event.data, event.user), (Data::json(r#"{"a":1}"#), None));
    assert!(client.send(&frame("client-typing", "presence-a", json!("{\"a\": 1}"))).is_empty());
    let event = published(&mut client);
    assert_eq!((event.data, event.user.as_deref()), (Data::json(r#"{"a": 1}"#), Some("5")));
    assert!(client.send(r#"{"event":"client-x","channel":"private-a"}"#).is_empty());
    assert_eq!(published(&mut client).data, Data::json("null"));
}

#[test]
fn what_may_not_be_said_is_answered_and_not_said() {
    let limits = AppLimits { payload: 20, ..AppLimits::default() };
    let mut client = client(App { limits, ..app() });
    let long = format!("client-{}", "x".repeat(200));
    let large = json!("x".repeat(21));
    let table = [
        (frame("client-x", "pub", json!(1)), "only supported on private and presence channels"),
        (frame("client-x", "#server-to-user-u", json!(1)), "only supported on private and presence channels"),
        (frame("client-x", "private-encrypted-a", json!(1)), "not supported on encrypted channels"),
        (frame("client-x", "private-b", json!(1)), "no current subscription to channel private-b"),
        (r#"{"event":"client-x","data":1}"#.to_owned(), "names no channel"),
        (r#"{"event":"client-x","channel":"private-a","data":"\ud800"}"#.to_owned(), "not valid JSON"),
        (frame(&long, "private-a", json!(1)), "longer than 200 bytes"),
        (frame("client-x", "private-a", large), "exceeds the allowed maximum (20 bytes)"),
    ];
    for (text, expected) in table {
        let message = error(&client.send(&text), Value::Null);
        assert!(message.contains(expected), "{message}");
        assert!(client.tester.asked().is_empty(), "{text}");
    }
    assert!(client.send(&frame("client-x", "private-a", json!("x".repeat(20)))).is_empty());
    published(&mut client);
    assert_eq!(client.ended(), None);
}

#[test]
fn an_app_can_forbid_them() {
    let mut client = client(App { client_events: false, ..app() });
    let message = error(&client.send(&frame("client-x", "private-a", json!(1))), Value::Null);
    assert!(message.starts_with("To send client events, you must enable this feature"), "{message}");
    assert!(client.tester.asked().is_empty());
}

#[test]
fn ten_a_second_and_no_more() {
    let mut client = client(app());
    for _ in 0..10 {
        assert!(client.send(&frame("client-x", "private-a", json!(1))).is_empty());
        published(&mut client);
    }
    let message = error(&client.send(&frame("client-x", "private-a", json!(1))), json!(4301));
    assert_eq!(message, "Client event rejected due to rate limit: at most 10 a second");
    assert!(client.tester.asked().is_empty());
    client.tester.now += 100;
    assert!(client.send(&frame("client-x", "private-a", json!(1))).is_empty());
    published(&mut client);
    error(&client.send(&frame("client-x", "private-a", json!(1))), json!(4301));
    assert_eq!(client.ended(), None, "an error, never a close");
}

#[test]
fn a_server_that_is_busy_says_so() {
    for refused in [PublishRefused::Overloaded, PublishRefused::Unavailable] {
        let mut client = client(app());
        client.send(&frame("client-x", "private-a", json!(1)));
        let (request_id, _) = client.asked();
        client.session.published(&mut client.tester.context(), request_id, Err(refused));
        error(&client.frames(), json!(4301));
        assert_eq!(client.ended(), None);
    }
}
