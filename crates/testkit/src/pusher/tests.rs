//! Tests of the kit itself: the light session and the real clients against a minimal server of Pusher's protocol.

use std::net::SocketAddr;
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;

use super::PusherApp;
use crate::{Api, Client, RawReceiver, read_request};

const SOON: Duration = Duration::from_secs(20);

/// Answers subscriptions, sends client events back as `echo`, and closes with 4200 at `client-bye`.
async fn speak(stream: TcpStream) {
    let Ok(mut socket) = tokio_tungstenite::accept_async(stream).await else { return };
    let hello = json!({"socket_id": "1.2", "activity_timeout": 120}).to_string();
    let hello = json!({"event": "pusher:connection_established", "data": hello});
    socket.send(Message::text(hello.to_string())).await.ok();
    socket.send(Message::text(r#"{"event":"pusher:ping","data":{}}"#)).await.ok();
    while let Some(Ok(Message::Text(text))) = socket.next().await {
        let said: Value = serde_json::from_str(&text).unwrap();
        let answer = match said["event"].as_str().unwrap() {
            "pusher:subscribe" => json!({
                "event": "pusher_internal:subscription_succeeded", "channel": said["data"]["channel"],
                "data": said["data"]["auth"]
                    .as_str()
                    .map_or(Value::Null, |auth| json!({"auth": auth}).to_string().into()),
            }),
            "client-bye" => {
                let close = CloseFrame { code: 4200.into(), reason: "later".into() };
                socket.close(Some(close)).await.ok();
                continue;
            }
            "pusher:pong" => json!({"event": "ponged", "data": "x"}),
            _ => json!({"event": "echo", "channel": said["channel"], "data": said["data"].to_string()}),
        };
        socket.send(Message::text(answer.to_string())).await.ok();
    }
}

fn app(addr: SocketAddr) -> PusherApp {
    let url = format!("http://{addr}");
    PusherApp { api: Api::new(&url, ""), url, id: "1".into(), key: "k".into(), secret: "s".into() }
}

#[tokio::test]
async fn a_session_subscribes_pongs_waits_and_sees_how_it_ends() {
    let server = RawReceiver::start(speak);
    let mut session = app(server.addr()).connect().await;
    assert_eq!((session.socket_id.as_str(), session.activity_timeout), ("1.2", 120));
    let said = session.subscribe("private-a").await;
    assert_eq!(said["auth"], session.app.auth("1.2", "private-a", None));
    session.send(json!({"event": "client-x", "channel": "private-a", "data": {"n": 1}})).await;
    assert_eq!(session.expect_on("echo", "private-a", SOON).await.data(), json!({"n": 1}));
    assert_eq!(session.expect("ponged", SOON).await.raw_data, "x");
    session.send(json!({"event": "client-bye", "channel": "private-a", "data": {}})).await;
    assert_eq!(session.expect_close(SOON).await, (4200, "later".to_owned()));
}

async fn converse(client: Client, addr: SocketAddr) {
    let alice = app(addr).person("alice");
    assert_eq!(client.connect(&alice).await, "1.2");
    let said = client.subscribe("private-a").await;
    assert_eq!(said["auth"], app(addr).auth("1.2", "private-a", None), "the official library signs as ours does");
    assert!(client.trigger("private-a", "client-x", json!({"n": 1})).await);
    assert_eq!(client.expect("private-a", "echo").await["data"], json!({"n": 1}));
    client.trigger("private-a", "client-bye", json!({})).await;
    client.connected().await;
    let streaming = RawReceiver::start(|mut stream| async move {
        let request = read_request(&mut stream).await;
        let again = String::from_utf8_lossy(&request).to_ascii_lowercase().contains("last-event-id: 7\r\n");
        let data = if again { "again" } else { "first" };
        let head =
            "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\naccess-control-allow-origin: *\r\n\r\nretry: 10\n";
        stream.write_all(format!("{head}event: hello\ndata: {data}\nid: 7\n\n").as_bytes()).await.ok();
    });
    client.open_stream("s", &streaming.url("/"), &["hello"]).await;
    for data in ["first", "again"] {
        let told = client.expect_streamed("s", "hello").await;
        assert_eq!((&told["data"], &told["id"]), (&json!(data), &json!("7")));
    }
    client.close_stream("s").await;
}

#[tokio::test]
async fn alice_has_pusher_js_in_node() {
    let server = RawReceiver::start(speak);
    converse(Client::start_node(&[]).await, server.addr()).await;
}

#[tokio::test]
async fn bob_has_pusher_js_in_chromium() {
    let server = RawReceiver::start(speak);
    converse(Client::chromium().await, server.addr()).await;
}
