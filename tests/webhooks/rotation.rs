//! Rotated secrets: both sign for a while, then only the new one.

use serde_json::{Value, json};
use tidings_testkit::{Api, Received, Receiver, verify_with_official_clients};

use crate::kit::{Listener, SOON, crate_accepts, hook, listener, open, publish};

async fn next(api: &Api, receiver: &Receiver) -> Received {
    let id = publish(api, "e", json!({"n": 1})).await;
    receiver.wait_for(1, |request| request.header("webhook-id") == Some(&id), SOON).await.remove(0)
}

async fn rotate(api: &Api, listener: &Listener, body: Value) -> Listener {
    let rotated = api.post(&format!("/v1/listeners/{}/rotate_secret", listener.id), body).await.expect_status(200);
    Listener { id: listener.id.clone(), secret: rotated.text_at("secret") }
}

fn signatures(request: &Received) -> usize {
    request.header("webhook-signature").unwrap().split(' ').filter(|one| one.starts_with("v1,")).count()
}

// covers: K04
#[tokio::test]
async fn both_sign_during_the_grace_and_one_after_it() {
    let receiver = Receiver::start();
    let server = open().start().await;
    let api = server.api();
    hook(&api, "e").await;
    let old = listener(&api, json!({"url": receiver.url("/in"), "hooks": ["e"]})).await;
    let before = next(&api, &receiver).await;
    assert_eq!(signatures(&before), 1);

    let new = rotate(&api, &old, json!({"grace": "24h"})).await;
    assert!(new.secret != old.secret && new.secret.starts_with("whsec_"), "{new:?}");
    let during = next(&api, &receiver).await;
    assert_eq!(signatures(&during), 2, "{:?}", during.headers);
    for secret in [&old.secret, &new.secret] {
        assert!(crate_accepts(&during, &during.body, secret));
        verify_with_official_clients(std::slice::from_ref(&during), secret);
    }

    // Without a grace the old ones end at once.
    let last = rotate(&api, &new, json!({"grace": "0s"})).await;
    let after = next(&api, &receiver).await;
    assert_eq!(signatures(&after), 1, "{:?}", after.headers);
    assert!(crate_accepts(&after, &after.body, &last.secret));
    verify_with_official_clients(std::slice::from_ref(&after), &last.secret);
    for ended in [&old.secret, &new.secret] {
        assert!(!crate_accepts(&after, &after.body, ended), "an ended secret still signs");
    }
}

// covers: K04, K02
#[tokio::test]
async fn a_grace_runs_out_by_itself_also_over_a_restart() {
    let receiver = Receiver::start();
    let mut server = open().start().await;
    let api = server.api();
    hook(&api, "e").await;
    let own = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
    let old = listener(&api, json!({"url": receiver.url("/in"), "hooks": ["e"], "secret": own})).await;
    assert_eq!(old.secret, own);
    let new = rotate(&api, &old, json!({"grace": "3s"})).await;
    server.restart().await;
    let api = server.api();
    let shown = api.get(&format!("/v1/listeners/{}", old.id)).await.expect_status(200);
    assert!(shown["secret"].is_null() && !shown.text().contains("whsec_"), "{}", shown.text());
    let after = tidings_testkit::eventually(SOON, || async {
        let request = next(&api, &receiver).await;
        (signatures(&request) == 1).then_some(request)
    })
    .await;
    assert!(crate_accepts(&after, &after.body, &new.secret));
    assert!(!crate_accepts(&after, &after.body, &old.secret));
    let refused =
        api.post(&format!("/v1/listeners/{}/rotate_secret", old.id), json!({"secret": "whsec_c2hvcnQ="})).await;
    let refused = refused.expect_status(422);
    assert!(refused["field"] == "secret" && !refused.text().contains("c2hvcnQ"), "{}", refused.text());
}
