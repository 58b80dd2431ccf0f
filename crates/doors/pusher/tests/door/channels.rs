//! Occupancy and presence of channels, and terminating users' connections.

use serde_json::json;

use crate::kit::door;

// covers: G302
#[tokio::test]
async fn channels_that_somebody_is_in_are_listed_by_name() {
    let door = door().await;
    for (channel, user) in [
        ("b", None),
        ("a", None),
        ("a", None),
        ("#server-to-user-u", None),
        // Other doors' names, which neither this one nor Pusher's libraries can ask about.
        ("chat:1", None),
        ("two words", None),
        ("$team", None),
        ("presence-x", Some("u")),
        ("presence-x", Some("v")),
    ] {
        door.join(channel, user).await;
    }
    // Something is kept of it, and nobody is in it.
    door.post("/events", json!({"name": "e", "channel": "cache-a", "data": "1"})).await.ok();
    assert_eq!(door.get("/channels", &[]).await.ok(), r#"{"channels":{"a":{},"b":{},"presence-x":{}}}"#);
    let with = async |params: &[(&str, &str)]| door.get("/channels", params).await.ok().to_owned();
    assert_eq!(with(&[("filter_by_prefix", "a")]).await, r#"{"channels":{"a":{}}}"#);
    assert_eq!(with(&[("filter_by_prefix", "zz")]).await, r#"{"channels":{}}"#);
    for prefix in ["#", "#server", "#server-to-user-", "#server-to-user-u"] {
        assert_eq!(
            with(&[("filter_by_prefix", prefix)]).await,
            r##"{"channels":{"#server-to-user-u":{}}}"##,
            "{prefix}"
        );
    }
    assert_eq!(with(&[("filter_by_prefix", "#u")]).await, r#"{"channels":{}}"#);
    assert_eq!(
        with(&[("filter_by_prefix", "a"), ("info", "subscription_count")]).await,
        r#"{"channels":{"a":{"subscription_count":2}}}"#
    );
    assert_eq!(
        with(&[("filter_by_prefix", "presence-"), ("info", "user_count,subscription_count")]).await,
        r#"{"channels":{"presence-x":{"user_count":2,"subscription_count":2}}}"#
    );
    let text = "user_count may only be requested for presence channels - please supply filter_by_prefix begining with \
        presence-";
    for params in [&[("info", "user_count")][..], &[("info", "user_count"), ("filter_by_prefix", "test_")]] {
        assert_eq!(door.get("/channels", params).await.refused(400), text);
    }
}

// covers: G033
#[tokio::test]
async fn more_channels_than_are_read_at_one_time_are_all_listed() {
    let door = door().await;
    for n in 0..2_001 {
        door.join(&format!("c{n:04}"), None).await;
    }
    let answer = door.get("/channels", &[]).await;
    let names: Vec<_> = answer.ok().matches("\"c").collect();
    assert_eq!(names.len(), 2_001 + 1, "with \"channels\" itself");
    assert!(answer.headers.get("content-length").is_none(), "the answer was held as a whole");
    let read: serde_json::Value = serde_json::from_str(answer.ok()).unwrap();
    assert_eq!(read["channels"].as_object().unwrap().len(), 2_001);
    // The last page read is empty, and so may be the one before it.
    door.join("z", None).await;
    for (prefix, count) in [("z", 1), ("c", 2_001), ("c1", 1_000), ("nothing", 0)] {
        let answer = door.get("/channels", &[("filter_by_prefix", prefix)]).await;
        let read: serde_json::Value = serde_json::from_str(answer.ok()).unwrap();
        assert_eq!(read["channels"].as_object().unwrap().len(), count, "{prefix}");
    }
}

#[tokio::test]
async fn one_channel_is_told_whether_somebody_is_in_it_or_not() {
    let door = door().await;
    door.join("a", None).await;
    door.join("presence-x", Some("u")).await;
    door.join("presence-x", Some("u")).await;
    let one = async |path: &str, info: &str| door.get(path, &[("info", info)]).await.ok().to_owned();
    assert_eq!(one("/channels/a", "").await, r#"{"occupied":true}"#);
    assert_eq!(one("/channels/nobody", "").await, r#"{"occupied":false}"#);
    assert_eq!(one("/channels/a", "subscription_count").await, r#"{"occupied":true,"subscription_count":1}"#);
    assert_eq!(
        one("/channels/presence-x", "user_count,subscription_count").await,
        r#"{"occupied":true,"user_count":1,"subscription_count":2}"#
    );
    assert_eq!(one("/channels/presence-y", "user_count").await, r#"{"occupied":false,"user_count":0}"#);
    assert_eq!(
        door.get("/channels/a", &[("info", "user_count")]).await.refused(400),
        "Cannot retrieve the user count unless the channel is a presence channel"
    );
    assert!(door.get("/channels/a%20b", &[]).await.refused(400).starts_with("Invalid channel name"));
}

#[tokio::test]
async fn the_cached_event_is_told_with_its_time() {
    let door = door().await;
    let get = async || door.get("/channels/cache-a", &[("info", "cache")]).await.ok().to_owned();
    assert_eq!(get().await, r#"{"occupied":false,"cache":null}"#);
    door.post("/events", json!({"name": "e", "channel": "cache-a", "data": "{\"x\": 1}"})).await.ok();
    door.clock.advance(std::time::Duration::from_secs(60));
    assert_eq!(get().await, r#"{"occupied":false,"cache":{"data":"{\"x\": 1}","ttl":1740}}"#);
    door.clock.advance(std::time::Duration::from_secs(1_740));
    assert_eq!(get().await, r#"{"occupied":false,"cache":null}"#);
}

// covers: G033
#[tokio::test]
async fn users_are_told_of_presence_channels_only() {
    let door = door().await;
    for user in ["v", "u", "u"] {
        door.join("presence-x", Some(user)).await;
    }
    assert_eq!(door.get("/channels/presence-x/users", &[]).await.ok(), r#"{"users":[{"id":"u"},{"id":"v"}]}"#);
    assert_eq!(door.get("/channels/presence-y/users", &[]).await.ok(), r#"{"users":[]}"#);
    for n in 0..2_000 {
        door.join("presence-large", Some(&format!("u{n:04}"))).await;
    }
    let answer = door.get("/channels/presence-large/users", &[]).await;
    assert!(answer.headers.get("content-length").is_none(), "the answer was held as a whole");
    let read: serde_json::Value = serde_json::from_str(answer.ok()).unwrap();
    let ids: Vec<_> = read["users"].as_array().unwrap().iter().map(|user| user["id"].as_str().unwrap()).collect();
    assert_eq!(ids, (0..2_000).map(|n| format!("u{n:04}")).collect::<Vec<_>>());
    assert_eq!(
        door.get("/channels/a/users", &[]).await.refused(400),
        "Users can only be retrieved for presence channels"
    );
}

#[tokio::test]
async fn a_users_connections_are_ended_with_and_without_the_app_in_the_path() {
    let door = door().await;
    for (path, signed, user) in [
        ("/apps/3/users/u1/terminate_connections", "/apps/3/users/u1/terminate_connections", "u1"),
        ("/users/u1/terminate_connections", "/users/u1/terminate_connections", "u1"),
        ("/a/3/users/u1/terminate_connections", "/users/u1/terminate_connections", "u1"),
        ("/users/auth0%7C5/terminate_connections/", "/users/auth0|5/terminate_connections/", "auth0|5"),
    ] {
        for somebody in [Some(user), Some("u2"), None] {
            door.open(None, somebody).await;
        }
        assert_eq!(door.call_as("POST", path, signed, &[], "{}", &[]).await.ok(), "{}");
        assert_eq!(door.disconnected().await, [user], "{path}");
    }
    let path = "/a/4/users/u1/terminate_connections";
    door.call_as("POST", path, path, &[], "{}", &[]).await.refused(404);
    let path = "/users/a%0Ab/terminate_connections";
    door.call_as("POST", path, path, &[], "{}", &[]).await.refused(400);
    assert!(door.disconnected().await.is_empty());
}
