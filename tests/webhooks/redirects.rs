//! Redirects, as a user sees them: failures that name the target.

use serde_json::json;
use tidings_testkit::{Answer, Receiver};

use crate::kit::{attempts, hook, listener, only_settled, open, publish};

// covers: S11, R13
#[tokio::test]
async fn a_redirect_is_a_failure_with_its_target_and_is_never_followed() {
    let receiver = Receiver::start();
    let inside = Receiver::start();
    let server = open().start().await;
    let api = server.api();
    for status in [301, 302, 303, 307, 308] {
        let name = format!("e{status}");
        hook(&api, &name).await;
        let path = format!("/{status}");
        receiver.respond(&path, Answer::status(status).header("location", &inside.url("/latest/meta-data")));
        listener(&api, json!({"url": receiver.url(&path), "hooks": [name], "schedule": ["0s"]})).await;
        let delivery = only_settled(&api, &publish(&api, &name, json!({})).await).await;
        let made = attempts(&api, &delivery).await;
        assert_eq!((&delivery["state"], made.len()), (&json!("undelivered"), 1), "{made:?}");
        assert_eq!((&made[0]["outcome"], &made[0]["status"]), (&json!("http_status"), &json!(status)));
        assert_eq!(made[0]["response_headers"]["location"], inside.url("/latest/meta-data"), "{made:?}");
        assert!(made[0]["error"].as_str().unwrap().contains(&inside.url("")), "{made:?}");
    }
    assert_eq!(inside.connections(), 0, "a redirect was followed");
}

// covers: R13
#[tokio::test]
async fn every_2xx_is_success_and_nothing_else() {
    let receiver = Receiver::start();
    let server = open().start().await;
    let api = server.api();
    for (status, state) in [
        (200, "delivered"),
        (201, "delivered"),
        (204, "delivered"),
        (206, "delivered"),
        (299, "delivered"),
        (304, "undelivered"),
        (400, "undelivered"),
        (404, "undelivered"),
        (500, "undelivered"),
    ] {
        let name = format!("e{status}");
        hook(&api, &name).await;
        receiver.respond(&format!("/{status}"), Answer::status(status));
        listener(&api, json!({"url": receiver.url(&format!("/{status}")), "hooks": [name], "schedule": ["0s"]})).await;
        let delivery = only_settled(&api, &publish(&api, &name, json!({})).await).await;
        assert_eq!(delivery["state"], state, "{status}: {:?}", attempts(&api, &delivery).await);
    }
}
