//! Apps that are made, changed and removed while the server runs.

use serde_json::{Value, json};
use tidings_testkit::{Api, Cluster, PusherApp, Receiver, Server, eventually, server, tidings};

use crate::kit::{APPS, SOON, closed, configured, everywhere, heard_nothing, still_serves};
use crate::nodes::node_of;

/// Makes an app; returns the answer to the operator.
async fn made(operator: &Api, spec: Value) -> Value {
    operator.post("/v1/apps", spec).await.expect_status(201).json
}

fn pusher(server: &Server, app: &Value) -> PusherApp {
    server.pusher_app(text(app, "id"), text(app, "key"), text(app, "secret"))
}

fn text<'a>(app: &'a Value, field: &str) -> &'a str {
    app[field].as_str().unwrap_or_else(|| panic!("no {field} in {app}"))
}

// covers: T05
#[tokio::test]
async fn an_app_serves_from_the_answer_on_until_it_is_disabled_or_gone() {
    let server = server().start().await;
    let operator = server.operator();
    let app = made(&operator, json!({})).await;
    assert_eq!((text(&app, "id"), text(&app, "source")), ("2", "store"), "the next number, as libraries insist on one");
    let key = app["api_keys"][0].as_str().unwrap();
    let api = Api::new(&server.url, key);
    // What its sessions are on is not always what has made it.
    api.get("/v1/hooks").await.expect_status(200);
    everywhere(&server, key, "/v1/hooks", 200).await;
    let its = pusher(&server, &app);
    still_serves(&its).await;
    api.post("/v1/hooks", json!({"name": "e"})).await.expect_status(201);
    // Its secrets were shown once.
    let shown = operator.get("/v1/apps/2").await.expect_status(200).json;
    assert!(shown.get("secret").is_none() && shown.get("api_keys").is_none(), "{shown}");

    let mut session = its.connect().await;
    operator.patch("/v1/apps/2", json!({"enabled": false})).await.expect_status(200);
    assert_eq!(closed(&mut session).await, 4003);
    everywhere(&server, key, "/v1/hooks", 403).await;
    let refused = its.session().try_connect().await.unwrap_err();
    assert!(format!("{refused:?}").contains("4003"), "{refused:?}");
    its.trigger(&["c"], "e", "1").await.expect_status(403);
    api.get("/v1/hooks").await.expect_status(403);
    operator.patch("/v1/apps/2", json!({"enabled": true})).await.expect_status(200);
    everywhere(&server, key, "/v1/hooks", 200).await;
    still_serves(&its).await;
    api.get("/v1/hooks/e").await.expect_status(200);

    let mut session = its.connect().await;
    operator.delete("/v1/apps/2").await.expect_status(204);
    assert_eq!(closed(&mut session).await, 4003);
    api.get("/v1/hooks").await.expect_status(401);
    operator.get("/v1/apps/2").await.expect_status(404);
    // Whoever gets its id gets nothing of it.
    let next = made(&operator, json!({"id": "2"})).await;
    let api = Api::new(&server.url, next["api_keys"][0].as_str().unwrap());
    api.get("/v1/hooks/e").await.expect_status(404);
    still_serves(&server.pusher()).await;
}

// covers: T05
#[tokio::test]
async fn apps_survive_a_restart_and_limits_hold_at_once() {
    let mut server = server().start().await;
    let spec =
        json!({"id": "shop", "key": "shop-key", "limits": {"sessions": 1, "payload": "1KiB"}, "client_events": false});
    let app = made(&server.operator(), spec).await;
    server.restart().await;
    let operator = server.operator();
    let its = pusher(&server, &app);
    let mut first = its.connect().await;
    let refused = its.session().try_connect().await.unwrap_err();
    assert!(format!("{refused:?}").contains("4100"), "{refused:?}");
    its.trigger(&["c"], "e", &"x".repeat(2_000)).await.expect_status(413);
    // A session that was there comes back and finds the app as it is now.
    operator.patch("/v1/apps/shop", json!({"limits": {"payload": null}})).await.expect_status(200);
    assert_eq!(closed(&mut first).await, 4200);
    its.trigger(&["c"], "e", &"x".repeat(2_000)).await.expect_status(200);
    let shown = operator.get("/v1/apps/shop").await.expect_status(200).json;
    assert_eq!((&shown["limits"]["sessions"], &shown["limits"]["payload"]), (&json!(1), &json!(10_240)));
}

// covers: T05
#[tokio::test]
async fn what_could_mean_two_apps_or_is_the_configs_is_refused() {
    let server = configured("[admin]\noperator_key = \"operator-key-for-these-tests\"\n", "").start().await;
    let operator = Api::new(&server.url, "operator-key-for-these-tests");
    let [one, two] = APPS;
    for (spec, field) in [
        (json!({"id": one.id}), "id"),
        (json!({"key": one.key()}), "key"),
        (json!({"api_keys": [two.api_key()]}), "API key"),
    ] {
        let refused = operator.post("/v1/apps", spec).await.expect_status(409);
        assert!(refused.text().contains(field), "{}", refused.text());
        assert!(!refused.text().contains(&two.api_key()), "a key is shown");
    }
    let shop = made(&operator, json!({"hosts": ["shop.example"], "key": "shop"})).await;
    operator.post("/v1/apps", json!({"hosts": ["SHOP.example"]})).await.expect_status(409);
    for (path, change) in [("/v1/apps/1", json!({"enabled": false}))] {
        let refused = operator.patch(path, change).await.expect_status(409);
        assert!(refused.text().contains("config"), "{}", refused.text());
        operator.delete(path).await.expect_status(409);
    }
    for (spec, field) in [
        (json!({"limits": {"payload": 0}}), "limits.payload"),
        (json!({"secret": {"file": "/etc/passwd"}}), "secret"),
        (json!({"webhooks": [{"url": "nowhere", "events": ["channel_occupied"]}]}), "webhooks[0].url"),
        (json!({"webhooks": [{"url": "http://10.0.0.1/", "events": ["channel_occupied"]}]}), "webhooks[0].url"),
    ] {
        let refused = operator.post("/v1/apps", spec).await.expect_status(422);
        assert_eq!(refused["field"], field, "{}", refused.text());
    }
    let private = json!({"webhooks": [{"url": "http://[fd00::1]/", "events": ["channel_occupied"]}]});
    let refused = operator.patch(&format!("/v1/apps/{}", text(&shop, "id")), private).await.expect_status(422);
    assert_eq!((&refused["code"], &refused["field"]), (&json!("blocked_address"), &json!("webhooks[0].url")));
    // An app's key opens none of it.
    for api in [one.api(&server), Api::new(&server.url, "nobody")] {
        let status = if api.get("/v1/hooks").await.status == 200 { 403 } else { 401 };
        api.get("/v1/apps").await.expect_status(status);
        api.post("/v1/apps", json!({})).await.expect_status(status);
    }
    let all = operator.get("/v1/apps").await.expect_status(200).json;
    let ids: Vec<_> = all["data"].as_array().unwrap().iter().map(|app| app["source"].clone()).collect();
    assert_eq!(ids, [json!("config"), json!("config"), json!("store")]);
}

// covers: T05
#[tokio::test]
async fn the_command_line_makes_and_ends_apps() {
    let server = server().start().await;
    let run = async |words: &[&str]| tidings(&server).arg("app").args(words.iter().copied()).run().await;
    let spec = r#"{"channels":{"history_size":3},"limits":{"hooks":5}}"#;
    let flags =
        ["create", "--app-key", "shop", "--host", "shop.example", "--limit", "sessions=3,payload=2KiB", "--spec", spec];
    let made = run(&[&flags[..], &["--json"]].concat()).await.expect_code(0);
    let app: Value = serde_json::from_str(&made.stdout).unwrap();
    assert_eq!(
        (text(&app, "key"), &app["channels"]["history_size"], &app["hosts"][0]),
        ("shop", &json!(3), &json!("shop.example"))
    );
    assert_eq!(
        (&app["limits"]["sessions"], &app["limits"]["payload"], &app["limits"]["hooks"]),
        (&json!(3), &json!(2048), &json!(5))
    );
    everywhere(&server, app["api_keys"][0].as_str().unwrap(), "/v1/hooks", 200).await;
    still_serves(&pusher(&server, &app)).await;
    let listed = run(&["list"]).await.expect_code(0).stdout;
    assert!(listed.contains("shop.example") && listed.contains("config"), "{listed}");
    let id = text(&app, "id");
    run(&["update", id, "--origin", "https://shop.example"]).await.expect_code(0);
    run(&["disable", id]).await.expect_code(0);
    let shown = run(&["show", id]).await.expect_code(0).stdout;
    assert!(shown.contains("false") && !shown.contains(text(&app, "secret")), "{shown}");
    run(&["enable", id]).await.expect_code(0);
    run(&["delete", id]).await.expect_code(0);
    let refused = run(&["show", id]).await.expect_code(1).stderr;
    assert!(refused.contains("no app"), "{refused}");
    run(&["update", "1"]).await.expect_code(2);
    let refused = run(&["disable", "1"]).await.expect_code(1).stderr;
    assert!(refused.contains("config"), "{refused}");
}

// covers: T05, T04
#[tokio::test]
async fn on_every_node_an_app_is_there_within_a_second_and_apart_from_others() {
    let receiver = Receiver::start();
    let cluster = Cluster::new().await;
    let top = format!("[admin]\noperator_key = \"operator-key-for-these-tests\"\n{}", cluster.lines());
    let (first, second) = (node_of(&top, "").await, node_of(&top, "").await);
    let operator = Api::new(&first.url, "operator-key-for-these-tests");
    let webhooks = json!([{"url": receiver.url("/told"), "events": ["channel_occupied"]}]);
    let app = made(&operator, json!({"webhooks": webhooks})).await;
    let there = pusher(&second, &app);
    eventually(SOON, || async { there.session().try_connect().await.ok() }).await;
    let mut session = there.connect().await;
    session.subscribe("news").await;
    let mut other = APPS[0].pusher(&second).connect().await;
    other.subscribe("news").await;
    // What is said on the one is heard on the other, in this app alone.
    pusher(&first, &app).trigger(&["news"], "said", "1").await.expect_status(200);
    session.expect_on("said", "news", SOON).await;
    heard_nothing(&mut other, "said").await;
    let told = receiver.wait_for(1, |_| true, SOON).await;
    assert_eq!(told[0].header("x-pusher-key"), Some(text(&app, "key")));
    tidings_testkit::verify_with_pushers_libraries(&told, &there);
    let path = format!("/v1/apps/{}", text(&app, "id"));
    operator.patch(&path, json!({"enabled": false})).await.expect_status(200);
    assert_eq!(closed(&mut session).await, 4003, "on the node that was not asked");
    heard_nothing(&mut other, "pusher:error").await;
}
