//! What a publish leaves behind, and who receives it.

use std::time::Duration;

use http::HeaderMap;
use tidings_bus::{Publication, PublishError};
use tidings_model::app::{App, AppLimits};
use tidings_model::event::Event;
use tidings_model::hook::FieldsFor;
use tidings_model::idempotency::IdempotencyKey;

use crate::kit::{TestNode, app, event, eventually};

fn in_channels(channels: &[&str], event: Event) -> Event {
    Event { channels: channels.iter().map(|&name| name.to_owned()).collect(), ..event }
}

fn with_key(key: &str, event: Event) -> Publication {
    let headers = HeaderMap::from_iter([("idempotency-key".parse().unwrap(), key.parse().unwrap())]);
    let idempotency = IdempotencyKey::of(&headers, &app(), &event.data.bytes, &[]).unwrap();
    Publication { idempotency, ..event.into() }
}

#[tokio::test]
async fn what_no_hook_names_is_received_and_not_logged() {
    let node = TestNode::start().await;
    let session = node.join("1", "news", None).await;
    let receipt = node.publish(in_channels(&["news"], event("e1", "box.opened", "1"))).await;
    assert_eq!((receipt.id.as_str(), receipt.logged, receipt.durable, receipt.deliveries), ("e1", false, false, 0));
    assert_eq!(receipt.channels.len(), 1);
    assert_eq!(session.events(&node).await, [("e1".to_owned(), "1".to_owned())]);
    assert_eq!(node.logged("e1").await, None);
}

#[tokio::test]
async fn what_a_hook_names_is_logged_whether_or_not_a_listener_wants_it() {
    let node = TestNode::start().await;
    node.hook("box.opened", None, FieldsFor::All).await;
    let session = node.join("1", "news", None).await;
    let receipt = node.publish(in_channels(&["news"], event("e1", "box.opened", "1"))).await;
    assert_eq!((receipt.logged, receipt.deliveries, receipt.repeated), (true, 0, false));
    assert_eq!(node.logged("e1").await.as_deref(), Some("1"));
    node.listen("one", &["box.opened"], "{}").await;
    node.listen("two", &["box.*"], "{}").await;
    node.listen("other", &["box.*"], r#"{"size": "large"}"#).await;
    assert_eq!(node.publish(event("e2", "box.opened", "2")).await.deliveries, 2);
    assert_eq!(node.destinations_of("e1").await, [""; 0]);
    assert_eq!(node.destinations_of("e2").await, ["one", "two"]);
    // The second was in no channel.
    assert_eq!(session.events(&node).await, [("e1".to_owned(), "1".to_owned())]);
}

#[tokio::test]
async fn a_repeat_is_answered_like_the_first_and_changes_nothing() {
    let node = TestNode::start().await;
    let session = node.join("1", "news", None).await;
    let publish = |key: &str, id: &str, data: &str| {
        node.bus().publish(with_key(key, in_channels(&["news"], event(id, "no.hook", data))))
    };
    // Without a hook too: the log is where the key is remembered.
    let first = publish("k", "e1", "1").await.unwrap();
    assert_eq!((first.logged, first.repeated), (true, false));
    let again = publish("k", "e2", "1").await.unwrap();
    assert_eq!((again.id.as_str(), again.repeated, again.channels.len()), ("e1", true, 0));
    assert_eq!(publish("k", "e3", "2").await.unwrap_err(), PublishError::KeyTaken);
    assert_eq!(publish("other", "e1", "2").await.unwrap_err(), PublishError::IdTaken);
    assert_eq!(session.events(&node).await, [("e1".to_owned(), "1".to_owned())]);
    node.clock.advance(Duration::from_secs(24 * 3_600 + 1));
    let later = node.bus().publish(with_key("k", event("e4", "no.hook", "1"))).await.unwrap();
    assert_eq!((later.id.as_str(), later.repeated), ("e4", false), "a key is remembered for a day");
}

#[tokio::test]
async fn an_id_names_one_event() {
    let node = TestNode::start().await;
    node.hook("box.opened", None, FieldsFor::All).await;
    node.listen("one", &["box.opened"], "{}").await;
    assert!(!node.publish(event("e1", "box.opened", "1")).await.repeated);
    let again = node.publish(event("e1", "box.opened", "1")).await;
    assert_eq!((again.repeated, again.deliveries), (true, 1));
    let other = node.bus().publish(event("e1", "box.opened", "2").into()).await;
    assert_eq!(other.unwrap_err(), PublishError::IdTaken);
    assert_eq!(node.destinations_of("e1").await, ["one"]);
    assert_eq!(node.logged("e1").await.as_deref(), Some("1"));
}

#[tokio::test]
async fn reserved_names_are_the_servers_own() {
    let node = TestNode::start().await;
    node.listen("one", &["tidings.channel.occupied"], "{}").await;
    for name in ["tidings.channel.occupied", "tidings.test", "", "a\u{1}b"] {
        let refused = node.bus().publish(event("e1", name, "1").into()).await;
        assert!(matches!(refused, Err(PublishError::Name(_))), "{name}: {refused:?}");
    }
    assert_eq!(node.logged("e1").await, None);
}

#[tokio::test]
async fn a_hooks_fields_are_all_that_leaves() {
    let node = TestNode::start().await;
    let data = r#"{"a": 1.50, "secret": true}"#;
    for (name, fields_for) in [("for.all", FieldsFor::All), ("for.webhooks", FieldsFor::Webhooks)] {
        node.hook(name, Some(&["a"]), fields_for).await;
        node.listen(name, &[name], r#"{"a": 1.5}"#).await;
        // What does not leave is not matched.
        node.listen(&format!("{name}.blind"), &[name], r#"{"secret": true}"#).await;
    }
    let channels = ["open", "private-encrypted-x"];
    let open = node.join("1", channels[0], None).await;
    let encrypted = node.join("1", channels[1], None).await;

    node.publish(in_channels(&channels, event("e1", "for.all", data))).await;
    assert_eq!(node.destinations_of("e1").await, ["for.all"]);
    assert_eq!(node.logged("e1").await.as_deref(), Some(r#"{"a":1.50}"#));
    assert_eq!(open.events(&node).await[0].1, r#"{"a":1.50}"#);
    // Only the clients there can read it.
    assert_eq!(encrypted.events(&node).await[0].1, data);

    node.publish(in_channels(&channels, event("e2", "for.webhooks", data))).await;
    assert_eq!(node.destinations_of("e2").await, ["for.webhooks"]);
    assert_eq!(node.logged("e2").await.as_deref(), Some(data));
    assert_eq!(open.events(&node).await[0].1, data);

    let refused = node.bus().publish(in_channels(&channels, event("e3", "for.all", "[1]")).into()).await;
    assert!(matches!(refused, Err(PublishError::Fields { .. })), "{refused:?}");
    assert_eq!((node.logged("e3").await, open.events(&node).await.len()), (None, 0));
}

#[tokio::test]
async fn an_event_is_received_in_each_of_its_channels_but_by_the_session_that_caused_it() {
    let node = TestNode::start().await;
    let (first, second) = (node.join("1", "one", None).await, node.join("1", "two", None).await);
    let elsewhere = node.join("1", "three", None).await;
    let caused = Event { except: Some(first.id.to_string()), ..event("e1", "box.opened", "1") };
    let receipt = node.publish(in_channels(&["one", "two", "nobody"], caused)).await;
    assert_eq!(receipt.channels.len(), 3);
    assert!(!receipt.is_degraded());
    assert_eq!(first.events(&node).await, []);
    assert_eq!(second.events(&node).await.len(), 1);
    assert_eq!(elsewhere.events(&node).await, []);
}

#[tokio::test]
async fn one_channel_receives_what_is_published_in_its_order() {
    let node = TestNode::start().await;
    node.hook("logged", None, FieldsFor::All).await;
    let session = node.join("1", "news", None).await;
    let ids: Vec<String> = (0..50).map(|n| format!("e{n}")).collect();
    for (n, id) in ids.iter().enumerate() {
        let name = if n % 3 == 0 { "logged" } else { "not.logged" };
        node.publish(in_channels(&["news"], event(id, name, "1"))).await;
    }
    let received: Vec<_> = session.events(&node).await.into_iter().map(|(id, _)| id).collect();
    assert_eq!(received, ids);
}

#[tokio::test]
async fn an_app_publishes_so_many_events_a_second() {
    let limits = AppLimits { publishes_per_second: 3, ..AppLimits::default() };
    let node = TestNode::with(App { limits, ..App::new("1", "public", "secret".into()) }).await;
    let own = node.bus().apps().by_id("1").unwrap();
    let other = App { id: "2".into(), ..(*own).clone() };
    assert_eq!(node.bus().may_publish(&own, 2), Ok(()));
    assert_eq!(node.bus().may_publish(&own, 2), Err(1));
    assert_eq!(node.bus().may_publish(&own, 1), Ok(()));
    assert_eq!(node.bus().may_publish(&other, 3), Ok(()), "each app has its own");
    node.clock.advance(Duration::from_secs(1));
    assert_eq!(node.bus().may_publish(&own, 3), Ok(()));
    let unlimited = App { limits: AppLimits { publishes_per_second: 0, ..AppLimits::default() }, ..other };
    assert_eq!(node.bus().may_publish(&unlimited, 1_000_000), Ok(()));
}

#[tokio::test]
async fn a_test_goes_to_one_listener_whatever_it_wants() {
    let node = TestNode::start().await;
    node.hook("box.opened", None, FieldsFor::All).await;
    node.listen("one", &["box.opened"], r#"{"never": "so"}"#).await;
    node.listen("two", &["box.opened", "tidings.test"], "{}").await;
    let one = node.bus().catalogue().listener(&app(), "one").unwrap();
    for (id, name) in [("t1", "tidings.test"), ("t2", "box.opened")] {
        let receipt = node.bus().test(std::sync::Arc::clone(&one), event(id, name, "1")).await.unwrap();
        assert_eq!((receipt.logged, receipt.deliveries), (true, 1), "{name}");
        assert_eq!(node.destinations_of(id).await, ["one"], "{name}");
    }
}

#[tokio::test]
async fn nothing_is_attempted_before_its_time() {
    let node = TestNode::start().await;
    node.hook("box.opened", None, FieldsFor::All).await;
    node.listen("one", &["box.opened"], "{}").await;
    // Times of people are on the wall clock, schedules on the steady one.
    node.clock.jump_wall(-3_600_000);
    let not_before = Some(node.now() - 3_600_000 + 60_000);
    let publication = Publication { not_before, ..event("e1", "box.opened", "1").into() };
    node.bus().publish(publication).await.unwrap();
    assert_eq!(node.deliveries_of("1").await[0].due, Some(node.now() + 60_000));
}

#[tokio::test]
async fn a_publish_that_has_begun_is_finished_without_its_caller() {
    let node = TestNode::start().await;
    node.hook("box.opened", None, FieldsFor::All).await;
    node.listen("one", &["box.opened"], "{}").await;
    let session = node.join("1", "news", None).await;
    let publish = node.bus().publish(in_channels(&["news"], event("e1", "box.opened", "1")).into());
    assert!(tokio::time::timeout(Duration::ZERO, publish).await.is_err(), "the caller is to go first");
    eventually("it is to be logged", || async { node.destinations_of("e1").await == ["one"] }).await;
    eventually("it is to be received", || async { session.events(&node).await.len() == 1 }).await;
}
