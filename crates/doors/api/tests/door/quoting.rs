//! Error texts stay short, however long the texts are that they quote.

use serde_json::{Value, json};

use crate::kit::{OPERATOR, door, logs};

/// A refusal has room for two quoted texts and its own words.
const SHORT: usize = 2_000;

fn percent(text: &str) -> String {
    text.bytes().map(|byte| format!("%{byte:02X}")).collect()
}

// covers: G044
#[tokio::test]
async fn refusals_quote_little_of_what_was_sent() {
    let door = door().await;
    door.hook("known").await;
    let listener = door.listener(json!({"url": "http://127.0.0.1:9/", "hooks": ["known"]})).await;
    for filler in ["x", "\u{1}", "\"", "\u{10ffff}", "é\u{300}", "a.b", "*."] {
        let long = filler.repeat(9_000);
        let in_path = percent(&filler.repeat(600));
        let bodies = [
            ("POST", "/v1/events", json!({"name": long})),
            ("POST", "/v1/events", json!({"name": "known", "id": long})),
            ("POST", "/v1/events", json!({"name": "known", "channels": [long]})),
            ("POST", "/v1/events", json!({"name": "known", "time": long})),
            ("POST", "/v1/events", json!({"name": "known", "op": long})),
            ("POST", "/v1/events", json!({"name": "known", "key": long, "except": long})),
            ("POST", "/v1/events", json!({"name": "known", "data_base64": "", "content_type": filler.repeat(190)})),
            ("POST", "/v1/events", json!({"name": "known", long.clone(): 1})),
            ("POST", "/v1/hooks", json!({"name": long})),
            ("POST", "/v1/hooks", json!({"name": "h", "fields": [long, long]})),
            ("POST", "/v1/hooks", json!({"name": "h", "fields": [{"name": "a", "type": long}]})),
            ("POST", "/v1/hooks", json!({"name": "h", "defaults": {"timeout": long}})),
            ("POST", "/v1/hooks", json!({"name": "h", "defaults": {"schedule": [long]}})),
            ("POST", "/v1/hooks", json!({"name": "h", "defaults": {long.clone(): 1}})),
            ("POST", "/v1/listeners", json!({"url": long, "hooks": ["known"]})),
            ("POST", "/v1/listeners", json!({"url": format!("http://{}/", filler.repeat(200)), "hooks": ["known"]})),
            ("POST", "/v1/listeners", json!({"url": "http://127.0.0.1:9/", "hooks": [long]})),
            ("POST", "/v1/listeners", json!({"url": "http://127.0.0.1:9/", "hooks": ["known"], "order": long})),
            ("POST", "/v1/listeners", json!({"url": "http://127.0.0.1:9/", "hooks": ["known"], "secret": long})),
            (
                "POST",
                "/v1/listeners",
                json!({"url": "http://127.0.0.1:9/", "hooks": ["known"], "headers": {long.clone(): "a"}}),
            ),
            ("POST", "/v1/listeners", json!({"url": "http://127.0.0.1:9/", "hooks": ["known"], "owner": long})),
            ("POST", "/v1/tokens", json!({"sub": long, "expires_in": long})),
            ("POST", "/v1/tokens", json!({"sub": "u", "expires_in": long})),
            ("POST", "/v1/tokens", json!({"sub": "u", "channels": [long]})),
            ("POST", "/v1/apps", json!({"id": long})),
            ("POST", "/v1/apps", json!({"id": "z", "doors": [long]})),
            ("PATCH", "/v1/hooks/known", json!({"name": long})),
            ("PATCH", &format!("/v1/listeners/{listener}"), json!({"rate": long})),
        ];
        for (method, path, body) in &bodies {
            let key = if path.starts_with("/v1/apps") { OPERATOR } else { crate::kit::KEY };
            let answer = door.call(key, method, path, body.to_string()).await;
            let status = answer.status.as_u16();
            // Some of the fillers are allowed in some places.
            assert!((400..500).contains(&status) || status < 300, "{method} {path}: {status} {}", answer.text);
            if status >= 400 {
                let shown: String = answer.text.chars().take(300).collect();
                assert!(answer.text.len() <= SHORT, "{method} {path} {filler:?}: {} bytes: {shown}", answer.text.len());
            }
        }
        for path in [
            format!("/v1/{in_path}"),
            format!("/v1/hooks/{in_path}"),
            format!("/v1/listeners/{in_path}"),
            format!("/v1/events/{in_path}"),
            format!("/v1/deliveries/{in_path}"),
            format!("/v1/deliveries/{in_path}/attempts"),
            format!("/v1/channels/{in_path}"),
            format!("/a/{in_path}/v1/hooks"),
            format!("/v1/hooks?cursor={in_path}"),
            format!("/v1/hooks?limit={in_path}"),
            format!("/v1/hooks?{in_path}=1"),
            format!("/v1/deliveries?state={in_path}"),
            format!("/v1/deliveries?listener={in_path}"),
            format!("/v1/events?since={in_path}"),
            format!("/v1/stream?app={in_path}&channels=a"),
            format!("/v1/stream?app=public-one&channels={in_path}"),
            format!("/v1/stream?app=public-one&channels=a&token={in_path}"),
        ] {
            let answer = door.get(&path).await;
            assert!(answer.status.is_client_error(), "{} {path}", answer.status);
            assert!(answer.text.len() <= SHORT, "{path}: {} bytes: {}", answer.text.len(), answer.text);
            let _: Value = answer.json();
        }
    }
    let longest = logs().lines().filter(|line| line.contains("tidings")).map(str::len).max().unwrap_or_default();
    assert!(longest < 4_000, "a line of the log has {longest} bytes");
}
