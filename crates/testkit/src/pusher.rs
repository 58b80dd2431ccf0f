//! Pusher's protocol from the client's side: signed requests of an app's own server, and light sessions for tests with
//! many of them. [`crate::Client`] and [`crate::AppServer`] are the real libraries.

mod session;
mod sign;
#[cfg(test)]
mod tests;

use std::net::{IpAddr, SocketAddr};

use http::Method;
use serde_json::{Value, json};
use tidings_model::clock::{Clock, SystemClock};

use crate::api::{Api, Request};
use crate::server::Server;
pub use session::{Frame, Incoming, PusherSession, Refused};

/// An app as its own servers know it: URL, id, key, secret.
#[derive(Debug, Clone)]
pub struct PusherApp {
    /// The server's URL: `http://127.0.0.1:8000`.
    pub url: String,
    /// The app's id.
    pub id: String,
    /// Its key.
    pub key: String,
    /// Its secret.
    pub secret: String,
    /// An API client of the server, without a key.
    pub api: Api,
}

impl Server {
    /// The app that the server made on its first start.
    pub fn pusher(&self) -> PusherApp {
        let Credentials { app_id, key, secret } = Credentials::of(self);
        self.pusher_app(app_id, key, secret)
    }

    /// An app of its config file.
    pub fn pusher_app(&self, id: &str, key: &str, secret: &str) -> PusherApp {
        PusherApp {
            url: self.url.clone(),
            id: id.to_owned(),
            key: key.to_owned(),
            secret: secret.to_owned(),
            api: Api::new(&self.url, ""),
        }
    }
}

struct Credentials<'a> {
    app_id: &'a str,
    key: &'a str,
    secret: &'a str,
}

impl<'a> Credentials<'a> {
    fn of(server: &'a Server) -> Self {
        let found = &server.credentials;
        Self { app_id: &found.app_id, key: &found.key, secret: &found.secret }
    }
}

impl PusherApp {
    /// The proof that `socket_id` may join `channel`: `KEY:signature`.
    pub fn auth(&self, socket_id: &str, channel: &str, channel_data: Option<&str>) -> String {
        let text = match channel_data {
            Some(data) => format!("{socket_id}:{channel}:{data}"),
            None => format!("{socket_id}:{channel}"),
        };
        format!("{}:{}", self.key, sign::hex(&crate::token::hmac_sha256(&self.secret, &text)))
    }

    /// The proof that `socket_id` is the user of `user_data`: `KEY:signature`.
    pub fn user_auth(&self, socket_id: &str, user_data: &str) -> String {
        let text = format!("{socket_id}::user::{user_data}");
        format!("{}:{}", self.key, sign::hex(&crate::token::hmac_sha256(&self.secret, &text)))
    }

    /// The path of `/apps/{id}{path}` with these parameters, signed now.
    pub fn signed(&self, method: &Method, path: &str, params: &[(&str, &str)], body: &[u8]) -> String {
        self.signed_at(SystemClock::new().wall_ms() / 1000, method, path, params, body)
    }

    /// The same, signed at that time (in Unix seconds).
    pub fn signed_at(&self, time: i64, method: &Method, path: &str, params: &[(&str, &str)], body: &[u8]) -> String {
        let path = format!("/apps/{}{path}", self.id);
        let query = sign::query(&self.key, &self.secret, time, method, &path, params, body);
        format!("{path}?{query}")
    }

    /// A signed `GET /apps/{id}{path}`.
    pub fn get(&self, path: &str, params: &[(&str, &str)]) -> Request {
        self.api.get(&self.signed(&Method::GET, path, params, b""))
    }

    /// A signed `POST /apps/{id}{path}`.
    pub fn post(&self, path: &str, body: &Value) -> Request {
        self.post_bytes(path, body.to_string().into_bytes())
    }

    /// A signed `POST /apps/{id}{path}` of any bytes.
    pub fn post_bytes(&self, path: &str, body: Vec<u8>) -> Request {
        self.api.post(&self.signed(&Method::POST, path, &[], &body), ()).body(body, "application/json")
    }

    /// Publishes `data` (a string, as libraries send it) in channels.
    pub fn trigger(&self, channels: &[&str], name: &str, data: &str) -> Request {
        self.post("/events", &json!({"name": name, "channels": channels, "data": data}))
    }

    /// A session to be connected.
    pub fn session(&self) -> Connect {
        Connect { app: self.clone(), path: None, via: None, from: None }
    }

    /// A connected session.
    ///
    /// # Panics
    /// When the server does not let it in.
    pub async fn connect(&self) -> PusherSession {
        self.session().connect().await
    }
}

/// The options of a session's connection.
#[derive(Debug, Clone)]
#[must_use = "nothing connects before connect()"]
pub struct Connect {
    app: PusherApp,
    path: Option<String>,
    via: Option<SocketAddr>,
    from: Option<IpAddr>,
}

impl Connect {
    /// With another path and query than `/app/KEY?protocol=7&client=testkit&version=1.0`.
    pub fn path(mut self, path: impl Into<String>) -> Self {
        self.path = Some(path.into());
        self
    }

    /// Through a proxy.
    pub fn via(mut self, addr: SocketAddr) -> Self {
        self.via = Some(addr);
        self
    }

    /// From this local address: each has ports of its own.
    pub fn from(mut self, addr: impl Into<IpAddr>) -> Self {
        self.from = Some(addr.into());
        self
    }

    /// Connects.
    ///
    /// # Panics
    /// When the server does not let it in.
    pub async fn connect(self) -> PusherSession {
        self.try_connect().await.unwrap_or_else(|refused| panic!("no session: {refused:?}"))
    }

    /// Connects, or says how the server refuses.
    ///
    /// # Errors
    /// When the answer is no WebSocket, or its first message is not `pusher:connection_established`.
    pub async fn try_connect(self) -> Result<PusherSession, Refused> {
        let path = self
            .path
            .unwrap_or_else(|| format!("/app/{}?protocol=7&client=testkit&version=1.0&flash=false", self.app.key));
        PusherSession::open(self.app, &path, self.via, self.from).await
    }
}
