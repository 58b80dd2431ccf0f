//! The test bench: a store in a temporary folder, a courier on it, and receivers with scripted answers.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use http::{HeaderMap, Method};
use parking_lot::Mutex;
use prometheus_client::registry::Registry;
use tempfile::TempDir;
use tidings_courier::egress::{Egress, EgressConfig, Request, Response};
use tidings_courier::{Courier, Delivery, DestinationPolicy, Notice, Outcome, Outlet, PreparedRequest, Settings};
use tidings_model::clock::{Millis, SharedClock, SystemClock};
use tidings_model::delivery::DeliveryState;
use tidings_model::event::{Data, Event};
use tidings_model::id::{AppId, DeliveryKey, DestinationNo, EventNo};
use tidings_model::listener::{Format, Listener, Order};
use tidings_model::matcher::Match;
use tidings_model::pattern::Pattern;
use tidings_model::schedule::Schedule;
use tidings_model::signature::{KeyRing, Secret};
use tidings_store::log::{Destination, Lane, Lease, Logged, Publish, Published};
use tidings_store::queue::DeliveryRow;
use tidings_store::seal::MainKey;
use tidings_store::sqlite::{SqliteStore, Sync};
use tidings_store::{Store, StoreError};
use tidings_supervisor::Supervisor;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::mpsc;

/// A receiver's answer: status and headers, or none.
#[derive(Clone)]
pub(crate) enum Answer {
    Status(u16, &'static str),
    Hang,
    /// 204, once on each connection. The next request on it is read, and the connection closed without an answer.
    Once,
}

/// A receiver that answers by path and records the requests.
#[derive(Clone)]
pub(crate) struct Receiver {
    pub(crate) addr: SocketAddr,
    answers: Arc<Mutex<HashMap<String, Answer>>>,
    got: Arc<Mutex<Vec<(String, String)>>>,
    now: Arc<Mutex<HashMap<String, (u32, u32)>>>,
}

impl Receiver {
    pub(crate) async fn start() -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let receiver = Self {
            addr: listener.local_addr().unwrap(),
            answers: Arc::default(),
            got: Arc::default(),
            now: Arc::default(),
        };
        let theirs = receiver.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let receiver = theirs.clone();
                tokio::spawn(async move { receiver.serve(stream).await });
            }
        });
        receiver
    }

    pub(crate) fn answer(&self, path: &str, answer: Answer) {
        self.answers.lock().insert(path.to_owned(), answer);
    }

    /// The event ids that a path got, in the order of arrival.
    pub(crate) fn got(&self, path: &str) -> Vec<String> {
        self.got.lock().iter().filter(|(p, _)| p == path).map(|(_, id)| id.clone()).collect()
    }

    /// The most requests that a path had in flight at once.
    pub(crate) fn most_at_once(&self, path: &str) -> u32 {
        self.now.lock().get(path).map_or(0, |(_, most)| *most)
    }

    async fn serve(&self, mut stream: tokio::net::TcpStream) {
        let mut buffer = Vec::new();
        for served in 0.. {
            let (path, id, length) = loop {
                if let Some(end) = buffer.windows(4).position(|w| w == b"\r\n\r\n") {
                    let head = String::from_utf8_lossy(&buffer[..end]).to_ascii_lowercase();
                    let path = head.split(' ').nth(1).unwrap().to_owned();
                    let field =
                        |name: &str| head.lines().find_map(|l| l.strip_prefix(name)).map(|v| v.trim().to_owned());
                    let length: usize = field("content-length:").map_or(0, |v| v.parse().unwrap());
                    break (path, field("webhook-id:").unwrap_or_default(), end + 4 + length);
                }
                let mut chunk = [0; 4096];
                match stream.read(&mut chunk).await {
                    Ok(0) | Err(_) => return,
                    Ok(n) => buffer.extend_from_slice(&chunk[..n]),
                }
            };
            while buffer.len() < length {
                let mut chunk = [0; 4096];
                match stream.read(&mut chunk).await {
                    Ok(0) | Err(_) => return,
                    Ok(n) => buffer.extend_from_slice(&chunk[..n]),
                }
            }
            buffer.drain(..length);
            self.got.lock().push((path.clone(), id));
            {
                let mut now = self.now.lock();
                let entry = now.entry(path.clone()).or_default();
                entry.0 += 1;
                entry.1 = entry.1.max(entry.0);
            }
            let answer = self.answers.lock().get(&path).cloned().unwrap_or(Answer::Status(204, ""));
            let text = match answer {
                Answer::Hang => {
                    // Until the other side gives up.
                    drop(stream.read(&mut [0; 1]).await);
                    None
                }
                Answer::Once if served > 0 => None,
                Answer::Once => Some("HTTP/1.1 204 X\r\ncontent-length: 0\r\n\r\n".to_owned()),
                Answer::Status(status, headers) => {
                    tokio::task::yield_now().await;
                    Some(format!("HTTP/1.1 {status} X\r\n{headers}content-length: 0\r\n\r\n"))
                }
            };
            self.now.lock().get_mut(&path).unwrap().0 -= 1;
            match text {
                Some(text) if stream.write_all(text.as_bytes()).await.is_ok() => {}
                _ => return,
            }
        }
    }
}

/// What a destination allows unless a test says otherwise.
pub(crate) const OPEN: DestinationPolicy = DestinationPolicy::Open { concurrency: None, rate: None, host: None };

/// How the test's outlet treats a destination.
#[derive(Clone)]
pub(crate) struct Party {
    pub(crate) url: String,
    pub(crate) policy: DestinationPolicy,
    pub(crate) timeout: Duration,
    pub(crate) schedule: Schedule,
    pub(crate) batch: usize,
    /// The id of an event that cannot be rendered: the outlet panics.
    pub(crate) panics_at: Option<String>,
}

/// An outlet over a table of parties.
#[derive(Default)]
pub(crate) struct Parties(pub(crate) Mutex<HashMap<DestinationNo, Party>>);

#[async_trait]
impl Outlet for Parties {
    fn policy(&self, destination: DestinationNo) -> DestinationPolicy {
        self.0.lock().get(&destination).map_or(DestinationPolicy::Gone, |party| party.policy)
    }

    fn batch(&self, destination: DestinationNo) -> usize {
        self.0.lock().get(&destination).map_or(1, |party| party.batch)
    }

    async fn prepare(&self, batch: &[Delivery], _: Millis) -> Result<Option<PreparedRequest>, StoreError> {
        let delivery = &batch[0];
        let Some(party) = self.0.lock().get(&delivery.leased.key.destination).cloned() else { return Ok(None) };
        let mut headers = HeaderMap::new();
        let ids: Vec<_> = batch.iter().map(|delivery| delivery.payload.logged.event.id.as_str()).collect();
        assert!(!ids.iter().any(|id| party.panics_at.as_deref() == Some(*id)), "the outlet was told to panic");
        headers.insert("webhook-id", ids.join(",").parse().unwrap());
        let body = delivery.payload.logged.event.data.bytes.clone();
        Ok(Some(PreparedRequest {
            request: Request {
                method: Method::POST,
                url: party.url.parse().unwrap(),
                headers,
                body,
                title_case: false,
                fresh: false,
            },
            timeout: party.timeout,
            delay: Duration::ZERO,
        }))
    }

    fn judge(&self, _: &Delivery, answer: &Response, _: Millis) -> Outcome {
        match answer.status.as_u16() {
            200..300 => Outcome::Delivered,
            status => Outcome::Refused {
                error: format!("answered {status}"),
                slow_down: status == 429,
                retry_after: answer
                    .headers
                    .get("retry-after")
                    .and_then(|v| v.to_str().ok()?.parse().ok())
                    .map(Duration::from_secs),
                disable: (status == 410).then_some("gone"),
            },
        }
    }

    fn delay_after(&self, delivery: &Delivery, attempts: u32) -> Option<Duration> {
        self.0.lock().get(&delivery.leased.key.destination)?.schedule.delay_after(attempts)
    }
}

pub(crate) struct Bench {
    pub(crate) dir: TempDir,
    pub(crate) store: Arc<dyn Store>,
    pub(crate) outlet: Arc<Parties>,
    pub(crate) courier: Courier,
    pub(crate) notices: mpsc::UnboundedReceiver<Notice>,
    pub(crate) receiver: Receiver,
    registry: Registry,
    clock: SharedClock,
    lanes: HashMap<DestinationNo, Lane>,
    published: u32,
    /// The app of the destinations that are added and of the events that are published.
    pub(crate) app: AppId,
}

pub(crate) fn settings() -> Settings {
    Settings { timeout: Duration::from_millis(500), lease: Duration::from_secs(30), ..Settings::default() }
}

impl Bench {
    pub(crate) async fn start() -> Self {
        Self::with(settings()).await
    }

    pub(crate) async fn with(settings: Settings) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let outlet = Arc::new(Parties::default());
        let clock = SystemClock::shared();
        let (store, courier, notices, registry) = run(&dir, &outlet, &clock, settings).await;
        Self {
            dir,
            store,
            outlet,
            courier,
            notices,
            receiver: Receiver::start().await,
            registry,
            clock,
            lanes: HashMap::new(),
            published: 0,
            app: AppId::from("1"),
        }
    }

    /// Stops without grace and starts again on the same data, as after a crash.
    pub(crate) async fn restart(mut self, settings: Settings) -> Self {
        self.courier.stop(Duration::ZERO).await;
        self.store.close().await;
        (self.store, self.courier, self.notices, self.registry) =
            run(&self.dir, &self.outlet, &self.clock, settings).await;
        self
    }

    /// Adds a destination that is received at `path`.
    pub(crate) async fn party(&mut self, path: &str, order: Order, change: impl FnOnce(&mut Party)) -> DestinationNo {
        let url = format!("http://{}{path}", self.receiver.addr);
        let no = self.store.create_listener(listener(&self.app, path, &url, order)).await.unwrap();
        let schedule = Schedule::parse(&["0s", "50ms", "50ms"]).unwrap();
        let timeout = Duration::from_millis(500);
        let mut party = Party { url, policy: OPEN, batch: 1, timeout, schedule, panics_at: None };
        change(&mut party);
        self.outlet.0.lock().insert(no, party);
        self.lanes.insert(
            no,
            match order {
                Order::None => Lane::Own,
                Order::Fifo => Lane::Whole,
                Order::Key => Lane::Key,
            },
        );
        no
    }

    /// Publishes to these destinations. Returns the event's id.
    pub(crate) async fn publish(&mut self, to: &[DestinationNo], key: Option<&str>) -> (String, EventNo) {
        let mut destinations = self.destinations(to);
        self.courier.admit(&self.app, &mut destinations);
        let lease = self.courier.lease();
        let (event, published) = self.store_event(&destinations, key, lease).await;
        let Published::Stored { no, leased, queued } = published else { panic!("not stored") };
        let id = event.id.clone();
        let logged = Logged { no, event, hook_version: None, received_at: 0, deliveries: destinations.len() as u64 };
        self.courier.take(logged, &destinations, &leased, lease, queued);
        (id, no)
    }

    /// Publishes to these destinations as another node would: everything is left in the store. Returns the event's id.
    pub(crate) async fn publish_elsewhere(&mut self, to: &[DestinationNo]) -> String {
        let (destinations, lease) = (self.destinations(to), self.courier.lease());
        self.store_event(&destinations, None, lease).await.0.id
    }

    fn destinations(&self, to: &[DestinationNo]) -> Vec<Destination> {
        to.iter().map(|no| Destination { no: *no, lane: self.lanes[no], fresh: false }).collect()
    }

    async fn store_event(
        &mut self,
        destinations: &[Destination],
        key: Option<&str>,
        lease: Lease,
    ) -> (Event, Published) {
        self.published += 1;
        let event = Event {
            id: format!("e{:06}", self.published),
            app: self.app.clone(),
            name: "n".to_owned(),
            channels: Vec::new(),
            data: Data::json("{}"),
            time: 0,
            op: None,
            key: key.map(str::to_owned),
            except: None,
        };
        let publish = Publish {
            event: event.clone(),
            hook_version: None,
            destinations: destinations.to_vec(),
            not_before: None,
            catalogue_version: self.store.changes(i64::MAX).await.unwrap().version,
            idempotency: None,
            lease,
            now: self.clock.steady_ms(),
            received_at: self.clock.wall_ms(),
        };
        (event, self.store.publish(publish).await.unwrap())
    }

    /// The courier's and its supervisor's metrics, as Prometheus reads them.
    pub(crate) fn metrics(&self) -> String {
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &self.registry).unwrap();
        text
    }

    pub(crate) async fn delivery(&self, event: EventNo, destination: DestinationNo) -> DeliveryRow {
        let key = DeliveryKey { app: self.app.clone(), event, destination };
        self.store.delivery(&key).await.unwrap().unwrap()
    }

    /// Waits until a delivery is in this state.
    pub(crate) async fn until_state(
        &self,
        event: EventNo,
        destination: DestinationNo,
        state: DeliveryState,
    ) -> DeliveryRow {
        let mut last = None;
        for _ in 0..2_000 {
            let row = self.delivery(event, destination).await;
            if row.state == state {
                return row;
            }
            last = Some(row);
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("never {state:?}: {last:?}");
    }

    /// Waits until a delivery is scheduled again, with no attempt made.
    pub(crate) async fn until_given_back(&self, event: EventNo, destination: DestinationNo) {
        for _ in 0..2_000 {
            let row = self.delivery(event, destination).await;
            if row.state == DeliveryState::Pending && row.due.is_some() {
                assert_eq!(row.attempts, 0);
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("never given back");
    }

    /// Waits until a path has got `count` events. One that came twice in a row counts once.
    pub(crate) async fn until_each_got(&self, path: &str, count: usize) -> Vec<String> {
        let mut more = 0;
        loop {
            let mut got = self.until_got(path, count + more).await;
            got.dedup();
            if got.len() >= count {
                return got;
            }
            more += 1;
        }
    }

    /// Waits until a path has got `count` events.
    pub(crate) async fn until_got(&self, path: &str, count: usize) -> Vec<String> {
        for _ in 0..2_000 {
            let got = self.receiver.got(path);
            if got.len() >= count {
                return got;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!(
            "{path} got {} of {count}; {:?}; load {:?}",
            self.receiver.got(path).len(),
            self.store.depth().await,
            self.courier.load()
        );
    }
}

async fn run(
    dir: &TempDir,
    outlet: &Arc<Parties>,
    clock: &SharedClock,
    settings: Settings,
) -> (Arc<dyn Store>, Courier, mpsc::UnboundedReceiver<Notice>, Registry) {
    let key = MainKey::load_or_create(&dir.path().join("main.key")).unwrap();
    let store: Arc<dyn Store> =
        Arc::new(SqliteStore::open(&dir.path().join("t.db"), Sync::Full, key, &Supervisor::default()).unwrap());
    let egress =
        Egress::new(EgressConfig { allow: vec!["127.0.0.0/8".parse().unwrap()], ..EgressConfig::default() }).unwrap();
    let outlet: Arc<dyn Outlet> = Arc::clone(outlet) as _;
    let mut registry = Registry::default();
    let supervisor = Supervisor::new(&mut registry);
    let (courier, notices) =
        Courier::start(Arc::clone(&store), outlet, egress, Arc::clone(clock), settings, &mut registry, &supervisor)
            .await
            .unwrap();
    (store, courier, notices, registry)
}

fn listener(app: &AppId, id: &str, url: &str, order: Order) -> Listener {
    Listener {
        app: app.clone(),
        id: id.to_owned(),
        no: DestinationNo(0),
        url: url.parse().unwrap(),
        description: String::new(),
        hooks: vec![Pattern::parse("n").unwrap()],
        filter: Match::all(),
        keys: KeyRing::new(Secret::generate().unwrap()),
        headers: Vec::new(),
        rate: None,
        concurrency: None,
        order,
        format: Format::default(),
        batch: 1,
        timeout: None,
        schedule: None,
        disabled: None,
        owner: None,
        version: 0,
        created_at: 0,
        updated_at: 0,
    }
}
