//! An app's own server, with Pusher's official library for Python or for Node.

use std::net::SocketAddr;

use serde_json::{Value, json};

use crate::client::certificate_of;
use crate::pusher::PusherApp;
use crate::script::{Language, Script};
use crate::server::Server;

/// PyPI's `pusher`, or npm's, connected as an app.
#[derive(Debug)]
pub struct AppServer {
    script: Script,
}

impl AppServer {
    /// Starts Python and sets the library up for `app` of `server`.
    ///
    /// # Panics
    /// When it cannot be started, or the library refuses its options.
    pub async fn start(server: &Server, app: &PusherApp) -> Self {
        let certificate = certificate_of(server);
        let env = certificate.as_deref().map(|file| ("CA_FILE", file));
        Self::start_at(server.addr, app, env.as_slice()).await
    }

    /// Starts Node with npm's `pusher` instead; its methods take `arguments` as an array.
    ///
    /// # Panics
    /// When it cannot be started.
    pub async fn node(server: &Server, app: &PusherApp, more: Value) -> Self {
        let own = Self { script: Script::start(Language::Node, "pusher_server.js", &[]).await };
        let mut options = json!({
            "appId": app.id, "key": app.key, "secret": app.secret, "useTLS": false,
            "host": server.addr.ip().to_string(), "port": server.addr.port().to_string(),
        });
        if let (Some(options), Some(more)) = (options.as_object_mut(), more.as_object()) {
            options.extend(more.clone());
        }
        own.call("connect", json!([options])).await;
        own
    }

    async fn start_at(addr: SocketAddr, app: &PusherApp, env: &[(&str, &str)]) -> Self {
        let own = Self { script: Script::start(Language::Python, "pusher_server.py", env).await };
        let ssl = app.url.starts_with("https");
        let arguments = json!({
            "app_id": app.id, "key": app.key, "secret": app.secret, "ssl": ssl,
            "host": addr.ip().to_string(), "port": addr.port(),
        });
        own.call("connect", arguments).await;
        own
    }

    /// Calls a method of the library with these arguments (Python: by name; Node: in an array) and returns its result.
    ///
    /// # Panics
    /// When it raises an exception.
    pub async fn call(&self, method: &str, arguments: Value) -> Value {
        self.try_call(method, arguments).await.unwrap_or_else(|error| panic!("{method}: {error}"))
    }

    /// Calls a method, and returns its exception as `{error, kind}`.
    ///
    /// # Errors
    /// When it raises an exception.
    pub async fn try_call(&self, method: &str, arguments: Value) -> Result<Value, Value> {
        self.script.run(json!({"do": method, "with": arguments})).await.map(|mut answer| answer["said"].take())
    }

    /// `trigger(channels, event_name, data)`.
    ///
    /// # Panics
    /// When it raises an exception.
    pub async fn trigger(&self, channels: &[&str], event: &str, data: Value) {
        self.call("trigger", json!({"channels": channels, "event_name": event, "data": data})).await;
    }

    /// `trigger(channels, event_name, data, socket_id)`: all sessions but that one receive it.
    ///
    /// # Panics
    /// When it raises an exception.
    pub async fn trigger_but_for(&self, socket_id: &str, channels: &[&str], event: &str, data: Value) {
        let arguments = json!({"channels": channels, "event_name": event, "data": data, "socket_id": socket_id});
        self.call("trigger", arguments).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Answer, Api, Receiver};
    use http::Method;

    #[tokio::test]
    async fn the_official_library_signs_as_we_do_and_says_what_it_does_not_like() {
        let receiver = Receiver::start();
        receiver.respond_otherwise(Answer::status(200).header("content-type", "application/json").body("{}"));
        let url = receiver.url("");
        let app =
            PusherApp { api: Api::new(&url, ""), url, id: "1".to_owned(), key: "k".to_owned(), secret: "s".to_owned() };
        let shop = AppServer::start_at(receiver.addr(), &app, &[]).await;
        shop.trigger(&["a"], "e", json!({"n": 1})).await;
        let said = receiver.received().remove(0);
        assert_eq!(said.json(), json!({"name": "e", "channels": ["a"], "data": "{\"n\": 1}"}));
        let part = |name: &str| {
            let found = said.query.split('&').find_map(|part| part.strip_prefix(name)?.strip_prefix('='));
            found.unwrap_or_else(|| panic!("no {name} in {}", said.query)).to_owned()
        };
        let time = part("auth_timestamp").parse().unwrap();
        let own = app.signed_at(time, &Method::POST, "/events", &[], &said.body);
        assert!(own.ends_with(&part("auth_signature")), "{own} is not {}", said.query);
        let auth = shop.call("authenticate", json!({"channel": "private-a", "socket_id": "1.2"})).await;
        assert_eq!(auth["auth"], app.auth("1.2", "private-a", None));
        receiver.respond_otherwise(Answer::status(401).body("Invalid signature"));
        let refused = shop.try_call("channels_info", json!({})).await.unwrap_err();
        assert_eq!((&refused["kind"], &refused["error"]), (&json!("PusherBadAuth"), &json!("Invalid signature")));
    }
}
