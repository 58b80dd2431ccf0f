//! Auth strings for clients whose app has no auth endpoint of its own.

use axum::body::Body;
use http::Request;
use serde_json::{Value, json};
use tidings_model::secret::SecretString;
use tidings_model::signing;
use tidings_model::token::{Claims, TokenKeys};

use crate::kit::{Answer, Door, KEY, NOW, SECRET, TOKEN_SECRET, door};

const FORM: &str = "application/x-www-form-urlencoded";

fn token(secret: &str, sub: &str, channels: &[&str], now: i64) -> String {
    let claims = Claims {
        sub: Some(sub.to_owned()).filter(|sub| !sub.is_empty()),
        channels: channels.iter().map(|&name| name.to_owned()).collect(),
        exp: Some(now + 60_000),
        info: Some(json!({"n": 1}).to_string().into()),
        ..Claims::default()
    };
    TokenKeys::new(SecretString::from(secret), Vec::new()).issue(&claims, now).unwrap()
}

async fn ask(door: &Door, path: &str, headers: &[(&str, &str)], body: &str) -> Answer {
    let request = headers.iter().fold(Request::post(path), |request, (name, value)| request.header(*name, *value));
    door.send(request.body(Body::from(body.to_owned())).unwrap()).await
}

fn auth(text: &str) -> String {
    format!("{KEY}:{}", signing::sign_hex(&SecretString::from(SECRET), text))
}

fn read(answer: &Answer) -> Value {
    serde_json::from_str(answer.ok()).unwrap()
}

#[tokio::test]
async fn a_token_that_names_a_channel_gets_its_proof() {
    let door = door().await;
    let bearer =
        format!("Bearer {}", token(TOKEN_SECRET, "ann", &["private-a", "presence-a", "private-encrypted-a"], NOW));
    let with = [("authorization", bearer.as_str()), ("content-type", FORM)];
    for path in ["/pusher/auth", "/pusher/auth/", "/a/3/pusher/auth", "/pusher/auth?app=278d425bdf160c739803"] {
        let said = ask(&door, path, &with, "socket_id=1.2&channel_name=private-a").await;
        assert_eq!(read(&said), json!({"auth": auth("1.2:private-a")}), "{path}");
        assert_eq!(said.headers["content-type"], "application/json");
    }
    let data = r#"{"user_id":"ann","user_info":{"n":1}}"#;
    let proof = json!({"auth": auth(&format!("1.2:presence-a:{data}")), "channel_data": data});
    assert_eq!(read(&ask(&door, "/pusher/auth", &with, "socket_id=1.2&channel_name=presence-a").await), proof);
    // The token may come in the form, and all of it as JSON.
    let body = json!({"socket_id": "1.2", "channel_name": "presence-a", "token": &bearer[7..]}).to_string();
    assert_eq!(read(&ask(&door, "/pusher/auth", &[("content-type", "application/json")], &body).await), proof);
    let body = format!("socket_id=1.2&channel_name=presence-a&token={}", &bearer[7..]);
    assert_eq!(read(&ask(&door, "/pusher/auth", &[("content-type", FORM)], &body).await), proof);
    // Several at once, each with its own answer.
    let several = "socket_id=1.2&channel_name%5B0%5D=private-a&channel_name[1]=presence-a&channel_name[2]=private-b";
    let said = read(&ask(&door, "/pusher/auth", &with, several).await);
    assert_eq!(said["private-a"], json!({"status": 200, "data": {"auth": auth("1.2:private-a")}}));
    assert_eq!(said["presence-a"], json!({"status": 200, "data": proof}));
    assert_eq!(said["private-b"]["status"], 403);
    let body = json!({"socket_id": "1.2", "channel_name": ["private-a"]}).to_string();
    let json = [with[0], ("content-type", "application/json")];
    assert_eq!(read(&ask(&door, "/pusher/auth", &json, &body).await)["private-a"]["status"], 200);
    for (channel, text) in [("private-b", "does not name"), ("public", "does not name"), ("private-encrypted-a", "key")]
    {
        let said = ask(&door, "/pusher/auth", &with, &format!("socket_id=1.2&channel_name={channel}")).await;
        assert!(said.refused(403).contains(text), "{channel}: {}", said.text);
    }
}

#[tokio::test]
async fn a_token_with_a_user_signs_in() {
    let door = door().await;
    let bearer = format!("Bearer {}", token(TOKEN_SECRET, "ann", &[], NOW));
    let said = ask(&door, "/pusher/user-auth", &[("authorization", &bearer)], "socket_id=1.2").await;
    let data = r#"{"id":"ann","user_info":{"n":1}}"#;
    assert_eq!(read(&said), json!({"auth": auth(&format!("1.2::user::{data}")), "user_data": data}));
    let nobody = format!("Bearer {}", token(TOKEN_SECRET, "", &["presence-a"], NOW));
    for (path, body) in
        [("/pusher/user-auth", "socket_id=1.2"), ("/pusher/auth", "socket_id=1.2&channel_name=presence-a")]
    {
        assert!(ask(&door, path, &[("authorization", &nobody)], body).await.refused(403).contains("`sub`"));
    }
}

#[tokio::test]
async fn without_the_apps_token_there_is_no_proof() {
    let door = door().await;
    let body = "socket_id=1.2&channel_name=private-a";
    let wrong = [
        String::new(),
        "Bearer".to_owned(),
        "Bearer x".to_owned(),
        format!("Bearer {}", token("another secret, and as long as any other", "ann", &["private-a"], NOW)),
        format!("Bearer {}", token(TOKEN_SECRET, "ann", &["private-a"], NOW - 600_000)),
        format!("Basic {}", token(TOKEN_SECRET, "ann", &["private-a"], NOW)),
    ];
    for header in &wrong {
        for path in ["/pusher/auth", "/pusher/user-auth"] {
            let said = ask(&door, path, &[("authorization", header)], body).await;
            assert!(!said.refused(401).contains(SECRET), "{header}");
        }
    }
    // The app 4 signs its tokens with another secret.
    let bearer = format!("Bearer {}", token(TOKEN_SECRET, "ann", &["private-a"], NOW));
    ask(&door, "/a/4/pusher/auth", &[("authorization", &bearer)], body).await.refused(401);
    // The host names an app, and the path counts more.
    let at = [("authorization", bearer.as_str()), ("host", "four.example:443")];
    ask(&door, "/pusher/auth", &at, body).await.refused(401);
    ask(&door, "/a/3/pusher/auth", &at, body).await.ok();
    for path in ["/a/5/pusher/auth", "/a/99/pusher/auth", "/pusher/auth?app=nobody"] {
        ask(&door, path, &[("authorization", &bearer)], body).await.refused(404);
    }
    let many: String = (0..101).map(|n| format!("&channel_name[{n}]=private-a")).collect();
    for (body, text) in [
        ("channel_name=private-a".to_owned(), "socket_id"),
        ("socket_id=x&channel_name=private-a".to_owned(), "socket id"),
        ("socket_id=1.2".to_owned(), "channel_name"),
        ("socket_id=1.2&channel_name=a%20b".to_owned(), "channel name"),
        (format!("socket_id=1.2{many}"), "at most 100"),
    ] {
        let said = ask(&door, "/pusher/auth", &[("authorization", &bearer)], &body).await;
        assert!(said.refused(400).contains(text), "{body}: {}", said.text);
    }
    for body in ["", "[]", "{", r#"{"socket_id":"1.2","channel_name":[1]}"#, r#"{"socket_id":1}"#] {
        let json = [("authorization", bearer.as_str()), ("content-type", "application/json")];
        ask(&door, "/pusher/auth", &json, body).await.refused(400);
    }
    ask(&door, "/pusher/auth", &[("authorization", &bearer)], &"x".repeat(70_000)).await.refused(413);
}

#[tokio::test]
async fn pages_of_the_apps_origins_may_ask() {
    let door = door().await;
    let preflight = async |path: &str, origin: &str| {
        let request = Request::options(path).header("origin", origin).header("access-control-request-method", "POST");
        let request = request.header("access-control-request-headers", "authorization,x-tenant");
        door.send(request.body(Body::empty()).unwrap()).await
    };
    for path in ["/a/4/pusher/auth", "/a/4/pusher/user-auth"] {
        let said = preflight(path, "https://page.example").await;
        assert_eq!(said.status, 204);
        assert_eq!(said.headers["access-control-allow-origin"], "https://page.example");
        assert_eq!(said.headers["access-control-allow-headers"], "authorization,x-tenant");
        preflight(path, "https://other.example").await.refused(403);
    }
    // Also what is refused can be read by the page.
    let said = ask(&door, "/a/4/pusher/auth", &[("origin", "https://page.example")], "socket_id=1.2").await;
    said.refused(401);
    assert_eq!(said.headers["access-control-allow-origin"], "https://page.example");
}
