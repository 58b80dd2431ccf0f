//! A door with three apps, and requests to it.

use std::collections::VecDeque;
use std::io::Write;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use http::{HeaderMap, Request, StatusCode};
use http_body_util::BodyExt;
use parking_lot::Mutex;
use serde_json::Value;
use tidings_courier::egress::EgressConfig;
use tidings_door::Door as _;
use tidings_door_api::Api;
use tidings_model::app::{App, AppLimits, Doors, UnknownHooks};
use tidings_model::channel::ChannelOptions;
use tidings_model::clock::{ManualClock, SharedClock};
use tidings_model::policy::{Namespace, Namespaces};
use tidings_model::secret::SecretString;
use tidings_model::token::TokenKeys;
use tidings_node::{Config, Node, StoreConfig};
use tidings_store::postgres::Options;
use tidings_store::sqlite::Sync;
use tidings_testkit::{Database, postgres};
use tidings_wire::sse::{self, Parser};
use tower::ServiceExt;

/// When every test begins: 2026-11-21T09:56:40Z.
pub(crate) const NOW: i64 = 1_795_255_000_000;
/// The longest that a test waits.
pub(crate) const SOON: Duration = Duration::from_secs(10);
/// The key of the app `one`, which is the default.
pub(crate) const KEY: &str = "key-of-one";
/// The key of the app `two`.
pub(crate) const OTHER_KEY: &str = "key-of-two";
/// The key of the app `shut`, which has no Tidings API.
pub(crate) const SHUT_KEY: &str = "key-of-shut";
/// What the app `one` signs tokens with.
pub(crate) const TOKEN_SECRET: &str = "a-secret-for-tokens";
/// The operator's key.
pub(crate) const OPERATOR: &str = "key-of-the-operator";

pub(crate) struct Door {
    router: Router,
    pub(crate) clock: Arc<ManualClock>,
    /// Whether acknowledged events would survive a power cut.
    pub(crate) durable: bool,
    pub(crate) node: Node,
    _dir: tempfile::TempDir,
    _database: Option<Database>,
}

/// Limits small enough to be reached.
fn limits() -> AppLimits {
    AppLimits { payload: 1_000, listeners: 200, hooks: 60, ..AppLimits::default() }
}

fn app(id: &str, key: &str, door: &str, limits: AppLimits) -> App {
    let channels = |name: &str, public, history_size, presence| Namespace {
        name: name.to_owned(),
        prefixes: Vec::new(),
        options: ChannelOptions { public, history_size, presence, ..ChannelOptions::default() },
    };
    let namespaces =
        [channels("kept", true, 3, false), channels("shut", false, 0, false), channels("room", true, 3, true)];
    App {
        api_keys: vec![SecretString::from(key)],
        // The app `two` has none.
        tokens: TokenKeys::new(SecretString::from(if id == "two" { "" } else { TOKEN_SECRET }), Vec::new()),
        allowed_origins: vec!["https://page.example".to_owned(), "https://*.pages.example".to_owned()],
        namespaces: Namespaces::new(&ChannelOptions::default(), &namespaces),
        hosts: vec![format!("{id}.example")],
        default: id == "one",
        doors: Doors::Only(vec![door.to_owned()]),
        limits,
        ..App::new(id, format!("public-{id}"), SecretString::from("secret"))
    }
}

pub(crate) async fn door() -> Door {
    door_with(limits()).await
}

pub(crate) async fn door_with(limits: AppLimits) -> Door {
    door_to(None, limits, UnknownHooks::Accept).await
}

/// A door whose apps refuse events that have no hook.
pub(crate) async fn door_that_refuses_unknown_hooks() -> Door {
    door_to(None, limits(), UnknownHooks::Refuse).await
}

/// A door whose store is a PostgreSQL database of its own.
pub(crate) async fn door_on_postgres() -> Door {
    door_to(Some(postgres()), limits(), UnknownHooks::Accept).await
}

async fn door_to(database: Option<Database>, limits: AppLimits, unknown_hooks: UnknownHooks) -> Door {
    capture_logs();
    let dir = tempfile::tempdir().unwrap();
    let clock = ManualClock::at(NOW);
    let limits = AppLimits { history: 1 << 20, ..limits };
    let app = |id: &str, key: &str, door: &str| App { unknown_hooks, ..app(id, key, door, limits.clone()) };
    let apps = vec![app("one", KEY, "api"), app("two", OTHER_KEY, "api"), app("shut", SHUT_KEY, "other")];
    let store = match &database {
        None => StoreConfig::Sqlite { path: dir.path().join("tidings.db"), sync: Sync::Normal },
        Some(database) => StoreConfig::Postgres {
            url: SecretString::from(database.url().as_str()),
            node: "a".to_owned(),
            options: Options::default(),
        },
    };
    let allow = vec!["127.0.0.0/8".parse().unwrap()];
    let config = Config::in_folder(dir.path())
        .store(store)
        .shards(1)
        .egress(EgressConfig { allow, ..EgressConfig::default() })
        .apps(apps)
        .clock(Arc::clone(&clock) as SharedClock);
    let api = Api::new(SecretString::from(OPERATOR));
    let node = Node::start(config, |parts| api.webhook_formats(parts)).await.unwrap();
    Door { router: api.routes(&node), clock, durable: database.is_some(), node, _dir: dir, _database: database }
}

/// A response.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) text: String,
}

impl Answer {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|e| panic!("{e}: {}", self.text))
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }

    /// The body of a response, whose status must be this.
    #[track_caller]
    pub(crate) fn ok(&self, status: u16) -> Value {
        assert_eq!(self.status.as_u16(), status, "{}", self.text);
        if self.text.is_empty() { Value::Null } else { self.json() }
    }

    /// Asserts a refusal and returns it.
    #[track_caller]
    pub(crate) fn refused(&self, status: u16, code: &str) -> Value {
        let problem = self.ok(status);
        assert_eq!(self.header("content-type"), Some("application/problem+json"), "{}", self.text);
        assert_eq!(problem["code"], code, "{}", self.text);
        assert_eq!(problem["status"], status, "{}", self.text);
        assert_eq!(problem["type"], format!("urn:tidings:problem:{code}"));
        assert!(problem["title"].is_string() && problem["detail"].is_string(), "{}", self.text);
        assert!(problem["remedy"].as_str().is_some_and(|text| !text.is_empty()), "no remedy: {}", self.text);
        problem
    }
}

/// A client of a stream.
pub(crate) struct Listening {
    body: Body,
    parser: Parser,
    heard: VecDeque<sse::Event>,
    /// It has received `tidings.joined`.
    is_joined: bool,
}

impl Listening {
    /// Reads more. Fails when nothing comes, or the stream has ended.
    async fn hear(&mut self) {
        let frame = tokio::time::timeout(SOON, self.body.frame()).await.unwrap();
        let bytes = frame.unwrap().unwrap().into_data().unwrap();
        self.heard.extend(self.parser.feed(&bytes).unwrap());
    }

    /// The next event other than `tidings.joined`.
    pub(crate) async fn next(&mut self) -> sse::Event {
        loop {
            if let Some(event) = self.heard.pop_front() {
                if event.name == "tidings.joined" {
                    self.is_joined = true;
                    continue;
                }
                return event;
            }
            self.hear().await;
        }
    }

    /// Waits until it has joined its channels: earlier events need not reach it.
    pub(crate) async fn joined(&mut self) {
        while !self.is_joined && !self.heard.iter().any(|event| event.name == "tidings.joined") {
            self.hear().await;
        }
    }

    /// The next event, which is a message, as JSON, with its id.
    pub(crate) async fn message(&mut self) -> (String, Value) {
        let event = self.next().await;
        assert_eq!(event.name, "message", "{event:?}");
        (event.id, serde_json::from_str(&event.data).unwrap())
    }

    /// Waits until the client's last id is this.
    pub(crate) async fn reaches(&mut self, wanted: impl Fn(&str) -> bool) -> String {
        while !wanted(self.parser.last_id()) {
            self.hear().await;
        }
        self.parser.last_id().to_owned()
    }

    /// Everything until the end, as text.
    pub(crate) async fn rest(&mut self) -> String {
        let rest = tokio::time::timeout(SOON, std::mem::take(&mut self.body).collect()).await.unwrap().unwrap();
        String::from_utf8(rest.to_bytes().to_vec()).unwrap()
    }
}

impl Door {
    /// Sends a request.
    pub(crate) async fn send(&self, request: Request<Body>) -> Answer {
        let (head, body) = self.router.clone().oneshot(request).await.unwrap().into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        Answer { status: head.status, headers: head.headers, text: String::from_utf8(body.to_vec()).unwrap() }
    }

    /// Sends a request whose response is a stream, and returns the response's head and the stream.
    pub(crate) async fn stream(&self, request: Request<Body>) -> (http::response::Parts, Listening) {
        let (head, body) = self.router.clone().oneshot(request).await.unwrap().into_parts();
        (head, Listening { body, parser: Parser::default(), heard: VecDeque::new(), is_joined: false })
    }

    /// Opens a stream with the key of the app `one` and these other parameters, and reads its first event.
    pub(crate) async fn listen(&self, query: &str) -> Listening {
        let request = Request::get(format!("/v1/stream?app=public-one&{query}")).body(Body::empty()).unwrap();
        let (head, mut listening) = self.stream(request).await;
        assert_eq!(head.status, 200, "{query}: {:?}", listening.rest().await);
        assert_eq!(listening.next().await.name, "tidings.open");
        listening
    }

    /// Sends a request with a key and a body whose content type is JSON.
    pub(crate) async fn call(&self, key: &str, method: &str, path: &str, body: impl Into<Vec<u8>>) -> Answer {
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header("authorization", format!("Bearer {key}"))
            .header("content-type", "application/json");
        self.send(request.body(Body::from(body.into())).unwrap()).await
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.call(KEY, "GET", path, "").await
    }

    pub(crate) async fn delete(&self, path: &str) -> Answer {
        self.call(KEY, "DELETE", path, "").await
    }

    pub(crate) async fn post(&self, path: &str, json: Value) -> Answer {
        self.call(KEY, "POST", path, json.to_string()).await
    }

    pub(crate) async fn patch(&self, path: &str, json: Value) -> Answer {
        self.call(KEY, "PATCH", path, json.to_string()).await
    }

    /// Creates a hook.
    pub(crate) async fn hook(&self, name: &str) {
        self.post("/v1/hooks", serde_json::json!({"name": name})).await.ok(201);
    }

    /// Creates a listener and returns its id.
    pub(crate) async fn listener(&self, json: Value) -> String {
        text(&self.post("/v1/listeners", json).await.ok(201)["id"])
    }

    /// Every entry of a list, page by page.
    pub(crate) async fn all(&self, path: &str, limit: usize) -> Vec<Value> {
        let mut all = Vec::new();
        let mut cursor = String::new();
        loop {
            let join = if path.contains('?') { '&' } else { '?' };
            let page = self.get(&format!("{path}{join}limit={limit}{cursor}")).await.ok(200);
            let data = page["data"].as_array().unwrap();
            assert!(data.len() <= limit);
            all.extend(data.iter().cloned());
            match page["next"].as_str() {
                Some(next) => cursor = format!("&cursor={next}"),
                None => return all,
            }
        }
    }

    /// Waits until a delivery is in this state, and returns it.
    pub(crate) async fn delivery_in(&self, id: &str, state: &str) -> Value {
        tidings_testkit::eventually(SOON, || async {
            let delivery = self.get(&format!("/v1/deliveries/{id}")).await.ok(200);
            (delivery["state"] == state).then_some(delivery)
        })
        .await
    }
}

/// A string of a response.
#[track_caller]
pub(crate) fn text(value: &Value) -> String {
    value.as_str().unwrap_or_else(|| panic!("not a text: {value}")).to_owned()
}

static LOGS: OnceLock<Logs> = OnceLock::new();

#[derive(Clone, Default)]
struct Logs(Arc<Mutex<Vec<u8>>>);

impl Write for Logs {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// Records everything that any crate logs, at any level, for [`logs`].
fn capture_logs() {
    LOGS.get_or_init(|| {
        let logs = Logs::default();
        let writer = logs.clone();
        tracing_subscriber::fmt()
            .with_max_level(tracing_subscriber::filter::LevelFilter::TRACE)
            .with_writer(move || writer.clone())
            .init();
        logs
    });
}

/// What has been logged so far, by all tests of this process.
pub(crate) fn logs() -> String {
    LOGS.get().map(|logs| String::from_utf8_lossy(&logs.0.lock()).into_owned()).unwrap_or_default()
}
