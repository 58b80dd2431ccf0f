//! A door with three apps, signed requests to it, and the messages that live sessions receive.

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use http::{HeaderMap, Request, StatusCode};
use http_body_util::BodyExt;
use parking_lot::Mutex;
use serde_json::Value;
use tidings_bus::Bus;
use tidings_door::Door as _;
use tidings_door_pusher::{FORMAT, Pusher};
use tidings_live::Stream;
use tidings_model::app::{App, AppLimits, Doors};
use tidings_model::channel::{ChannelOptions, SessionId};
use tidings_model::clock::{Clock, ManualClock, SharedClock};
use tidings_model::policy::{Namespace, Namespaces};
use tidings_model::secret::SecretString;
use tidings_model::signing;
use tidings_model::token::TokenKeys;
use tidings_node::{Config, Node, StoreConfig};
use tidings_store::sqlite::Sync;
use tokio::sync::oneshot;
use tower::ServiceExt;

use crate::ear::{Ear, Heard};

/// When every test begins: the time of Pusher's own example of a signed request.
pub(crate) const NOW: i64 = 1_353_088_179_000;
pub(crate) const KEY: &str = "278d425bdf160c739803";
pub(crate) const SECRET: &str = "7ad3773142a6692b25b8";
/// The app 3 signs its clients' tokens with it.
pub(crate) const TOKEN_SECRET: &str = "a secret for tokens, which is long enough";

pub(crate) struct Door {
    router: Router,
    pub(crate) clock: Arc<ManualClock>,
    node: Node,
    heard: Arc<Mutex<Heard>>,
    /// The streams that sessions write to. Dropping them ends the sessions.
    sessions: Mutex<Vec<Stream>>,
    _dir: tempfile::TempDir,
}

fn app(id: &str, key: &str, door: &str, limits: AppLimits) -> App {
    let options = ChannelOptions { presence: true, max_members: 5_000, ..ChannelOptions::default() };
    let large = Namespace { name: "large".to_owned(), prefixes: vec!["presence-large".to_owned()], options };
    let namespaces = Namespaces::new(&ChannelOptions::default(), &[large]);
    let doors = Doors::Only(vec![door.to_owned()]);
    App { doors, namespaces, limits, ..App::new(id, key, SecretString::from(SECRET)) }
}

pub(crate) async fn door() -> Door {
    door_with(AppLimits::default()).await
}

/// The app 3 is that of Pusher's example; 4 is another; 5 has no Pusher door. Payloads may have 100 bytes.
pub(crate) async fn door_with(limits: AppLimits) -> Door {
    let limits = AppLimits { payload: 100, ..limits };
    let dir = tempfile::tempdir().unwrap();
    let clock = ManualClock::at(NOW);
    let apps = vec![
        App {
            tokens: TokenKeys::new(SecretString::from(TOKEN_SECRET), Vec::new()),
            default: true,
            ..app("3", KEY, "pusher", limits.clone())
        },
        App {
            tokens: TokenKeys::new(SecretString::from("another secret, and as long as any other"), Vec::new()),
            allowed_origins: vec!["https://page.example".to_owned()],
            hosts: vec!["four.example".to_owned()],
            ..app("4", "other-key", "pusher", limits.clone())
        },
        app("5", "shut-key", "api", limits),
    ];
    let store = StoreConfig::Sqlite { path: dir.path().join("tidings.db"), sync: Sync::Normal };
    let config = Config::in_folder(dir.path()).store(store).shards(1).apps(apps);
    let config = config.clock(Arc::clone(&clock) as SharedClock);
    let pusher = Pusher::default();
    let node = Node::start(config, |parts| pusher.webhook_formats(parts)).await.unwrap();
    let router = pusher.routes(&node);
    Door { router, clock, node, heard: Arc::default(), sessions: Mutex::default(), _dir: dir }
}

/// A response.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) text: String,
}

impl Answer {
    /// The JSON of a successful response.
    #[track_caller]
    pub(crate) fn ok(&self) -> &str {
        assert_eq!(self.status, 200, "{}", self.text);
        assert_eq!(self.headers["content-type"], "application/json");
        &self.text
    }

    /// The text of a refusal, without the newline that ends it.
    #[track_caller]
    pub(crate) fn refused(&self, status: u16) -> &str {
        assert_eq!(self.status, status, "{}", self.text);
        self.text.strip_suffix('\n').unwrap()
    }
}

impl Door {
    pub(crate) async fn send(&self, request: Request<Body>) -> Answer {
        let (head, body) = self.router.clone().oneshot(request).await.unwrap().into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        Answer { status: head.status, headers: head.headers, text: String::from_utf8(body.to_vec()).unwrap() }
    }

    /// Sends a request that is signed as libraries do it; `signed` is the path that they sign.
    pub(crate) async fn call_as(
        &self,
        method: &str,
        path: &str,
        signed: &str,
        params: &[(&str, &str)],
        body: &str,
        headers: &[(&str, &str)],
    ) -> Answer {
        let time = (self.clock.wall_ms() / 1_000).to_string();
        let md5 = signing::body_md5(body.as_bytes());
        let mut all = vec![("auth_key", KEY), ("auth_timestamp", &time), ("auth_version", "1.0")];
        if !body.is_empty() {
            all.push(("body_md5", &md5));
        }
        all.extend(params);
        let signature =
            signing::sign_hex(&SecretString::from(SECRET), signing::request_string_to_sign(method, signed, &all));
        all.insert(1, ("auth_signature", &signature));
        let query: Vec<_> = all.iter().map(|(name, value)| format!("{name}={}", value.replace('#', "%23"))).collect();
        let mut request = Request::builder().method(method).uri(format!("{path}?{}", query.join("&")));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        self.send(request.body(Body::from(body.to_owned())).unwrap()).await
    }

    pub(crate) async fn get(&self, path: &str, params: &[(&str, &str)]) -> Answer {
        let path = format!("/apps/3{path}");
        self.call_as("GET", &path, &path, params, "", &[]).await
    }

    pub(crate) async fn post(&self, path: &str, body: Value) -> Answer {
        self.post_with(path, body, &[]).await
    }

    pub(crate) async fn post_with(&self, path: &str, body: Value, headers: &[(&str, &str)]) -> Answer {
        let path = format!("/apps/3{path}");
        self.call_as("POST", &path, &path, &[], &body.to_string(), headers).await
    }

    pub(crate) fn bus(&self) -> &Bus {
        self.node.bus()
    }

    /// Has a session join a channel, as a member if a user is given.
    pub(crate) async fn join(&self, channel: &str, user: Option<&str>) -> SessionId {
        let session = self.open(Some(channel), user).await;
        *self.heard.lock() = Heard::default();
        session
    }

    /// Opens a session, with or without a user, and has it join a channel if one is given.
    pub(crate) async fn open(&self, channel: Option<&str>, user: Option<&str>) -> SessionId {
        let app = self.bus().apps().by_id("3").unwrap();
        let (ready, opened) = oneshot::channel();
        let (channel, user) = (channel.map(str::to_owned), user.map(str::to_owned));
        let ear = Ear { channel, user, heard: Arc::clone(&self.heard), ready: Some(ready) };
        let permit = self.node.live().admit(&app, None).unwrap();
        let stream = self.node.live().open_stream(permit, app, Box::new(ear));
        self.sessions.lock().push(stream);
        opened.await.unwrap()
    }

    /// What sessions have received since this was last called. Waits until the one shard has processed its inbox.
    async fn heard(&self) -> Heard {
        self.open(None, None).await;
        std::mem::take(&mut *self.heard.lock())
    }

    /// The frames that sessions received since this was last called, as text, with the receivers of each.
    pub(crate) async fn said(&self) -> Vec<(String, Vec<SessionId>)> {
        let said = self.heard().await.said.into_iter().filter_map(|(prepared, who)| {
            let frame = prepared.bytes(&FORMAT)?;
            let start = frame.iter().position(|&byte| byte == b'{')?;
            Some((String::from_utf8(frame[start..].to_vec()).unwrap(), who))
        });
        said.collect()
    }

    /// The texts of the frames.
    pub(crate) async fn frames(&self) -> Vec<String> {
        self.said().await.into_iter().map(|(frame, _)| frame).collect()
    }

    /// The users whose sessions were disconnected since this was last called.
    pub(crate) async fn disconnected(&self) -> Vec<String> {
        self.heard().await.disconnected
    }
}
