//! An app's own server, with Pusher's official library for Python.

use serde_json::{Value, json};

use crate::client::certificate_of;
use crate::pusher::PusherApp;
use crate::script::{Language, Script};
use crate::server::Server;

/// PyPI's `pusher`, connected as an app.
#[derive(Debug)]
pub struct AppServer {
    script: Script,
}

impl AppServer {
    /// Starts Python and sets the library up for `app` of `server`.
    ///
    /// # Panics
    /// When it cannot be started, or the library does not like what it is told.
    pub async fn start(server: &Server, app: &PusherApp) -> Self {
        let certificate = certificate_of(server);
        let env = certificate.as_deref().map(|file| ("CA_FILE", file));
        let script = Script::start(Language::Python, "pusher_server.py", env.as_slice()).await;
        let own = Self { script };
        let ssl = app.url.starts_with("https");
        let arguments = json!({
            "app_id": app.id, "key": app.key, "secret": app.secret, "ssl": ssl,
            "host": server.addr.ip().to_string(), "port": server.addr.port(),
        });
        own.call("connect", arguments).await;
        own
    }

    /// Calls a method of `pusher.Pusher` with these named arguments and returns what it returned.
    ///
    /// # Panics
    /// When it raised.
    pub async fn call(&self, method: &str, arguments: Value) -> Value {
        self.try_call(method, arguments).await.unwrap_or_else(|error| panic!("{method}: {error}"))
    }

    /// Calls a method, and returns what it raised as `{error, kind}`.
    ///
    /// # Errors
    /// When it raised.
    pub async fn try_call(&self, method: &str, arguments: Value) -> Result<Value, Value> {
        self.script.run(json!({"do": method, "with": arguments})).await.map(|mut answer| answer["said"].take())
    }

    /// `trigger(channels, event_name, data)`.
    ///
    /// # Panics
    /// When it raised.
    pub async fn trigger(&self, channels: &[&str], event: &str, data: Value) {
        self.call("trigger", json!({"channels": channels, "event_name": event, "data": data})).await;
    }

    /// `trigger(channels, event_name, data, socket_id)`: everybody but that session is told.
    ///
    /// # Panics
    /// When it raised.
    pub async fn trigger_but_for(&self, socket_id: &str, channels: &[&str], event: &str, data: Value) {
        let arguments = json!({"channels": channels, "event_name": event, "data": data, "socket_id": socket_id});
        self.call("trigger", arguments).await;
    }
}
