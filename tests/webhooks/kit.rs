//! Shared by these tests: a server that may deliver to this machine, and helpers for what users do.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Value, json};
use tidings_testkit::{Api, Exit, Received, Server, ServerBuilder, eventually, server, tidings};

/// The timeout, on a busy machine, for what should happen at once.
pub(crate) const SOON: Duration = Duration::from_secs(30);

/// A server whose deliveries may go to this machine.
pub(crate) fn open() -> ServerBuilder {
    server().egress_allow("127.0.0.0/8")
}

/// A listener as its creator knows it.
#[derive(Debug, Clone)]
pub(crate) struct Listener {
    pub(crate) id: String,
    pub(crate) secret: String,
}

/// Makes a hook that sends all fields.
pub(crate) async fn hook(api: &Api, name: &str) {
    api.post("/v1/hooks", json!({"name": name})).await.expect_status(201);
}

/// Makes a listener.
pub(crate) async fn listener(api: &Api, fields: Value) -> Listener {
    let made = api.post("/v1/listeners", fields).await.expect_status(201);
    Listener { id: made.text_at("id"), secret: made.text_at("secret") }
}

/// Publishes and returns the event's id.
pub(crate) async fn publish(api: &Api, name: &str, data: Value) -> String {
    api.post("/v1/events", json!({"name": name, "data": data})).await.expect_status(202).text_at("id")
}

/// Every entry of a list, over all its pages.
pub(crate) async fn all(api: &Api, path: &str) -> Vec<Value> {
    let joint = if path.contains('?') { '&' } else { '?' };
    let mut found = Vec::new();
    let mut cursor = String::new();
    loop {
        let page = api.get(&format!("{path}{joint}limit=250{cursor}")).await.expect_status(200);
        found.extend(page["data"].as_array().expect("a list has data").iter().cloned());
        match page["next"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => return found,
        }
    }
}

/// The deliveries of an event, once none of them is pending.
pub(crate) async fn settled(api: &Api, event: &str) -> Vec<Value> {
    eventually(SOON, || async {
        let deliveries = all(api, &format!("/v1/deliveries?event={event}")).await;
        deliveries.iter().all(|delivery| delivery["state"] != "pending").then_some(deliveries)
    })
    .await
}

/// The only delivery of an event, once it is no longer pending.
pub(crate) async fn only_settled(api: &Api, event: &str) -> Value {
    let mut deliveries = settled(api, event).await;
    assert_eq!(deliveries.len(), 1, "{deliveries:?}");
    deliveries.remove(0)
}

/// Waits until no delivery is pending.
pub(crate) async fn nothing_pending(api: &Api) {
    eventually(SOON, || async {
        let page = api.get("/v1/deliveries?state=pending&limit=1").await.expect_status(200);
        page["data"].as_array().is_some_and(Vec::is_empty).then_some(())
    })
    .await;
}

/// The attempts of a delivery, oldest first.
pub(crate) async fn attempts(api: &Api, delivery: &Value) -> Vec<Value> {
    let id = delivery["id"].as_str().expect("a delivery has an id");
    let mut attempts = all(api, &format!("/v1/deliveries/{id}/attempts")).await;
    attempts.sort_by_key(|attempt| attempt["n"].as_u64());
    attempts
}

/// Waits until the event's only delivery has so many attempts, and returns both.
pub(crate) async fn attempted(api: &Api, event: &str, count: usize) -> (Value, Vec<Value>) {
    eventually(SOON, || async {
        let delivery = all(api, &format!("/v1/deliveries?event={event}")).await.into_iter().next()?;
        // Read in this order, the attempts are at least those that the delivery counts.
        let counted = delivery["attempts"].as_u64()? >= count as u64;
        let attempts = attempts(api, &delivery).await;
        counted.then_some((delivery, attempts))
    })
    .await
}

/// The `webhook-id`s that each path received, sorted.
pub(crate) fn told(received: &[Received]) -> BTreeMap<String, Vec<String>> {
    let mut told: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for request in received {
        let id = request.header("webhook-id").unwrap_or("(none)").to_owned();
        told.entry(request.path.clone()).or_default().push(id);
    }
    told.values_mut().for_each(|ids| ids.sort());
    told
}

/// Whether the `standardwebhooks` crate accepts the request, with this body instead of its own.
pub(crate) fn crate_accepts(request: &Received, body: &[u8], secret: &str) -> bool {
    standardwebhooks::Webhook::new(secret).expect("a secret").verify(body, &request.headers).is_ok()
}

/// Runs a command in the server's folder that must succeed.
pub(crate) async fn run(server: &Server, words: &[&str]) -> Exit {
    tidings(server).args(words.iter().copied()).run().await.expect_code(0)
}

/// The same with `--json`; returns what it printed.
pub(crate) async fn run_json(server: &Server, words: &[&str]) -> Value {
    let exit = tidings(server).args(words.iter().copied()).arg("--json").run().await.expect_code(0);
    serde_json::from_str(&exit.stdout).unwrap_or_else(|e| panic!("{words:?} printed no JSON ({e}): {}", exit.stdout))
}
