//! Paths, the apps that they name, and the signatures that they need.

use axum::body::Body;
use http::Request;
use serde_json::json;
use tidings_model::secret::SecretString;
use tidings_model::signing;

use crate::kit::{KEY, NOW, SECRET, door};

#[tokio::test]
async fn every_path_answers_with_and_without_a_slash_and_below_its_app() {
    let door = door().await;
    for path in ["/apps/3/channels", "/apps/3/channels/", "/a/3/apps/3/channels", "/a/3/apps/3/channels/"] {
        assert_eq!(door.call_as("GET", path, path, &[], "", &[]).await.ok(), r#"{"channels":{}}"#, "{path}");
    }
    // The PHP library signs without the prefix that it was told.
    door.call_as("GET", "/a/3/apps/3/channels", "/apps/3/channels", &[], "", &[]).await.ok();
    let told = door.call_as("GET", "/a/3/apps/3/channels", "/a/4/apps/3/channels", &[], "", &[]).await;
    assert!(told.refused(401).contains(r#"("GET\n/a/3/apps/3/channels\nauth_key="#), "{}", told.text);
    let body = json!({"name": "e", "channel": "a", "data": "1"}).to_string();
    for path in ["/a/3/apps/3/events/", "/a/3/apps/3/events"] {
        assert_eq!(door.call_as("POST", path, path, &[], &body, &[]).await.ok(), "{}");
    }
}

#[tokio::test]
async fn an_app_that_is_not_there_or_has_no_such_door_answers_404() {
    let door = door().await;
    let mut told = Vec::new();
    for path in ["/apps/99/channels", "/apps/5/channels", "/a/4/apps/3/channels", "/a/99/apps/3/channels"] {
        told.push(door.call_as("GET", path, path, &[], "", &[]).await.refused(404).to_owned());
    }
    told.dedup();
    assert_eq!(told.len(), 1, "who asks learns nothing of other apps: {told:?}");
    // The other app's key and secret open that app only.
    let path = "/apps/4/channels";
    assert!(door.call_as("GET", path, path, &[], "", &[]).await.refused(401).contains("Unknown auth_key"));
}

#[tokio::test]
async fn lists_are_signed_as_php_and_as_all_others_do() {
    let door = door().await;
    let time = (NOW / 1_000).to_string();
    let signed =
        |info: &str| format!("GET\n/apps/3/channels\nauth_key={KEY}&auth_timestamp={time}&auth_version=1.0{info}&x=y");
    let send = async |text: String, sent: &str| {
        let signature = signing::sign_hex(&SecretString::from(SECRET), text);
        let uri = format!(
            "/apps/3/channels?auth_key={KEY}&auth_timestamp={time}&auth_version=1.0&X=y{sent}&\
                auth_signature={signature}"
        );
        door.send(Request::get(uri).body(Body::empty()).unwrap()).await
    };
    for sent in
        ["&info=subscription_count,user", "&info=subscription_count%2Cuser", "&info[0]=subscription_count&info[1]=user"]
    {
        send(signed("&info=subscription_count,user"), sent).await.ok();
    }
    // The Python library signs the MD5 of no body.
    let empty = "&body_md5=d41d8cd98f00b204e9800998ecf8427e";
    send(signed(empty), empty).await.ok();
    send(signed(""), empty).await.refused(401);
    let wrong = "&body_md5=d41d8cd98f00b204e9800998ecf8427f";
    assert!(send(signed(wrong), wrong).await.refused(401).contains("body_md5"));
}

#[tokio::test]
async fn what_is_not_there_says_so() {
    let door = door().await;
    let send = async |method: &str, path: &str| {
        door.send(Request::builder().method(method).uri(path).body(Body::empty()).unwrap()).await
    };
    for path in ["/pusher/app/k/123/abcdefgh/xhr_streaming", "/pusher/app/k", "/a/3/pusher/app/k/x"] {
        for method in ["GET", "POST"] {
            assert!(send(method, path).await.refused(404).contains("enabledTransports"), "{path}");
        }
    }
    for path in ["/apps/3/nothing", "/a/3/apps/3/channels/a/b/c"] {
        send("GET", path).await.refused(404);
    }
    for path in ["/app", "/app/", "/app/KEY/more", "/a/3/app/KEY/more"] {
        send("GET", path).await.refused(426);
    }
    let answer = send("GET", "/apps/3/events").await;
    answer.refused(405);
    assert_eq!(answer.headers["allow"], "POST");
    let answer = send("GET", &format!("/app/{KEY}")).await;
    answer.refused(426);
    assert_eq!(answer.headers["upgrade"], "websocket");
    assert_eq!(answer.headers["sec-websocket-version"], "13");
}

#[tokio::test]
async fn a_body_beyond_all_measure_is_not_read() {
    let door = door().await;
    let body = json!({"name": "e", "channel": "a", "data": "x".repeat(100_000)}).to_string();
    let path = "/apps/3/events";
    assert!(
        door.call_as("POST", path, path, &[], &body, &[]).await.refused(413).contains("exceeds the allowed maximum")
    );
    // Every byte of data may be escaped by six.
    let body = format!(r#"{{"name":"e","channel":"a","data":"{}"}}"#, "\\u0041".repeat(100));
    door.call_as("POST", path, path, &[], &body, &[]).await.ok();
}
