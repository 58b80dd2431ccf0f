//! Apps in the store: what a change means to sessions, listeners and requests.

use serde_json::{Value, json};
use tidings_bus::{AppBy, AppsError, ManageError, Spec};
use tidings_live::CloseReason;
use tidings_model::delivery::DeliveryState;
use tidings_model::event::Event;
use tidings_model::hook::{FieldsFor, Hook};
use tidings_model::matcher::Match;

use crate::kit::{TestNode, event, eventually, hook, listener};
use crate::session::Session;

fn spec(value: Value) -> Spec {
    let Value::Object(spec) = value else { panic!("{value} is no object") };
    spec
}

async fn node_with(value: Value) -> TestNode {
    let node = TestNode::start().await;
    node.bus().create_app(spec(value)).await.unwrap();
    node
}

/// Waits until a session is ended, and says why.
async fn closing(session: &Session) -> CloseReason {
    eventually("the session is to be ended", || async { session.closing().is_some() }).await;
    session.closing().unwrap()
}

fn event_of(app: &str, id: &str) -> Event {
    Event { app: app.into(), channels: vec!["news".to_owned()], ..event(id, "box.opened", "1") }
}

#[tokio::test]
async fn an_app_is_served_once_it_is_created() {
    let node = node_with(json!({"key": "two"})).await;
    // The number after the highest.
    assert_eq!(node.bus().apps().find(AppBy::Key("two")).unwrap().id.as_str(), "2");
    let session = node.join("2", "news", None).await;
    node.publish(event_of("2", "e1")).await;
    assert_eq!(session.events(&node).await.len(), 1);
    let node = node.restart_after(|_| async {}).await;
    assert!(node.bus().apps().find(AppBy::Key("two")).is_some(), "the store keeps it");
}

#[tokio::test]
async fn what_could_mean_two_apps_or_none_is_refused() {
    let node = node_with(json!({"id": "two", "key": "two", "hosts": ["two.example"]})).await;
    let refused = async |value: Value| node.bus().create_app(spec(value)).await.unwrap_err();
    assert_eq!(refused(json!({"id": "two", "key": "k"})).await, ManageError::Exists("two".to_owned()));
    let same = refused(json!({"id": "three", "key": "public"})).await;
    assert!(matches!(same, ManageError::Apps(AppsError::SamePublicKey(..))), "{same:?}");
    let same = refused(json!({"id": "three", "key": "k", "hosts": ["TWO.example"]})).await;
    assert!(matches!(same, ManageError::Apps(AppsError::SameHost(_))), "{same:?}");
    assert!(matches!(refused(json!({"id": "three"})).await, ManageError::WrongApp(_)));
    assert_eq!(node.bus().apps().all().len(), 2);
    // One of the config is changed there.
    let fixed = node.bus().change_app("1", &spec(json!({"key": "k"}))).await;
    assert_eq!(fixed.unwrap_err(), ManageError::Fixed("1".to_owned()));
    assert_eq!(node.bus().delete_app("1").await, Err(ManageError::Fixed("1".to_owned())));
    assert_eq!(node.bus().delete_app("three").await, Err(ManageError::Missing("three".to_owned())));
}

#[tokio::test]
async fn a_change_sends_sessions_away_to_come_back_if_it_concerns_them() {
    let node = node_with(json!({"id": "two", "key": "two"})).await;
    let (session, other) = (node.join("two", "news", None).await, node.join("1", "news", None).await);
    // Which requests mean the app is nothing to those who are there.
    let change = json!({"hosts": ["two.example"]});
    node.bus().change_app("two", &spec(change)).await.unwrap();
    assert!(node.bus().apps().find(AppBy::Host("two.example")).is_some());
    node.publish(event_of("two", "e1")).await;
    assert_eq!(session.events(&node).await.len(), 1);
    assert_eq!(session.closing(), None);
    node.bus().change_app("two", &spec(json!({"key": "another"}))).await.unwrap();
    assert_eq!(closing(&session).await, CloseReason::GoingAway);
    assert!(node.bus().apps().find(AppBy::Key("two")).is_none());
    let session = node.join("two", "news", None).await;
    node.bus().change_app("two", &spec(json!({"enabled": false}))).await.unwrap();
    assert_eq!(closing(&session).await, CloseReason::Shut);
    assert_eq!(other.closing(), None);
}

#[tokio::test]
async fn an_app_goes_with_its_sessions_its_hooks_and_its_listeners() {
    let node = node_with(json!({"id": "two", "key": "two"})).await;
    let app = &"two".into();
    node.bus().create_hook(Hook { app: "two".into(), ..hook("box.opened", None, FieldsFor::All) }).await.unwrap();
    for n in 0..3 {
        let listener = listener("two", &format!("listener{n}"), &["box.opened"], Match::all());
        node.bus().create_listener(listener).await.unwrap();
    }
    let session = node.join("two", "news", None).await;
    assert_eq!(node.publish(event_of("two", "e1")).await.deliveries, 3);
    node.bus().delete_app("two").await.unwrap();
    assert_eq!(closing(&session).await, CloseReason::Shut);
    assert!(node.bus().apps().by_id("two").is_none());
    assert!(node.bus().catalogue().hook(app, "box.opened").is_none());
    assert!(node.bus().catalogue().listeners(app, None, 10, |_| true).data.is_empty());
    eventually("what it was owed is to be canceled", || async {
        let rows = node.deliveries_of("two").await;
        rows.len() == 3 && rows.iter().all(|row| row.state == DeliveryState::Canceled)
    })
    .await;
    // Another one may have its id, and has nothing of it.
    node.bus().create_app(spec(json!({"id": "two", "key": "two"}))).await.unwrap();
    assert!(!node.publish(event_of("two", "e2")).await.logged);
}

#[tokio::test]
async fn an_apps_webhooks_are_listeners_and_change_with_it() {
    let node =
        node_with(json!({"id": "two", "key": "two", "webhooks": ["http://a.example/", "http://b.example/"]})).await;
    let app = &"two".into();
    let urls = || {
        let listeners = node.bus().catalogue().listeners(app, None, 10, |_| true).data;
        let mut urls: Vec<_> = listeners.iter().map(|listener| listener.url.as_str().to_owned()).collect();
        urls.sort();
        urls
    };
    assert_eq!(urls(), ["http://a.example/", "http://b.example/"]);
    let id = node.bus().catalogue().listeners(app, None, 1, |_| true).data[0].id.clone();
    assert_eq!(node.bus().delete_listener(app, &id).await, Err(ManageError::OfApp(id.clone())));
    let session = node.join("two", "news", None).await;
    eventually("both are to be owed", || async { node.deliveries_of("two").await.len() == 2 }).await;
    let change = json!({"webhooks": ["http://b.example/", "http://c.example/"]});
    node.bus().change_app("two", &spec(change)).await.unwrap();
    assert_eq!(urls(), ["http://b.example/", "http://c.example/"]);
    // What a webhook that is no more was owed is nobody's; the other one's stays.
    eventually("one is to be canceled", || async {
        let rows = node.deliveries_of("two").await;
        rows.iter().filter(|row| row.state == DeliveryState::Canceled).count() == 1
            && rows.iter().filter(|row| row.state == DeliveryState::Pending).count() == 1
    })
    .await;
    assert_eq!(session.closing(), None);
}
