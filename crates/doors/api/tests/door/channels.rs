//! Channels: occupancy, members and history.

use serde_json::{Value, json};

use crate::kit::{OTHER_KEY, door, text};

#[tokio::test]
async fn channels_are_listed_by_name_page_by_page() {
    let door = door().await;
    let mut listening = Vec::new();
    for n in 0..12 {
        let mut stream = door.listen(&format!("channels=kept:{n:02}")).await;
        stream.reaches(|id| !id.is_empty()).await;
        listening.push(stream);
    }
    let mut another = door.listen("channels=kept:03,kept:zz").await;
    another.reaches(|id| !id.is_empty()).await;
    let all = door.all("/v1/channels", 5).await;
    assert_eq!(all.len(), 13);
    assert_eq!(
        (&all[3]["name"], &all[3]["subscriptions"], &all[3]["users"]),
        (&json!("kept:03"), &json!(2), &json!(0))
    );
    assert_eq!(all[3]["position"]["offset"], 0);
    let names = |list: Vec<Value>| list.iter().map(|channel| text(&channel["name"])).collect::<Vec<_>>();
    assert_eq!(names(door.all("/v1/channels?prefix=kept:1", 1).await), ["kept:10", "kept:11"]);
    assert_eq!(names(door.all("/v1/channels?prefix=none", 1).await), [""; 0]);
    assert_eq!(door.call(OTHER_KEY, "GET", "/v1/channels", "").await.ok(200)["data"], json!([]), "of another app");
    door.get("/v1/channels?prefx=a").await.refused(400, "invalid_request");
}

#[tokio::test]
async fn a_channel_shows_who_is_there_and_what_was_said() {
    let door = door().await;
    let token = door.post("/v1/tokens", json!({"sub": "u1", "info": {"name": "Ann"}})).await.ok(201);
    let mut stream = door.listen(&format!("channel=room:a/b&token={}", text(&token["token"]))).await;
    stream.reaches(|id| !id.is_empty()).await;
    for n in 1..=5 {
        let event = json!({"name": "n", "data": {"n": n}, "channels": ["room:a/b"], "id": format!("e{n}")});
        door.post("/v1/events", event).await.ok(202);
    }
    let shown = door.get("/v1/channels/room:a%2Fb").await.ok(200);
    assert_eq!(
        (&shown["name"], &shown["subscriptions"], &shown["users"], &shown["position"]["offset"]),
        (&json!("room:a/b"), &json!(1), &json!(1), &json!(5))
    );
    assert_eq!(shown["members"], json!([{"user": "u1", "info": {"name": "Ann"}}]));
    assert_eq!(shown.get("history"), None);
    let shown = door.get("/v1/channels/room:a%2Fb?history=2").await.ok(200);
    let newest = json!({"offset": 5, "id": "e5", "name": "n", "data": {"n": 5}, "time": "2026-11-21T09:56:40.000Z"});
    assert_eq!((shown["history"].as_array().unwrap().len(), &shown["history"][0]), (2, &newest));
    assert_eq!(shown["history"][1]["id"], "e4");

    let empty = door.get("/v1/channels/nobody").await.ok(200);
    assert_eq!(empty, json!({"name": "nobody", "subscriptions": 0, "users": 0, "position": null}));
    assert_eq!(door.get("/v1/channels/presence-x?history=1").await.ok(200)["members"], json!([]));
    for bad in ["history=0", "history=251", "history=x", "limit=1"] {
        door.get(&format!("/v1/channels/nobody?{bad}")).await.refused(400, "invalid_request");
    }
}
