//! The example of the README of durian, our predecessor: through the API, and again with commands only.

use serde_json::json;
use tidings_testkit::{Receiver, Server, verify_with_official_clients};

use crate::kit::{Listener, SOON, crate_accepts, listener, nothing_pending, open, run, run_json, told};

/// Which people each listener should receive, by the listeners' paths.
const EXPECTED: [(&str, &[&str]); 3] =
    [("/all", &["Bob", "Jane", "Joe"]), ("/j", &["Jane", "Joe"]), ("/joe", &["Joe"])];

// covers: B8
#[tokio::test]
async fn the_readme_example_through_the_api() {
    let receiver = Receiver::start();
    let server = open().start().await;
    let api = server.api();
    api.post("/v1/hooks", json!({"name": "person", "fields": ["name", "address"]})).await.expect_status(201);
    let joe = json!({"url": receiver.url("/joe"), "hooks": ["person"], "match": {"name": "Joe"}});
    let j = json!({"url": receiver.url("/j"), "hooks": ["person"], "match": {"name": {"starts_with": "J"}}});
    let everyone = json!({"url": receiver.url("/all"), "hooks": ["person"]});
    let mut listeners = Vec::new();
    for (path, fields) in [("/joe", joe), ("/j", j), ("/all", everyone)] {
        listeners.push((path, listener(&api, fields).await));
    }
    for (name, deliveries) in [("Joe", 3), ("Jane", 2), ("Bob", 1)] {
        let person = json!({"name": name, "address": "foo", "secret": "do not tell"});
        let said = api.post("/v1/events", json!({"id": name, "name": "person", "data": person})).await;
        assert_eq!(said.expect_status(202)["deliveries"], deliveries, "{name}");
    }
    nothing_pending(&api).await;
    check(&server, &receiver, &listeners);
}

// covers: B8
#[tokio::test]
async fn the_readme_example_through_the_command_line_alone() {
    let receiver = Receiver::start();
    let server = open().start().await;
    run(&server, &["hook", "create", "person", "--field", "name", "--field", "address"]).await;
    let mut listeners = Vec::new();
    for (path, filter) in [("/joe", r#"{"name":"Joe"}"#), ("/j", r#"{"name":{"starts_with":"J"}}"#), ("/all", "{}")] {
        let url = receiver.url(path);
        let words = ["listener", "create", "--url", &url, "--hook", "person", "--match", filter];
        let made = run_json(&server, &words).await;
        let text = |field: &str| made[field].as_str().unwrap().to_owned();
        listeners.push((path, Listener { id: text("id"), secret: text("secret") }));
    }
    for (name, deliveries) in [("Joe", "3 deliveries"), ("Jane", "2 deliveries"), ("Bob", "1 delivery")] {
        let data = json!({"name": name, "address": "foo", "secret": "do not tell"}).to_string();
        let said = run(&server, &["publish", "--event", "person", "--id", name, "--data", &data]).await.stdout;
        assert!(said.contains(&format!("published {name}: on disk; {deliveries}")), "{said}");
    }
    tidings_testkit::eventually(SOON, || async {
        let pending = run_json(&server, &["delivery", "list", "--state", "pending"]).await;
        pending["data"].as_array()?.is_empty().then_some(())
    })
    .await;
    check(&server, &receiver, &listeners);
}

/// Asserts that exactly the right events came, without the secret field, and that every library verifies them.
fn check(server: &Server, receiver: &Receiver, listeners: &[(&str, Listener)]) {
    let received = receiver.received();
    let expected = EXPECTED.map(|(path, names)| (path.to_owned(), names.iter().map(|&n| n.to_owned()).collect()));
    assert_eq!(told(&received), expected.into(), "{}", server.stderr());
    for request in &received {
        assert!(!request.text().contains("secret") && !request.text().contains("do not tell"), "{}", request.text());
        let body = request.json();
        let id = request.header("webhook-id").unwrap();
        assert_eq!((&body["type"], &body["data"]), (&json!("person"), &json!({"name": id, "address": "foo"})));
        assert!(body["timestamp"].as_str().unwrap().ends_with('Z'), "{body}");
        assert_eq!(request.header("content-type"), Some("application/json"));
    }
    for (path, listener) in listeners {
        let own = receiver.received_on(path);
        verify_with_official_clients(&own, &listener.secret);
        assert!(own.iter().all(|request| crate_accepts(request, &request.body, &listener.secret)), "{listener:?}");
    }
    let (first, second) = (&listeners[0].1, &listeners[1].1);
    assert!(first.id != second.id && first.secret != second.secret, "each listener has its own: {first:?} {second:?}");
}
