//! Secrets and header values: set, used, never shown.

use std::time::Duration;

use serde_json::{Value, json};
use tidings_model::signature::{Secret, SignedHeaders, TOLERANCE_SECS, VerifyError, verify};
use tidings_testkit::{Received, Receiver};

use crate::kit::{KEY, OPERATOR, SOON, door, logs, text};

const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
const HEADER: &str = "Bearer of-a-header-that-nobody-may-see";

// covers: K01, K02, K03
#[tokio::test]
async fn secrets_and_header_values_are_in_no_answer_and_no_log() {
    let receiver = Receiver::start();
    let door = door().await;
    door.hook("h").await;
    let made = door
        .post(
            "/v1/listeners",
            json!({"url": receiver.url("/"), "hooks": ["h"], "secret": SECRET, "headers": {"Authorization": HEADER}}),
        )
        .await;
    assert_eq!(made.ok(201)["secret"], SECRET);
    assert!(!made.text.contains("nobody-may-see"), "{}", made.text);
    let id = text(&made.json()["id"]);
    let path = format!("/v1/listeners/{id}");
    door.post("/v1/events", json!({"name": "h"})).await.ok(202);
    let got = receiver.wait_for(1, |_| true, SOON).await;
    assert_eq!(got[0].header("authorization"), Some(HEADER));
    let mut answers = vec![
        door.get(&path).await,
        door.get("/v1/listeners").await,
        door.patch(&path, json!({"description": "x"})).await,
        door.patch(&path, json!({"secret": SECRET})).await,
        door.patch(&path, json!({"headers": {"Authorization": "***", "x": HEADER}})).await,
        door.patch(&path, json!({"headers": {"Host": HEADER}})).await,
        door.patch(&path, json!({"headers": {"x": format!("{HEADER}\r\n")}})).await,
        door.patch(&path, json!({"headers": HEADER})).await,
        door.post(&format!("{path}/test"), json!({})).await,
        door.post(
            "/v1/listeners",
            json!({"url": "https://a.example/", "hooks": ["h"], "secret": format!("{SECRET}!")}),
        )
        .await,
        door.post("/v1/listeners", json!({"url": "https://u:nobody-may-see@a.example/", "hooks": ["h"]})).await,
        door.post("/v1/listeners", json!({"url": "https://u:nobody-may-see@", "hooks": ["h"]})).await,
        door.post(&format!("{path}/rotate_secret"), json!({"secret": format!("{SECRET}!")})).await,
        door.get("/v1/deliveries").await,
    ];
    let delivery = text(&answers.last().unwrap().json()["data"][0]["id"]);
    answers.push(door.get(&format!("/v1/deliveries/{delivery}/attempts")).await);
    for answer in &answers {
        assert!(!answer.text.contains("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"), "{}", answer.text);
        assert!(!answer.text.contains("nobody-may-see"), "{}", answer.text);
    }
    // The header that was sent back as it is shown was kept.
    door.post("/v1/events", json!({"name": "h"})).await.ok(202);
    let got = receiver.wait_for(3, |_| true, SOON).await;
    assert_eq!(got.last().unwrap().header("authorization"), Some(HEADER));
    let logs = logs();
    for hidden in ["MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "nobody-may-see", KEY, OPERATOR] {
        assert!(!logs.contains(hidden), "the log holds {hidden}");
    }
}

fn signed_with(request: &Received, secret: &str, now_ms: i64) -> Result<(), VerifyError> {
    let header = |name: &str| request.header(name).unwrap();
    let headers = SignedHeaders {
        id: header("webhook-id"),
        timestamp: header("webhook-timestamp"),
        signature: header("webhook-signature"),
    };
    verify(&headers, &request.body, &[&Secret::parse(secret).unwrap()], now_ms / 1_000, TOLERANCE_SECS)
}

// covers: K04
#[tokio::test]
async fn while_a_secret_rotates_both_sign_then_the_new_one_alone() {
    let receiver = Receiver::start();
    let door = door().await;
    door.hook("h").await;
    let made = door.post("/v1/listeners", json!({"url": receiver.url("/"), "hooks": ["h"]})).await.ok(201);
    let first = text(&made["secret"]);
    let rotate = format!("/v1/listeners/{}/rotate_secret", text(&made["id"]));
    let next = async |n: usize| {
        door.post("/v1/events", json!({"name": "h"})).await.ok(202);
        receiver.wait_for(n, |_| true, SOON).await.pop().unwrap()
    };
    let answer = door.post(&rotate, json!({"grace": "1h"})).await;
    assert_eq!(answer.header("cache-control"), Some("no-store"));
    let rotated = answer.ok(200);
    let second = text(&rotated["secret"]);
    assert_eq!(rotated["previous_valid_until"], "2026-11-21T10:56:40.000Z");
    assert_eq!(rotated.as_object().unwrap().len(), 2, "{rotated}");
    let now = crate::kit::NOW;
    let both = next(1).await;
    assert_eq!((signed_with(&both, &first, now), signed_with(&both, &second, now)), (Ok(()), Ok(())));
    door.clock.advance(Duration::from_secs(3_601));
    let now = now + 3_601_000;
    let alone = next(2).await;
    assert_eq!(signed_with(&alone, &first, now), Err(VerifyError::NoMatch));
    assert_eq!(signed_with(&alone, &second, now), Ok(()));
    let given = door.post(&rotate, json!({"secret": SECRET, "grace": "0s"})).await.ok(200);
    assert_eq!(given, json!({"secret": SECRET, "previous_valid_until": "2026-11-21T10:56:41.000Z"}));
    let at_once = next(3).await;
    assert_eq!(signed_with(&at_once, &second, now), Err(VerifyError::NoMatch));
    assert_eq!(signed_with(&at_once, SECRET, now), Ok(()));
    let default = door.call(KEY, "POST", &rotate, "").await.ok(200);
    assert_eq!(default["previous_valid_until"], Value::from("2026-11-22T10:56:41.000Z"));
}
