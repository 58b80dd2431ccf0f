//! Publishing events.

use axum::body::Body;
use http::Request;
use serde_json::{Value, json};

use tidings_model::app::AppLimits;

use crate::kit::{Door, door, door_with};

fn frame(name: &str, channel: &str, data: &str) -> String {
    format!(r#"{{"event":"{name}","channel":"{channel}","data":{}}}"#, Value::from(data))
}

async fn with(channels: &[&str]) -> Door {
    let door = door().await;
    for channel in channels {
        door.join(channel, channel.starts_with("presence-").then_some("u")).await;
    }
    door
}

#[tokio::test]
async fn pushers_own_example_is_published() {
    let door = with(&["project-3"]).await;
    let body = r#"{"name":"foo","channels":["project-3"],"data":"{\"some\":\"data\"}"}"#;
    let query = "body_md5=ec365a775a4cd0599faeb73354201b6f&auth_version=1.0&auth_key=278d425bdf160c739803&\
        auth_timestamp=1353088179&\
        auth_signature=da454824c97ba181a32ccc17a72625ba02771f50b50e1e7430e47a1f3f457e6c";
    let request = Request::post(format!("/apps/3/events?{query}")).body(Body::from(body)).unwrap();
    assert_eq!(door.send(request).await.ok(), "{}");
    assert_eq!(door.frames().await, [frame("foo", "project-3", r#"{"some":"data"}"#)]);
}

#[tokio::test]
async fn data_arrives_byte_for_byte() {
    let door = with(&["a"]).await;
    let table = [
        (json!("plain"), "plain"),
        (json!(""), ""),
        (json!("{\"a\" : 1.50,\n\"ü\":\"\\u00fc\"}"), "{\"a\" : 1.50,\n\"ü\":\"\\u00fc\"}"),
        (json!({"a": [1, null]}), r#"{"a":[1,null]}"#),
        (json!(5), "5"),
        (json!("x".repeat(100)), &"x".repeat(100)),
    ];
    for (data, expected) in table {
        door.post("/events", json!({"name": "e", "channel": "a", "data": data})).await.ok();
        assert_eq!(door.frames().await, [frame("e", "a", expected)]);
    }
}

#[tokio::test]
async fn channels_come_one_or_many_and_each_is_told_once() {
    let door = with(&["a", "b", "#server-to-user-u"]).await;
    let event = |change: Value| {
        let mut event = json!({"name": "e", "data": "1"});
        event.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
        event
    };
    door.post("/events", event(json!({"channel": "a"}))).await.ok();
    assert_eq!(door.frames().await, [frame("e", "a", "1")]);
    door.post("/events", event(json!({"channels": ["b", "a", "b"], "channel": "a"}))).await.ok();
    assert_eq!(door.frames().await, [frame("e", "a", "1"), frame("e", "b", "1")]);
    door.post("/events", event(json!({"channels": ["#server-to-user-u"]}))).await.ok();
    assert_eq!(door.frames().await, [frame("e", "#server-to-user-u", "1")]);
    let hundred: Vec<_> = (0..100).map(|n| format!("c{n}")).collect();
    door.post("/events", event(json!({"channels": hundred}))).await.ok();
    let more: Vec<_> = (0..101).map(|n| format!("c{n}")).collect();
    let answer = door.post("/events", event(json!({"channels": more}))).await;
    assert_eq!(answer.refused(400), "Cannot trigger to more than 100 channels at a time");
}

#[tokio::test]
async fn the_socket_that_caused_it_is_left_out() {
    let door = door().await;
    let other = door.join("a", None).await;
    let session = door.join("a", None).await;
    let event = |socket: &str| json!({"name": "e", "channels": ["a"], "data": "1", "socket_id": socket});
    door.post("/events", event(&session.to_string())).await.ok();
    assert_eq!(door.said().await, [(frame("e", "a", "1"), vec![other])]);
    // Of another server, or of none: nobody is left out.
    for stranger in ["99999999999999999999999999.1", ""] {
        door.post("/events", event(stranger)).await.ok();
        assert_eq!(door.said().await, [(frame("e", "a", "1"), vec![other, session])]);
    }
    for bad in ["1", "1.", "a.b", "1.2.3", "1.2\n", "-1.2"] {
        assert!(door.post("/events", event(bad)).await.refused(400).starts_with("Invalid socket id"), "{bad}");
    }
    assert!(door.said().await.is_empty());
}

#[tokio::test]
async fn a_publisher_can_ask_who_was_there() {
    let door = door().await;
    door.join("pub", None).await;
    door.join("presence-a", Some("u")).await;
    door.join("presence-a", Some("u")).await;
    let ask = async |info: &str| {
        let event = json!({"name": "e", "channels": ["pub", "presence-a", "presence-b"], "data": "1", "info": info});
        serde_json::from_str::<Value>(door.post("/events", event).await.ok()).unwrap()
    };
    assert_eq!(
        ask("user_count,subscription_count").await,
        json!({"channels": {
            "pub": {"subscription_count": 1},
            "presence-a": {"user_count": 1, "subscription_count": 2},
            "presence-b": {"user_count": 0, "subscription_count": 0},
        }})
    );
    assert_eq!(
        ask("user_count").await,
        json!({"channels": {"pub": {}, "presence-a": {"user_count": 1}, "presence-b": {"user_count": 0}}})
    );
}

#[tokio::test]
async fn a_batch_is_published_in_its_order() {
    let door = with(&["a", "b"]).await;
    let one = |channel: &str, data: &str| json!({"name": "e", "channel": channel, "data": data});
    let batch = json!({"batch": [one("a", "1"), one("b", "2"), one("a", "3")]});
    assert_eq!(door.post("/batch_events", batch).await.ok(), "{}");
    assert_eq!(door.frames().await, [frame("e", "a", "1"), frame("e", "b", "2"), frame("e", "a", "3")]);
    let mut asking = one("b", "5");
    asking["info"] = json!("subscription_count");
    let batch = json!({"batch": [one("a", "4"), asking]});
    assert_eq!(door.post("/batch_events", batch).await.ok(), r#"{"batch":[{},{"subscription_count":1}]}"#);
    assert_eq!(door.frames().await.len(), 2);
    assert_eq!(door.post("/batch_events", json!({"batch": []})).await.ok(), "{}");
    assert_eq!(door.post("/batch_events", json!({"batch": vec![one("a", "6"); 10]})).await.ok(), "{}");
    assert_eq!(door.frames().await.len(), 10);
}

#[tokio::test]
async fn of_a_batch_with_a_fault_nothing_is_published() {
    let door = with(&["a"]).await;
    let one = json!({"name": "e", "channel": "a", "data": "1"});
    let large = json!({"name": "e", "channel": "a", "data": "x".repeat(101)});
    let answer = door.post("/batch_events", json!({"batch": vec![one.clone(); 11]})).await;
    assert!(answer.refused(400).contains("Batch too large"));
    let answer = door.post("/batch_events", json!({"batch": [one, large]})).await;
    assert_eq!(
        answer.refused(413),
        "The data content of this event exceeds the allowed maximum (100 bytes). \
         See https://pusher.com/docs/channels/server_api/http-api#publishing-events for more info"
    );
    assert!(door.frames().await.is_empty());
}

#[tokio::test]
async fn a_repeat_with_the_same_idempotency_key_is_said_once() {
    let door = with(&["a"]).await;
    let event = |data: &str| json!({"name": "e", "channels": ["a"], "data": data, "info": "subscription_count"});
    let key = [("Idempotency-Key", "k1")];
    let first = door.post_with("/events", event("1"), &key).await;
    assert_eq!(door.frames().await.len(), 1);
    let again = door.post_with("/events", event("1"), &key).await;
    assert_eq!(first.ok(), again.ok());
    assert!(door.frames().await.is_empty());
    door.post_with("/events", event("2"), &key).await.refused(409);
    door.post_with("/events", event("1"), &[("Idempotency-Key", "")]).await.refused(400);

    let one = |data: &str| json!({"name": "e", "channel": "a", "data": data});
    let batch = json!({"batch": [one("1"), one("1")]});
    for said in [2, 0] {
        door.post_with("/batch_events", batch.clone(), &[("Idempotency-Key", "k2")]).await.ok();
        assert_eq!(door.frames().await.len(), said);
    }
}

#[tokio::test]
async fn what_is_missing_or_reserved_is_told() {
    let door = with(&["a"]).await;
    let table = [
        (json!({"channel": "a", "data": "1"}), "Missing required parameter: name"),
        (json!({"name": "", "channel": "a", "data": "1"}), "Missing required parameter: name"),
        (json!({"name": "e", "data": "1"}), "Missing required parameter: channels"),
        (json!({"name": "e", "channels": [], "data": "1"}), "Missing required parameter: channels"),
        (json!({"name": "e", "channel": "a"}), "Missing required parameter: data"),
        (json!({"name": "pusher:error", "channel": "a", "data": "1"}), "\"pusher:\" is reserved"),
        (json!({"name": "pusher_internal:x", "channel": "a", "data": "1"}), "\"pusher_internal:\" is reserved"),
        (json!({"name": "tidings.x", "channel": "a", "data": "1"}), "\"tidings.\" is reserved"),
        (json!({"name": "e", "channel": "a b", "data": "1"}), "Invalid channel name: \"a b\""),
        (json!({"name": "e", "channel": "#u", "data": "1"}), "Invalid channel name"),
        (json!([]), "Invalid body"),
        (json!(["e", ["a"], null, "1"]), "Invalid body"),
        (json!("x"), "Invalid body"),
    ];
    for (body, text) in table {
        let answer = door.post("/events", body.clone()).await;
        assert!(answer.refused(400).contains(text), "{body}: {}", answer.text);
    }
    for batch in [json!({"batch": [["e", null, "a", "1"]]}), json!({"batch": "x"}), json!([[]])] {
        assert!(door.post("/batch_events", batch).await.refused(400).contains("Invalid body"));
    }
    assert!(door.frames().await.is_empty());
}

#[tokio::test]
async fn parameters_may_be_in_the_query() {
    let door = with(&["a", "b"]).await;
    let params = [("name", "e"), ("channels[]", "a"), ("channels[]", "b"), ("data", "1")];
    let path = "/apps/3/events";
    assert_eq!(door.call_as("POST", path, path, &params, "", &[]).await.ok(), "{}");
    assert_eq!(door.frames().await, [frame("e", "a", "1"), frame("e", "b", "1")]);
}

#[tokio::test]
async fn the_deprecated_way_still_works() {
    let door = with(&["a"]).await;
    let path = "/apps/3/channels/a/events";
    let answer = door.call_as("POST", path, path, &[("name", "e")], "{\"x\": 1}", &[]).await;
    assert_eq!((answer.status.as_u16(), answer.text.as_str()), (202, "{}"));
    assert_eq!(door.frames().await, [frame("e", "a", "{\"x\": 1}")]);
    door.call_as("POST", path, path, &[], "{}", &[]).await.refused(400);
}

#[tokio::test]
async fn an_event_that_is_logged_has_the_bytes_that_came_and_canonical_channels() {
    let door = with(&["a"]).await;
    let event = json!({"name": "e", "channels": ["#server-to-user-u", "a"], "data": "{\"x\" : 1}"});
    door.post_with("/events", event, &[("Idempotency-Key", "k")]).await.ok();
    let app = "3".into();
    let filter = tidings_store::log::EventFilter { limit: 10, ..Default::default() };
    let logged = door.bus().events(&app, filter).await.unwrap().rows;
    assert_eq!(logged.len(), 1);
    assert_eq!(logged[0].event.data.as_json(), Some("{\"x\" : 1}"));
    assert_eq!(logged[0].event.channels, ["#u", "a"]);
}

#[tokio::test]
async fn an_apps_events_are_counted_whichever_call_brings_them() {
    let door = door_with(AppLimits { publishes_per_second: 3, ..AppLimits::default() }).await;
    let event = |channel: &str| json!({"name": "e", "channel": channel, "data": "d"});
    let batch = json!({"batch": [event("a"), event("b")]});
    door.post("/batch_events", batch.clone()).await.ok();
    let refused = door.post("/batch_events", batch.clone()).await;
    assert_eq!(refused.refused(429), "Too many events: the app may publish 3 per second");
    assert_eq!(refused.headers["retry-after"], "1");
    door.post("/events", event("a")).await.ok();
    door.post("/events", event("a")).await.refused(429);
    door.clock.advance(std::time::Duration::from_secs(1));
    door.post("/batch_events", batch).await.ok();
}
