//! Two apps on one server: neither can read, change or find anything of the other.

use serde_json::{Value, json};
use tidings_testkit::{Api, Receiver, Server, server};

use crate::kit::{SOON, attempted, hook, listener, nothing_pending, publish};

const KEY_A: &str = "the-api-key-of-app-a-0001";
const KEY_B: &str = "the-api-key-of-app-b-0002";
const OPERATOR: &str = "the-key-of-the-operator-03";

async fn two_apps() -> Server {
    let config = format!(
        "[admin]\noperator_key = \"{OPERATOR}\"\n[egress]\nallow = [\"127.0.0.0/8\"]\n\
         [[apps]]\nid = \"a\"\nkey = \"key-a\"\nsecret = \"secret-a\"\napi_keys = [\"{KEY_A}\"]\ndefault = true\n\
         [[apps]]\nid = \"b\"\nkey = \"key-b\"\nsecret = \"secret-b\"\napi_keys = [\"{KEY_B}\"]\n\
         [[apps]]\nid = \"c\"\nkey = \"key-c\"\nsecret = \"secret-c\"\napi_keys = [\"the-api-key-of-app-c-0004\"]\n\
         doors = [\"pusher\"]\n"
    );
    server().config(config).start().await
}

fn empty(list: &Value) -> bool {
    list["data"].as_array().is_some_and(Vec::is_empty)
}

// covers: T01, T03
#[tokio::test]
async fn one_apps_key_sees_nothing_of_another_also_by_guessing_ids() {
    let receiver = Receiver::start();
    let server = two_apps().await;
    let (a, b) = (Api::new(&server.url, KEY_A), Api::new(&server.url, KEY_B));
    hook(&b, "person").await;
    let of_b = listener(&b, json!({"url": receiver.url("/b"), "hooks": ["person"]})).await;
    let event = publish(&b, "person", json!({"n": 1})).await;
    let (delivery, _) = attempted(&b, &event, 1).await;
    let delivery = delivery["id"].as_str().unwrap().to_owned();

    let listener_path = format!("/v1/listeners/{}", of_b.id);
    let delivery_path = format!("/v1/deliveries/{delivery}");
    for path in [
        "/v1/hooks/person",
        &listener_path,
        &delivery_path,
        &format!("{delivery_path}/attempts"),
        &format!("/v1/events/{event}"),
    ] {
        b.get(path).await.expect_status(200);
        let seen = a.get(path).await;
        assert_eq!(seen.status, 404, "{path}: {}", seen.text());
        // The same answer as for what nobody has, so that guessing tells nothing.
        let (last, other) = (path.rsplit('/').next().unwrap(), "lst_nothing");
        if path == listener_path {
            let nothing = a.get(&path.replace(last, other)).await;
            assert_eq!(seen.text().replace(last, other), nothing.text());
        }
    }
    for (path, body) in [
        (format!("{listener_path}/rotate_secret"), json!({})),
        (format!("{listener_path}/test"), json!({})),
        (format!("{delivery_path}/retry"), json!({})),
    ] {
        let refused = a.post(&path, body).await;
        assert_eq!(refused.status, 404, "{path}: {}", refused.text());
    }
    assert_eq!(a.patch(&listener_path, json!({"enabled": false})).await.status, 404);
    assert_eq!(a.patch("/v1/hooks/person", json!({"description": "mine"})).await.status, 404);
    assert_eq!(a.delete(&listener_path).await.status, 404);
    assert_eq!(a.delete("/v1/hooks/person").await.status, 404);
    for path in ["/v1/hooks", "/v1/listeners", "/v1/deliveries", "/v1/events"] {
        assert!(!empty(&b.get(path).await.json), "{path}: the test proves nothing");
        assert!(empty(&a.get(path).await.expect_status(200).json), "{path}");
    }
    for (filter, theirs, nobodys) in [("listener", &of_b.id, "lst_nothing"), ("event", &event, "evt_nothing")] {
        let seen = a.get(&format!("/v1/deliveries?{filter}={theirs}")).await;
        let nothing = a.get(&format!("/v1/deliveries?{filter}={nobodys}")).await;
        assert_eq!((seen.status, seen.text().replace(theirs, nobodys)), (nothing.status, nothing.text()), "{filter}");
        assert!(seen.status != 200 || empty(&seen.json), "{filter}: {}", seen.text());
    }
    // A cursor of b's list shows a nothing of b's.
    publish(&b, "person", json!({"n": 2})).await;
    let cursor = b.get("/v1/events?limit=1").await["next"].as_str().unwrap().to_owned();
    let seen = a.get(&format!("/v1/events?cursor={cursor}")).await;
    assert!(seen.status == 400 || empty(&seen.json), "{}", seen.text());
    // Nothing has changed by all this.
    nothing_pending(&b).await;
    assert_eq!(b.get(&listener_path).await["enabled"], true);
    assert_eq!(receiver.received_on("/b").len(), 2);
}

// covers: T01
#[tokio::test]
async fn the_same_names_and_ids_are_free_in_each_app() {
    let receiver = Receiver::start();
    let server = two_apps().await;
    let (a, b) = (Api::new(&server.url, KEY_A), Api::new(&server.url, KEY_B));
    for (api, app) in [(&a, "a"), (&b, "b")] {
        hook(api, "person").await;
        listener(api, json!({"url": receiver.url(&format!("/{app}")), "hooks": ["*"]})).await;
    }
    for (api, app) in [(&a, "a"), (&b, "b")] {
        let said = api
            .post("/v1/events", json!({"id": "same", "name": "person", "data": {"app": app}}))
            .header("idempotency-key", "same")
            .await
            .expect_status(202);
        assert_eq!((&said["id"], &said["deliveries"]), (&json!("same"), &json!(1)));
    }
    receiver.wait_for(2, |_| true, SOON).await;
    for app in ["a", "b"] {
        let own = receiver.received_on(&format!("/{app}"));
        assert_eq!(own.len(), 1);
        assert_eq!(own[0].json()["data"], json!({"app": app}));
    }
}

// covers: T01
#[tokio::test]
async fn who_has_no_key_or_the_wrong_one_is_told_so_and_no_more() {
    let server = two_apps().await;
    let none = Api::new(&server.url, "");
    for path in ["/v1/events", "/v1/hooks", "/a/a/v1/hooks", "/a/nothing/v1/hooks", "/v1/listeners/lst_1"] {
        let refused = none.get(path).await.expect_status(401);
        assert_eq!(refused["code"], "unauthorized", "{path}: {}", refused.text());
        assert!(refused.header("www-authenticate").is_some());
        assert_eq!(none.with_key("wrong").get(path).await.status, 401, "{path}");
    }
    let a = Api::new(&server.url, KEY_A);
    a.get("/a/a/v1/hooks").await.expect_status(200);
    let other = a.get("/a/b/v1/hooks").await;
    assert!(other.status == 403 || other.status == 404, "{}", other.text());
    // The operator's key opens each app, by its path, and the default one without.
    let operator = Api::new(&server.url, OPERATOR);
    hook(&Api::new(&server.url, KEY_B), "of-b").await;
    assert!(empty(&operator.get("/v1/hooks").await.expect_status(200).json));
    assert_eq!(operator.get("/a/b/v1/hooks").await.expect_status(200)["data"][0]["name"], "of-b");
    assert_eq!(operator.get("/a/nothing/v1/hooks").await.expect_status(404)["code"], "unknown_app");
    // A door that is not listed answers 404.
    assert_eq!(Api::new(&server.url, "the-api-key-of-app-c-0004").get("/v1/hooks").await.status, 404);
}
