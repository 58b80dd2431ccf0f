//! Lists: every page is bounded in rows and in bytes, and together they are the list.

use serde_json::{Value, json};
use tidings_testkit::{Answer, Receiver, eventually};

use crate::kit::{Door, OPERATOR, SOON, door, door_with, text};

/// The most bytes of a page: its items, and 1000 for commas and the cursor. An item that does not fit is not in it.
const PAGE: usize = (1 << 20) + 1_000;

/// Every page of a list with the largest limit, and the pages' sizes.
async fn pages(door: &Door, key: &str, path: &str) -> (Vec<Value>, Vec<usize>) {
    let (mut all, mut sizes, mut cursor) = (Vec::new(), Vec::new(), String::new());
    loop {
        let answer = door.call(key, "GET", &format!("{path}?limit=250{cursor}"), "").await;
        let page = answer.ok(200);
        let data = page["data"].as_array().unwrap();
        assert!(!data.is_empty() && data.len() <= 250, "{path}: {} rows", data.len());
        sizes.push(answer.text.len());
        all.extend(data.iter().cloned());
        match page["next"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => return (all, sizes),
        }
    }
}

#[track_caller]
fn assert_bounded(sizes: &[usize], least: usize) {
    assert!(sizes.iter().all(|size| *size <= PAGE), "{sizes:?}");
    assert!(sizes.len() >= least, "{sizes:?}: too little to be more than a page");
}

const KEY: &str = crate::kit::KEY;

// covers: G031
#[tokio::test]
async fn hooks_and_listeners_page_by_bytes() {
    let door = door().await;
    let filler = "x".repeat(60_000);
    for n in 0..40 {
        let hook = json!({"name": format!("h{n:02}"), "schema": {"description": filler}});
        door.post("/v1/hooks", hook).await.ok(201);
    }
    let (all, sizes) = pages(&door, KEY, "/v1/hooks").await;
    let names: Vec<String> = all.iter().map(|hook| text(&hook["name"])).collect();
    assert_eq!(names, (0..40).map(|n| format!("h{n:02}")).collect::<Vec<_>>());
    assert_bounded(&sizes, 3);

    let hooks: Vec<String> = (0..40).map(|n| format!("h{n:02}")).collect();
    for n in 0..150 {
        let url = format!("http://127.0.0.1:9/{}", "p".repeat(1_900));
        let headers: serde_json::Map<String, Value> =
            (0..10).map(|n| (format!("x-{n}"), Value::from("v".repeat(10)))).collect();
        let listener = json!({"url": url, "hooks": hooks, "headers": headers, "owner": format!("{n:03}"),
            "match": {"a": {"like": "y".repeat(900)}, "description": {"is": "z".repeat(7_000)}}});
        door.post("/v1/listeners", listener).await.ok(201);
    }
    let (all, sizes) = pages(&door, KEY, "/v1/listeners").await;
    let owners: Vec<String> = all.iter().map(|listener| text(&listener["owner"])).collect();
    assert_eq!(owners, (0..150).map(|n| format!("{n:03}")).collect::<Vec<_>>());
    assert_bounded(&sizes, 2);
    let (all, _) = pages(&door, OPERATOR, "/v1/apps").await;
    assert_eq!(all.len(), 3);
}

// covers: G031
#[tokio::test]
async fn the_log_pages_by_bytes_and_has_one_event_at_least() {
    let limits = tidings_model::app::AppLimits { payload: 3 << 20, ..tidings_model::app::AppLimits::default() };
    let door = door_with(limits).await;
    door.hook("h").await;
    for (n, bytes) in [400_000, 2_000_000, 400_000, 400_000, 400_000].into_iter().enumerate() {
        let event = json!({"name": "h", "id": format!("e{n}"), "data": "d".repeat(bytes)});
        door.post("/v1/events", event).await.ok(202);
    }
    let (all, sizes) = pages(&door, KEY, "/v1/events").await;
    let ids: Vec<String> = all.iter().map(|event| text(&event["id"])).collect();
    assert_eq!(ids, ["e4", "e3", "e2", "e1", "e0"]);
    assert_eq!(sizes.len(), 4, "{sizes:?}");
    assert!(sizes.iter().filter(|size| **size > PAGE).count() == 1, "only the large one is larger: {sizes:?}");
}

// covers: G031, G032
#[tokio::test]
async fn attempts_page_by_bytes_whatever_was_answered() {
    let receiver = Receiver::start();
    // In JSON, each of these would take six.
    receiver.respond_otherwise(Answer::status(500).body("\u{1}".repeat(20_000)));
    let door = door().await;
    door.hook("h").await;
    let schedule = vec!["0s"; 50];
    door.listener(json!({"url": receiver.url("/"), "hooks": ["h"], "schedule": schedule})).await;
    door.post("/v1/events", json!({"name": "h", "id": "e"})).await.ok(202);
    let id = text(&door.all("/v1/deliveries?event=e", 5).await[0]["id"]);
    eventually(SOON * 6, || async {
        let delivery = door.get(&format!("/v1/deliveries/{id}")).await.ok(200);
        (delivery["state"] == "undelivered").then_some(())
    })
    .await;
    let path = format!("/v1/deliveries/{id}/attempts");
    let (all, sizes) = pages(&door, KEY, &path).await;
    let numbers: Vec<u64> = all.iter().map(|attempt| attempt["n"].as_u64().unwrap()).collect();
    assert_eq!(numbers, (1..=50).collect::<Vec<_>>());
    assert_bounded(&sizes, 2);
    assert_eq!(all[49]["response_body"], "\u{fffd}".repeat(16 * 1024));
    assert_eq!(door.all(&path, 7).await.len(), 50);
    door.get(&format!("{path}?limit=251")).await.refused(400, "invalid_request");
    door.get(&format!("{path}?cursor=ZTp4")).await.refused(400, "invalid_request");
    door.get("/v1/deliveries/dlv_x/attempts?limit=1").await.refused(404, "not_found");
}

// covers: G031
#[tokio::test]
async fn a_channels_members_and_history_have_pages() {
    let door = door().await;
    let mut streams = Vec::new();
    for n in 0..7 {
        let token = door.post("/v1/tokens", json!({"sub": format!("u{n}")})).await.ok(201);
        let mut stream = door.listen(&format!("channel=room:a&token={}", text(&token["token"]))).await;
        stream.reaches(|id| !id.is_empty()).await;
        streams.push(stream);
    }
    for n in 1..=3 {
        let event = json!({"name": "n", "data": n, "channels": ["room:a"], "id": format!("e{n}")});
        door.post("/v1/events", event).await.ok(202);
    }
    let users = |all: Vec<Value>| all.iter().map(|member| text(&member["user"])).collect::<Vec<_>>();
    let expected: Vec<String> = (0..7).map(|n| format!("u{n}")).collect();
    for limit in [1, 3, 7, 250] {
        assert_eq!(users(door.all("/v1/channels/room:a/members", limit).await), expected);
        let past: Vec<u64> = door
            .all("/v1/channels/room:a/history", limit)
            .await
            .iter()
            .map(|e| e["offset"].as_u64().unwrap())
            .collect();
        assert_eq!(past, [3, 2, 1], "by {limit}");
    }
    // What is shown with the channel goes on where it ends.
    let shown = door.get("/v1/channels/room:a?history=2").await.ok(200);
    assert_eq!(shown.get("members_next"), None);
    let next = text(&shown["history_next"]);
    let rest = door.get(&format!("/v1/channels/room:a/history?cursor={next}")).await.ok(200);
    assert_eq!((rest["data"].as_array().unwrap().len(), &rest["data"][0]["offset"]), (1, &json!(1)));
    assert_eq!(door.get("/v1/channels/kept:nobody/members").await.ok(200), json!({"data": [], "next": null}));
    door.get(&format!("/v1/channels/room:a/members?cursor={next}")).await.refused(400, "invalid_request");
}
