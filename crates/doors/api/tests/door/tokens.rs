//! Tokens: they have the requested claims, and only an app with a secret issues them.

use serde_json::json;
use tidings_model::secret::SecretString;
use tidings_model::token::{Claims, TokenKeys};

use crate::kit::{NOW, OTHER_KEY, TOKEN_SECRET, door, text};

fn keys() -> TokenKeys {
    TokenKeys::new(SecretString::from(TOKEN_SECRET), Vec::new())
}

#[tokio::test]
async fn a_token_says_what_was_asked_for() {
    let door = door().await;
    let body = json!({"sub": "u1", "channels": ["private-a", "$b"], "expires_in": "90s", "info": {"n": 1}});
    let made = door.post("/v1/tokens", body).await.ok(201);
    assert_eq!(made["expires_at"], "2026-11-21T09:58:10.000Z");
    let claims = keys().verify(&text(&made["token"]), NOW).unwrap();
    let expected = Claims {
        sub: Some("u1".into()),
        channels: vec!["private-a".into(), "$b".into()],
        exp: Some(NOW + 90_000),
        info: Some(r#"{"n":1}"#.into()),
        channel: None,
    };
    assert_eq!(claims, expected);
    // An hour, for nobody, unless told; seconds are as good as a duration.
    assert_eq!(
        door.call(crate::kit::KEY, "POST", "/v1/tokens", "").await.ok(201)["expires_at"],
        "2026-11-21T10:56:40.000Z"
    );
    assert_eq!(
        door.post("/v1/tokens", json!({"expires_in": 1})).await.ok(201)["expires_at"],
        "2026-11-21T09:56:41.000Z"
    );
}

#[tokio::test]
async fn what_cannot_be_in_a_token_is_named() {
    let door = door().await;
    for (body, code, field) in [
        (json!({"sub": ""}), "invalid_field", "sub"),
        (json!({"sub": 1}), "invalid_field", "sub"),
        (json!({"user": "u"}), "unknown_field", "user"),
        (json!({"channels": ["ok", ""]}), "invalid_field", "channels[1]"),
        (json!({"channels": vec!["c".repeat(200); 100]}), "invalid_field", "channels"),
        (json!({"channels": vec!["c"; 1_001]}), "invalid_field", "channels"),
        (json!({"expires_in": "31d"}), "invalid_field", "expires_in"),
        (json!({"expires_in": 0}), "invalid_field", "expires_in"),
        (json!({"expires_in": -1}), "invalid_field", "expires_in"),
        (json!({"expires_in": "soon"}), "invalid_field", "expires_in"),
        (json!({"info": {}}), "invalid_field", "info"),
        (json!({"sub": "u", "info": "x".repeat(1_024)}), "invalid_field", "info"),
    ] {
        let problem = door.post("/v1/tokens", body.clone()).await.refused(422, code);
        assert_eq!(problem["field"], field, "{body}");
    }
}

#[tokio::test]
async fn an_app_without_a_secret_issues_none() {
    let door = door().await;
    let problem = door.call(OTHER_KEY, "POST", "/v1/tokens", "{}").await.refused(409, "conflict");
    assert!(problem["remedy"].as_str().unwrap().contains("config"), "{problem}");
    door.call("wrong", "POST", "/v1/tokens", "{}").await.refused(401, "unauthorized");
}
