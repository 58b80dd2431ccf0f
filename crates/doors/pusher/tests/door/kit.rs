//! A door with three apps, signed requests to it, and everything that live sessions would be told.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use axum::Router;
use axum::body::Body;
use http::{HeaderMap, Request, StatusCode};
use http_body_util::BodyExt;
use parking_lot::Mutex;
use prometheus_client::registry::Registry;
use serde_json::Value;
use tidings_broker::{
    Broker, Control, DeliveryMode, Join, MemoryBroker, MemoryLimits, SessionRef, ShardMessage, Shards,
};
use tidings_bus::{Apps, Bus, Catalogue, Parts, Transitions};
use tidings_courier::egress::{Egress, EgressConfig, Response};
use tidings_courier::{Courier, Delivery, DestinationPolicy, Outcome, Outlet, PreparedRequest, Settings};
use tidings_door_pusher::{FORMAT, KeepAlive, PusherDoor, router};
use tidings_live::{Inboxes, Live};
use tidings_model::app::{App, AppLimits, Doors, Token};
use tidings_model::channel::{ChannelKey, ChannelOptions, Member, SessionId};
use tidings_model::clock::{Clock, ManualClock, Millis, SharedClock};
use tidings_model::id::DestinationNo;
use tidings_model::policy::{Namespaces, canonical};
use tidings_model::signing;
use tidings_model::token::TokenKeys;
use tidings_store::seal::MainKey;
use tidings_store::sqlite::{SqliteStore, Sync};
use tidings_store::{Store, StoreError};
use tidings_supervisor::Supervisor;
use tower::ServiceExt;

/// When every test begins: the time of Pusher's own example of a signed request.
pub(crate) const NOW: i64 = 1_353_088_179_000;
pub(crate) const KEY: &str = "278d425bdf160c739803";
pub(crate) const SECRET: &str = "7ad3773142a6692b25b8";
/// The app 3 signs its clients' tokens with it.
pub(crate) const TOKEN_SECRET: &str = "a secret for tokens, which is long enough";

pub(crate) struct Door {
    router: Router,
    pub(crate) clock: Arc<ManualClock>,
    pub(crate) bus: Bus,
    broker: Arc<dyn Broker>,
    shards: Arc<Recorder>,
    joined: Mutex<u32>,
    _dir: tempfile::TempDir,
}

/// Shards that write down what they are told.
#[derive(Default)]
struct Recorder(Mutex<Vec<ShardMessage>>);

impl Shards for Recorder {
    fn count(&self) -> u16 {
        1
    }

    fn send(&self, _: u16, told: ShardMessage) {
        self.0.lock().push(told);
    }

    fn overloaded(&self) -> bool {
        false
    }
}

/// Nobody listens by webhook here.
struct Mute;

#[async_trait]
impl Outlet for Mute {
    fn policy(&self, _: DestinationNo) -> DestinationPolicy {
        DestinationPolicy::Gone
    }

    async fn prepare(&self, _: &[Delivery], _: Millis) -> Result<Option<PreparedRequest>, StoreError> {
        Ok(None)
    }

    fn judge(&self, _: &Delivery, _: &Response, _: Millis) -> Outcome {
        Outcome::Delivered
    }

    fn delay_after(&self, _: &Delivery, _: u32) -> Option<Duration> {
        None
    }
}

fn app(id: &str, key: &str, door: &str, limits: AppLimits) -> App {
    App {
        doors: Doors::Only(vec![door.to_owned()]),
        namespaces: Namespaces::default(),
        limits,
        ..App::new(id, key, Token::from(SECRET))
    }
}

pub(crate) async fn door() -> Door {
    door_with(AppLimits::default()).await
}

/// The app 3 is that of Pusher's example; 4 is another; 5 has no Pusher door. Payloads may have 100 bytes.
pub(crate) async fn door_with(limits: AppLimits) -> Door {
    let limits = AppLimits { payload: 100, ..limits };
    let dir = tempfile::tempdir().unwrap();
    let key = MainKey::load_or_create(&dir.path().join("main.key")).unwrap();
    let store: Arc<dyn Store> =
        Arc::new(SqliteStore::open(&dir.path().join("tidings.db"), Sync::Normal, key, &Supervisor::default()).unwrap());
    let clock = ManualClock::at(NOW);
    let shared: SharedClock = Arc::clone(&clock) as SharedClock;
    let apps = Apps::new(vec![
        App {
            tokens: TokenKeys::new(Token::from(TOKEN_SECRET), Vec::new()),
            default: true,
            ..app("3", KEY, "pusher", limits.clone())
        },
        App {
            tokens: TokenKeys::new(Token::from("another secret, and as long as any other"), Vec::new()),
            allowed_origins: vec!["https://page.example".to_owned()],
            hosts: vec!["four.example".to_owned()],
            ..app("4", "other-key", "pusher", limits.clone())
        },
        app("5", "shut-key", "api", limits),
    ]);
    let apps = Arc::new(apps.unwrap());
    let catalogue = Catalogue::load(Arc::clone(&store), Arc::clone(&apps)).await.unwrap();
    let egress = Egress::new(EgressConfig::default()).unwrap();
    let mut registry = Registry::default();
    let settings = Settings::default();
    let (courier, notices) =
        Courier::start(Arc::clone(&store), Arc::new(Mute), egress, Arc::clone(&shared), settings, &mut registry)
            .await
            .unwrap();
    let shards = Arc::new(Recorder::default());
    let broker: Arc<dyn Broker> =
        Arc::new(MemoryBroker::new(Arc::clone(&shared), Arc::clone(&shards) as _, MemoryLimits::default()));
    let transitions = Transitions::new(Arc::clone(&catalogue), Arc::clone(&shared), Duration::from_secs(30));
    let parts =
        Parts { apps, store, catalogue, courier, broker: Arc::clone(&broker), transitions, clock: Arc::clone(&shared) };
    let bus = Bus::new(parts, notices, &mut registry);
    let live_settings = tidings_live::Settings::default();
    let inboxes = Inboxes::new(1, &live_settings, Arc::clone(&shared)).unwrap();
    let (handler, runtime) = (Arc::new(bus.clone()), tokio::runtime::Handle::current());
    let live = Live::start(inboxes, live_settings, shared, handler, runtime, &mut registry).unwrap();
    let router = router(PusherDoor::new(bus.clone(), live, KeepAlive::default()));
    Door { router, clock, bus, broker, shards, joined: Mutex::default(), _dir: dir }
}

/// An answer.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) text: String,
}

impl Answer {
    /// The text of an answer that succeeded, which is JSON.
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
        let signature = signing::sign_hex(&Token::from(SECRET), signing::request_string_to_sign(method, signed, &all));
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

    /// Has a session join a channel, as a member where that is one.
    pub(crate) async fn join(&self, channel: &str, user: Option<&str>) -> SessionId {
        let app = self.bus.apps().by_id("3").unwrap();
        self.join_with(channel, user, Arc::clone(app.namespaces.options(&canonical(channel)))).await
    }

    /// The same in a channel with these options.
    pub(crate) async fn join_with(&self, channel: &str, user: Option<&str>, options: Arc<ChannelOptions>) -> SessionId {
        let slot = {
            let mut joined = self.joined.lock();
            *joined += 1;
            *joined
        };
        let session = SessionId::from_random(u128::from(slot).to_be_bytes());
        let app = self.bus.apps().by_id("3").unwrap();
        let name = canonical(channel);
        let join = Join {
            channel: ChannelKey::new(app.id.clone(), &*name),
            options,
            session,
            at: SessionRef { shard: 0, slot, life: 0 },
            request_id: 1,
            member: user.map(|user| Arc::new(Member { user: user.into(), info: None })),
            since: None,
            mode: DeliveryMode::Shared(&FORMAT),
        };
        self.broker.join(join).await.unwrap();
        self.shards.0.lock().clear();
        session
    }

    /// The frames that sessions were told since this was last called, as text, and whom each leaves out.
    pub(crate) fn said(&self) -> Vec<(String, Option<SessionId>)> {
        let told = std::mem::take(&mut *self.shards.0.lock());
        let said = told.into_iter().filter_map(|told| match told {
            ShardMessage::Message { message: prepared, except } => {
                let frame = prepared.bytes(&FORMAT)?;
                let start = frame.iter().position(|&byte| byte == b'{')?;
                Some((String::from_utf8(frame[start..].to_vec()).unwrap(), except))
            }
            _ => None,
        });
        said.collect()
    }

    /// The texts of what was said.
    pub(crate) fn frames(&self) -> Vec<String> {
        self.said().into_iter().map(|(frame, _)| frame).collect()
    }

    /// The orders that shards were given.
    pub(crate) fn orders(&self) -> Vec<Arc<Control>> {
        let told = std::mem::take(&mut *self.shards.0.lock());
        let orders = told.into_iter().filter_map(|told| match told {
            ShardMessage::Control(control) => Some(control),
            _ => None,
        });
        orders.collect()
    }
}
