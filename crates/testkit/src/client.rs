//! Real clients: Alice uses pusher-js in Node, Bob uses it in Chromium. Both also have an `EventSource`.

use std::future::Future;
use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};

use crate::pusher::PusherApp;
use crate::script::{Language, Script};
use crate::server::Server;
use crate::tls;

/// The timeout for what server and client do at once.
const SOON: Duration = Duration::from_secs(30);

/// A real client, in any language.
#[derive(Debug)]
pub struct Client {
    script: Script,
}

/// The user of a client, as the app's own server knows it, which gives the client its proofs.
#[derive(Debug, Clone)]
pub struct Person {
    app: PusherApp,
    user: String,
    info: Value,
    watchlist: Value,
    master_key: Value,
    refuse: bool,
}

impl PusherApp {
    /// A user whom the app's server identifies as `user`.
    pub fn person(&self, user: &str) -> Person {
        Person {
            app: self.clone(),
            user: user.to_owned(),
            info: json!({"name": user}),
            watchlist: Value::Null,
            master_key: Value::Null,
            refuse: false,
        }
    }
}

impl Person {
    /// With other details than `{"name": user}`.
    #[must_use]
    pub fn info(mut self, info: Value) -> Self {
        self.info = info;
        self
    }

    /// With these users on the watchlist.
    #[must_use]
    pub fn watching(mut self, users: &[&str]) -> Self {
        self.watchlist = json!(users);
        self
    }

    /// With a key for encrypted channels (32 bytes in base 64).
    #[must_use]
    pub fn encrypting(mut self, master_key: &str) -> Self {
        self.master_key = json!(master_key);
        self
    }

    /// A user to whom the app's server refuses proofs.
    #[must_use]
    pub fn refused(mut self) -> Self {
        self.refuse = true;
        self
    }
}

impl Client {
    /// pusher-js and the npm package `eventsource` in Node. `server` is the one whose certificate it trusts.
    ///
    /// # Panics
    /// When it cannot be started.
    pub async fn node(server: &Server) -> Self {
        let certificate = certificate_of(server);
        let env = certificate.as_deref().map(|file| ("NODE_EXTRA_CA_CERTS", file));
        Self::start_node(env.as_slice()).await
    }

    pub(crate) async fn start_node(env: &[(&str, &str)]) -> Self {
        Self { script: Script::start(Language::Node, "pusher.js", env).await }
    }

    /// pusher-js and the browser's own `EventSource` in a page of Chromium, which trusts any certificate.
    ///
    /// # Panics
    /// When it cannot be started.
    pub async fn chromium() -> Self {
        Self { script: Script::start(Language::Node, "browser.js", &[]).await }
    }

    /// Laravel Echo over pusher-js in Node. The `options` of [`Client::begin`] set its broadcaster, and in presence
    /// channels it reports `here`, `joining` and `leaving`.
    ///
    /// # Panics
    /// When it cannot be started.
    pub async fn echo() -> Self {
        Self { script: Script::start(Language::Node, "echo.js", &[]).await }
    }

    /// The PyPI package pysher, which speaks version 6 of the protocol.
    ///
    /// # Panics
    /// When it cannot be started.
    pub async fn pysher() -> Self {
        Self { script: Script::start(Language::Python, "pysher_client.py", &[]).await }
    }

    /// Readers of event streams from npm, for [`Client::open_stream_with`]: `eventsource 2`, `eventsource 3`,
    /// `eventsource 4` and `fetch-event-source`.
    ///
    /// # Panics
    /// When they cannot be started.
    pub async fn node_readers() -> Self {
        Self { script: Script::start(Language::Node, "streams.js", &[]).await }
    }

    /// Readers of event streams from PyPI, for [`Client::open_stream_with`]: `sseclient-py`, `requests`,
    /// `requests-sse`, `httpx-sse` and `aiohttp-sse-client`.
    ///
    /// # Panics
    /// When they cannot be started.
    pub async fn python_readers() -> Self {
        Self { script: Script::start(Language::Python, "streams.py", &[]).await }
    }

    /// Begins to connect with pusher-js, without waiting. An earlier connection is closed.
    pub async fn begin(&self, person: &Person, options: Value) {
        self.begin_with(person, options, None).await;
    }

    /// The same, with code that runs beside pusher-js, which it can use as `pusher`.
    pub async fn begin_with(&self, person: &Person, options: Value, recipe: Option<&str>) {
        let app = &person.app;
        let (scheme, authority) = app.url.split_once("://").unwrap_or_else(|| panic!("{} is no URL", app.url));
        let (host, port) = authority.rsplit_once(':').unwrap_or_else(|| panic!("{} has no port", app.url));
        let port: u16 = port.parse().unwrap_or_else(|e| panic!("{}: {e}", app.url));
        self.run(json!({
            "do": "connect", "key": app.key, "host": host, "port": port, "tls": scheme == "https", "options": options,
            "as": {"app_id": app.id, "key": app.key, "secret": app.secret, "user": person.user, "info": person.info,
                   "watchlist": person.watchlist, "master_key": person.master_key, "refuse": person.refuse},
            "recipe": recipe,
        }))
        .await;
    }

    /// Connects with pusher-js and returns the socket id.
    ///
    /// # Panics
    /// When it is not connected in time.
    pub async fn connect(&self, person: &Person) -> String {
        self.begin(person, json!({})).await;
        self.connected().await
    }

    /// Waits until pusher-js says that it is connected (again) and returns the socket id.
    ///
    /// # Panics
    /// When it isn't soon.
    pub async fn connected(&self) -> String {
        let state = self.expect_state("connected").await;
        state["socket_id"].as_str().unwrap_or_else(|| panic!("connected without a socket id: {state}")).to_owned()
    }

    /// Waits until pusher-js is in this state and returns its report.
    ///
    /// # Panics
    /// When it isn't soon.
    #[track_caller]
    pub fn expect_state(&self, state: &str) -> impl Future<Output = Value> {
        let state = state.to_owned();
        let what = format!("state {state:?}");
        self.script.take(what, move |line| line["on"] == "state" && line["state"] == *state, SOON)
    }

    /// Waits for an error of the connection, including `pusher:error` events.
    ///
    /// # Panics
    /// When none comes in time.
    #[track_caller]
    pub fn expect_error(&self) -> impl Future<Output = Value> {
        self.script.take("error", |line| line["on"] == "error", SOON)
    }

    /// Subscribes and returns the data of the success: for presence channels `members`, `count`, `my_id` and `me`.
    ///
    /// # Panics
    /// When it does not succeed soon.
    pub async fn subscribe(&self, channel: &str) -> Value {
        self.ask_to_join(channel).await;
        self.expect(channel, "pusher:subscription_succeeded").await["data"].take()
    }

    /// Subscribes without waiting.
    pub async fn ask_to_join(&self, channel: &str) {
        self.run(json!({"do": "subscribe", "channel": channel})).await;
    }

    /// Unsubscribes.
    pub async fn unsubscribe(&self, channel: &str) {
        self.run(json!({"do": "unsubscribe", "channel": channel})).await;
    }

    /// Sends a client event; returns whether the library sent it.
    pub async fn trigger(&self, channel: &str, event: &str, data: Value) -> bool {
        let said = self.run(json!({"do": "trigger", "channel": channel, "event": event, "data": data})).await;
        said["sent"].as_bool().unwrap_or_default()
    }

    /// Signs in as its user.
    ///
    /// # Panics
    /// When it does not succeed soon.
    pub async fn sign_in(&self) {
        let said = self.run(json!({"do": "signin"})).await;
        assert!(said["user_data"].is_object(), "not signed in: {said}; {:?}", self.script);
    }

    /// The members of a presence channel, as the library knows them.
    pub async fn members(&self, channel: &str) -> Value {
        self.run(json!({"do": "members", "channel": channel})).await
    }

    /// Disconnects.
    pub async fn disconnect(&self) {
        self.run(json!({"do": "disconnect"})).await;
    }

    /// Takes the first event of that name on that channel: `{event, channel, data, user_id}`.
    ///
    /// # Panics
    /// When there is none soon, with what there was.
    #[track_caller]
    pub fn expect(&self, channel: &str, event: &str) -> impl Future<Output = Value> {
        let (channel, event) = (channel.to_owned(), event.to_owned());
        let what = format!("{event:?} on {channel:?}");
        let fits = move |line: &Value| line["on"] == "event" && line["channel"] == *channel && line["event"] == *event;
        self.script.take(what, fits, SOON)
    }

    /// The events of that name on that channel that have come and were not taken.
    pub fn heard(&self, channel: &str, event: &str) -> Vec<Value> {
        self.script.waiting(|line| line["on"] == "event" && line["channel"] == channel && line["event"] == event)
    }

    /// Takes the first event for the signed-in user with that name.
    ///
    /// # Panics
    /// When there is nothing of that name soon.
    #[track_caller]
    pub fn expect_for_user(&self, event: &str) -> impl Future<Output = Value> {
        let event = event.to_owned();
        self.script.take(
            format!("{event:?} for the user"),
            move |line| line["on"] == "user" && line["event"] == *event,
            SOON,
        )
    }

    /// Opens an `EventSource`; events of type `message` and of these types are recorded.
    ///
    /// # Panics
    /// When it does not open soon.
    pub async fn open_stream(&self, name: &str, url: &str, types: &[&str]) {
        self.open_stream_with("EventSource", name, url, types).await;
    }

    /// The same with the library of that name, if the client has several.
    ///
    /// # Panics
    /// When it does not open soon.
    pub async fn open_stream_with(&self, library: &str, name: &str, url: &str, types: &[&str]) {
        self.run(json!({"do": "stream", "library": library, "name": name, "url": url, "types": types})).await;
        let wanted = name.to_owned();
        self.script.take("open stream", move |line| line["on"] == "stream_open" && line["name"] == *wanted, SOON).await;
    }

    /// Takes the first event of that type of a stream: `{type, data, id}`.
    ///
    /// # Panics
    /// When there is none soon, with what there was.
    #[track_caller]
    pub fn expect_streamed(&self, name: &str, kind: &str) -> impl Future<Output = Value> {
        let (name, kind) = (name.to_owned(), kind.to_owned());
        let what = format!("{kind:?} on stream {name:?}");
        let fits = move |line: &Value| line["on"] == "stream" && line["name"] == *name && line["type"] == *kind;
        self.script.take(what, fits, SOON)
    }

    /// The events of a stream that have come and were not taken.
    pub fn streamed(&self, name: &str) -> Vec<Value> {
        self.script.waiting(|line| line["on"] == "stream" && line["name"] == name)
    }

    /// Takes the next watchlist event of pusher-js with that name: `{name, user_ids}`.
    ///
    /// # Panics
    /// When there is nothing of that name soon.
    #[track_caller]
    pub fn expect_watched(&self, name: &str) -> impl Future<Output = Value> {
        let name = name.to_owned();
        self.script.take(
            format!("{name:?} of the watched"),
            move |line| line["on"] == "watch" && line["name"] == *name,
            SOON,
        )
    }

    /// Closes a stream.
    pub async fn close_stream(&self, name: &str) {
        self.run(json!({"do": "close_stream", "name": name})).await;
    }

    async fn run(&self, command: Value) -> Value {
        self.script.run(command).await.unwrap_or_else(|error| panic!("{error}"))
    }
}

/// The certificate's file, if the server speaks TLS.
pub(crate) fn certificate_of(server: &Server) -> Option<String> {
    let file = server.dir.join(tls::CERTIFICATE_FILE);
    Path::exists(&file).then(|| file.to_string_lossy().into_owned())
}
