//! A Django project with drf_model_pusher, with only the host changed.

use serde_json::{Value, json};
use tidings_testkit::{Client, DjangoShop, Receiver, server};

use crate::kit::SOON;

// covers: U19
#[tokio::test]
async fn changes_of_a_model_reach_browsers_and_webhooks() {
    let server = server().egress_allow("127.0.0.0/8").start().await;
    let app = server.pusher();
    let partner = Receiver::start();
    let api = server.api();
    api.post("/v1/hooks", json!({"name": "item.create"})).await.expect_status(201);
    api.post("/v1/listeners", json!({"url": partner.url("/in"), "hooks": ["item.create"]})).await.expect_status(201);
    let (alice, shop) = tokio::join!(Client::node(&server), DjangoShop::start(&server, &app));
    alice.connect(&app.person("alice")).await;
    alice.subscribe("private-shop").await;
    let item = shop.call("create", json!({"name": "a lamp"})).await;
    let told = async |event: &str| -> Value { alice.expect("private-shop", event).await["data"].clone() };
    assert_eq!(told("item.create").await, json!({"id": item["id"], "name": "a lamp"}));
    let changed = json!({"id": item["id"], "name": "a better lamp"});
    shop.call("update", changed.clone()).await;
    assert_eq!(told("item.update").await, changed);
    shop.call("delete", changed.clone()).await;
    assert_eq!(told("item.delete").await, changed);
    // The same event is a hook's, so it is on disk and reaches partners.
    let received = partner.wait_for(1, |_| true, SOON).await;
    assert_eq!(received[0].json()["data"], json!({"id": item["id"], "name": "a lamp"}));
}
