//! Shared by the scenarios: publishing numbered events, reading the numbers back, and waiting until no delivery is
//! pending.

use std::collections::HashMap;
use std::time::Duration;

use serde_json::{Value, json};
use tidings_testkit::{Api, Received, Reply, Server, ServerBuilder, eventually, server};

/// The timeout for what takes only a moment, on a busy machine.
pub(crate) const SOON: Duration = Duration::from_secs(20);
/// How long all pending deliveries may take to arrive.
pub(crate) const LATER: Duration = Duration::from_secs(90);

/// A server that may deliver to this machine.
pub(crate) fn local() -> ServerBuilder {
    server().egress_allow("127.0.0.0/8")
}

/// Makes a hook.
pub(crate) async fn hook(api: &Api, name: &str) {
    api.post("/v1/hooks", json!({"name": name})).await.expect_status(201);
}

/// Makes a listener; answers its id.
pub(crate) async fn listener(api: &Api, body: Value) -> String {
    api.post("/v1/listeners", body).await.expect_status(201).text_at("id")
}

/// Publishes event number `n`, whose id is `e-n`.
pub(crate) async fn publish(api: &Api, name: &str, n: u64) -> Reply {
    api.post("/v1/events", json!({"name": name, "id": format!("e-{n}"), "data": {"n": n}})).await
}

/// Publishes the events with these numbers, one after the other; each has to be acknowledged.
pub(crate) async fn publish_all(api: &Api, name: &str, numbers: impl IntoIterator<Item = u64>) {
    for n in numbers {
        publish(api, name, n).await.expect_status(202);
    }
}

/// The number of the event that a request delivers.
pub(crate) fn number(received: &Received) -> u64 {
    let body = received.json();
    body["data"]["n"].as_u64().unwrap_or_else(|| panic!("not one of ours: {body}"))
}

/// How often each number came.
pub(crate) fn counts(received: &[Received]) -> HashMap<u64, usize> {
    let mut counts = HashMap::new();
    for one in received {
        *counts.entry(number(one)).or_insert(0) += 1;
    }
    counts
}

/// Asserts that exactly these numbers came, each once.
#[track_caller]
pub(crate) fn assert_each_once(received: &[Received], numbers: impl IntoIterator<Item = u64>) {
    let mut came: Vec<u64> = received.iter().map(number).collect();
    came.sort_unstable();
    let wanted: Vec<u64> = numbers.into_iter().collect();
    assert_eq!(came, wanted, "each of the second list was to come exactly once; the first list came");
}

/// What `/readyz` says, with its status.
pub(crate) async fn readiness(server: &Server) -> Option<Reply> {
    server.api().get("/readyz").within(Duration::from_secs(10)).send().await.ok()
}

/// Waits until no delivery is pending and none is in flight.
pub(crate) async fn drained(server: &Server, deadline: Duration) {
    let nodes: Vec<_> = server.each_node().collect();
    let mut last = Vec::new();
    let begun = tokio::time::Instant::now();
    while begun.elapsed() < deadline {
        last.clear();
        for node in &nodes {
            last.push(node.get("/readyz").send().await.map_or(Value::Null, |reply| reply.json));
        }
        let nothing =
            |said: &Value| ["open_deliveries", "open_fanouts", "attempts_in_flight"].iter().all(|name| said[name] == 0);
        // An answer holds for a second: one of before may say what was so then.
        if last.iter().all(nothing) && begun.elapsed() > Duration::from_millis(1_500) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("something is still owed after {deadline:?}: {last:?}");
}

/// How many deliveries of a listener are in this state, as the API lists them.
pub(crate) async fn listed(api: &Api, listener: &str, state: &str) -> usize {
    let mut found = 0;
    let mut cursor = String::new();
    loop {
        let page = api.get(&format!("/v1/deliveries?listener={listener}&state={state}&limit=250{cursor}")).await;
        let page = page.expect_status(200);
        found += page["data"].as_array().map_or(0, Vec::len);
        match page["next"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => return found,
        }
    }
}

/// The only delivery of event `e-n`.
pub(crate) async fn delivery(api: &Api, n: u64) -> Value {
    let page = api.get(&format!("/v1/deliveries?event=e-{n}")).await.expect_status(200);
    match page["data"].as_array().map(Vec::as_slice) {
        Some([one]) => one.clone(),
        _ => panic!("event {n} has not exactly one delivery: {}", page.text()),
    }
}

/// Waits until the server's log holds `text` at least `times` times.
pub(crate) async fn logged(server: &Server, text: &str, times: usize) {
    eventually(SOON, || async { (server.stderr().matches(text).count() >= times).then_some(()) }).await;
}

/// Asserts a refusal by the store: 503, its code, `Retry-After`, and a remedy.
#[track_caller]
pub(crate) fn assert_refused(reply: &Reply, code: &str) {
    assert_eq!(reply.status, 503, "not 503 {code}: {} {}", reply.status, reply.text());
    assert_eq!(reply["code"], code, "{}", reply.text());
    assert_eq!(reply.header("content-type"), Some("application/problem+json"), "{}", reply.text());
    let seconds = reply.header("retry-after").and_then(|value| value.parse::<u64>().ok());
    assert!(seconds.is_some_and(|seconds| seconds > 0), "no time to come back: {:?}", reply.headers);
    assert!(reply["remedy"].as_str().is_some_and(|remedy| !remedy.is_empty()), "no remedy: {}", reply.text());
}
