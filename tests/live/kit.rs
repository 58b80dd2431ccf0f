//! Shared by these tests: apps of a config file, streams, and waiting for sessions to be in channels.

use std::time::Duration;

use serde_json::{Value, json};
use tidings_testkit::{
    Api, Incoming, PusherApp, PusherSession, Request, Server, ServerBuilder, Stream, eventually, server,
};

/// The timeout, on a busy machine, for what should happen at once.
pub(crate) const SOON: Duration = Duration::from_secs(30);

/// The apps of [`configured`].
pub(crate) const APPS: [Keys; 2] = [Keys { id: "1", name: "one" }, Keys { id: "2", name: "two" }];

/// An app of the config file; all its secrets are made from its name.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Keys {
    pub(crate) id: &'static str,
    pub(crate) name: &'static str,
}

impl Keys {
    pub(crate) fn key(self) -> String {
        format!("key-{}", self.name)
    }

    pub(crate) fn secret(self) -> String {
        format!("secret-of-app-{}", self.name)
    }

    pub(crate) fn api_key(self) -> String {
        format!("api-key-of-app-{}", self.name)
    }

    pub(crate) fn token_secret(self) -> String {
        format!("token-secret-of-app-{}-which-is-long-enough", self.name)
    }

    pub(crate) fn pusher(self, server: &Server) -> PusherApp {
        server.pusher_app(self.id, &self.key(), &self.secret())
    }

    pub(crate) fn api(self, server: &Server) -> Api {
        Api::new(&server.url, &self.api_key())
    }

    /// A stream as a browser opens it: without a proof, except in `more`.
    pub(crate) fn stream(self, server: &Server, channel: &str, more: &str) -> Request {
        Api::new(&server.url, "").get(&format!("/v1/stream?app={}&channel={}{more}", self.key(), escaped(channel)))
    }
}

/// A server with both apps; `top` are lines before and `each` are lines of every app.
pub(crate) fn configured(top: &str, each: &str) -> ServerBuilder {
    let app = |keys: Keys| {
        format!(
            "[[apps]]\nid = {:?}\nkey = {:?}\nsecret = {:?}\napi_keys = [{:?}]\ntoken_hmac_secret = {:?}\n{each}\n",
            keys.id,
            keys.key(),
            keys.secret(),
            keys.api_key(),
            keys.token_secret(),
        )
    };
    server().egress_allow("127.0.0.0/8").config(format!("{top}\n{}", APPS.map(app).concat()))
}

/// Waits until a change has reached every node: until each answers a request under this key with this status.
pub(crate) async fn everywhere(server: &Server, key: &str, path: &str, status: u16) {
    for node in server.each_node() {
        let node = node.with_key(key);
        eventually(SOON, || async { (node.get(path).await.status == status).then_some(()) }).await;
    }
}

/// Escapes `#`, `:` and other characters for a query.
pub(crate) fn escaped(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    text.bytes().map(|b| if plain(b) { char::from(b).to_string() } else { format!("%{b:02X}") }).collect()
}

/// Opens a stream, and waits for `tidings.open` with its session.
pub(crate) async fn opened(request: Request) -> Stream {
    let mut stream = request.stream().await.unwrap_or_else(|reply| panic!("no stream: {}", reply.text()));
    stream.expect("tidings.open", SOON).await;
    stream
}

/// Publishes `{"n": n}` in channels and waits for the acknowledgement.
pub(crate) async fn say(api: &Api, channels: &[&str], n: u64) {
    let event = json!({"name": "e", "channels": channels, "data": {"n": n}});
    api.post("/v1/events", event).await.expect_status(202);
}

/// Waits until the session is in the channel, according to the server's API.
pub(crate) async fn occupied(app: &PusherApp, channel: &str) {
    let path = format!("/channels/{channel}");
    eventually(SOON, || async {
        app.get(&path, &[]).await.expect_status(200)["occupied"].as_bool().filter(|&occupied| occupied)
    })
    .await;
}

/// Waits until so many sessions are in the channel: a stream opens before it has joined.
pub(crate) async fn joined(api: &Api, channel: &str, sessions: u64) {
    let path = format!("/v1/channels/{channel}");
    eventually(SOON, || async { (api.get(&path).await.expect_status(200)["subscriptions"] == sessions).then_some(()) })
        .await;
}

/// A value of `/metrics`, summed over its labels and over all nodes.
pub(crate) async fn metric(server: &Server, name: &str) -> f64 {
    let text = server.metrics().await;
    let values: Vec<f64> = text
        .lines()
        .filter_map(|line| {
            let rest = line.strip_prefix(name)?;
            rest.starts_with([' ', '{']).then(|| rest.rsplit(' ').next()?.parse().ok()).flatten()
        })
        .collect();
    assert!(!values.is_empty(), "no metric {name} in\n{text}");
    values.iter().sum()
}

/// Asserts that the server works: a session joins, an event is published, and the session receives it.
pub(crate) async fn still_serves(app: &PusherApp) {
    let mut session = app.connect().await;
    session.subscribe("still-there").await;
    app.trigger(&["still-there"], "yes", "1").await.expect_status(200);
    session.expect_on("yes", "still-there", SOON).await;
}

/// Asserts that only the listed events came, after the server has handled everything that was sent.
pub(crate) async fn heard_nothing(session: &mut PusherSession, event: &str) {
    session.settle().await;
    let heard: Vec<_> = session.waiting().filter(|frame| frame.event == event).collect();
    assert!(heard.is_empty(), "{heard:?}");
}

/// The code of the next error.
pub(crate) async fn error_code(session: &mut PusherSession) -> Value {
    session.expect("pusher:error", SOON).await.data()["code"].clone()
}

/// Reads to the end of the session, which must be a close frame, and returns its code.
pub(crate) async fn closed(session: &mut PusherSession) -> u16 {
    loop {
        match session.next(SOON).await {
            Incoming::Frame(_) => {}
            Incoming::Closed(code, _) => return code,
            other => panic!("no close frame but {other:?}"),
        }
    }
}
