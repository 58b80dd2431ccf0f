//! The attacks of a hostile tenant and of strangers, all at once: small requests that cause much work.
//!
//! Each attacker waits a moment between two requests. The attacks test amplification by single requests, not floods: a
//! flood takes the whole machine, and slows this program first.

use std::collections::BTreeMap;
use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::anyhow;
use parking_lot::Mutex;
use serde_json::{Value, json};
use tidings_testkit::{Api, Server, dial};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::live::handshake;
use crate::receiver::Receiver;

/// The tag of receivers that never answer.
pub(crate) const HANGING: &str = "hanging";
/// Attackers per kind.
const STRANGERS: usize = 8;
/// Connections that are opened and send nothing.
const SILENT: usize = 2_000;
/// Made-up channels that one session joins before it is replaced.
const INVENTED: usize = 500;
const PATIENCE: Duration = Duration::from_secs(10);
const PAUSE: Duration = Duration::from_millis(50);
const KEY: &str = "hostile-api-key-of-the-soak";

/// The number of requests per kind.
#[derive(Debug, Default)]
pub(crate) struct Counts(BTreeMap<&'static str, u64>);

impl Counts {
    pub(crate) fn lines(&self) -> Vec<(String, String)> {
        self.0.iter().map(|(kind, count)| (format!("attack: {kind}"), count.to_string())).collect()
    }

    pub(crate) fn to_json(&self) -> Value {
        json!(self.0)
    }
}

/// The state that attackers share.
struct Field {
    addr: SocketAddr,
    url: String,
    hanging: String,
    one_host: String,
    stop: AtomicBool,
    counts: Mutex<BTreeMap<&'static str, u64>>,
    /// A counter for unique names.
    next: AtomicU64,
}

impl Field {
    fn goes_on(&self) -> bool {
        !self.stop.load(Ordering::Relaxed)
    }

    fn count(&self, kind: &'static str, by: u64) {
        *self.counts.lock().entry(kind).or_default() += by;
    }

    fn fresh(&self) -> u64 {
        self.next.fetch_add(1, Ordering::Relaxed)
    }

    fn api(&self) -> Api {
        Api::new(&self.url, KEY)
    }
}

/// Running attacks.
pub(crate) struct Attacks {
    field: Arc<Field>,
    thread: JoinHandle<anyhow::Result<()>>,
}

impl Attacks {
    /// Ends them, and returns the number of requests per kind.
    pub(crate) fn stop(self) -> anyhow::Result<Counts> {
        self.field.stop.store(true, Ordering::Relaxed);
        self.thread.join().map_err(|_| anyhow!("an attack panicked"))??;
        Ok(Counts(std::mem::take(&mut *self.field.counts.lock())))
    }
}

type Attack = for<'f> fn(&'f Field) -> Pin<Box<dyn Future<Output = ()> + 'f>>;

/// All kinds, by name.
const KINDS: [(&str, Attack); 9] = [
    ("matches", |field| Box::pin(costly_matches(field))),
    ("schemas", |field| Box::pin(costly_schemas(field))),
    ("parameters", |field| Box::pin(many(STRANGERS, || parameters(field)))),
    ("retries", |field| Box::pin(retries_and_lists(field))),
    ("channels", |field| Box::pin(many(STRANGERS, || invented_channels(field)))),
    ("hanging", |field| Box::pin(hanging_listeners(field))),
    ("one-host", |field| Box::pin(one_host(field))),
    ("silent", |field| Box::pin(silent_connections(field))),
    ("guesses", |field| Box::pin(many(STRANGERS, || guesses(field)))),
];

fn names() -> Vec<&'static str> {
    KINDS.iter().map(|(name, _)| *name).collect()
}

/// Starts all kinds, or those with the given names, on a thread of their own.
pub(crate) fn start(server: &Server, receiver: &Receiver, only: &[String]) -> anyhow::Result<Attacks> {
    let field = Arc::new(Field {
        addr: server.addr,
        url: server.url.clone(),
        hanging: receiver.url(HANGING),
        one_host: receiver.url("one-host"),
        stop: AtomicBool::new(false),
        counts: Mutex::default(),
        next: AtomicU64::new(0),
    });
    let shared = Arc::clone(&field);
    if let Some(unknown) = only.iter().find(|only| !names().contains(&only.as_str())) {
        anyhow::bail!("unknown attack {unknown:?}; the attacks are {}", names().join(", "));
    }
    let wanted: Vec<&(&str, Attack)> =
        KINDS.iter().filter(|(name, _)| only.is_empty() || only.iter().any(|only| only == name)).collect();
    let thread = std::thread::Builder::new().name("attacks".to_owned()).spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(async {
            let all = wanted.into_iter().map(|(_, attack)| attack(&shared));
            futures_util::future::join_all(all).await;
        });
        Ok(())
    })?;
    Ok(Attacks { field, thread })
}

/// Runs an attack by several attackers at once.
async fn many<F: Future<Output = ()>>(count: usize, one: impl Fn() -> F) {
    futures_util::future::join_all((0..count).map(|_| one())).await;
}

/// Listeners whose matches are short to write and need much memory.
async fn costly_matches(field: &Field) {
    let api = field.api();
    api.post("/v1/hooks", json!({"name": "costly"})).within(PATIENCE).send().await.ok();
    while field.goes_on() {
        let conditions: serde_json::Map<String, Value> = (0..100)
            .map(|n| (format!("f{n}"), json!({"like": format!("\\pL{{{}}}", 5 + field.fresh() % 40)})))
            .collect();
        let listener = json!({"url": field.hanging, "hooks": ["costly"], "match": conditions});
        api.post("/v1/listeners", listener).within(PATIENCE).send().await.ok();
        api.post("/v1/events", json!({"name": "costly", "data": {"f0": "abcde"}})).within(PATIENCE).send().await.ok();
        field.count("matches of 100 expressions", 1);
        tokio::time::sleep(PAUSE).await;
    }
}

/// Hooks with schemas that expand.
async fn costly_schemas(field: &Field) {
    let api = field.api();
    let schema: Vec<Value> = (0..12_000).map(|_| json!({})).collect();
    while field.goes_on() {
        let hook = json!({"name": format!("schema.{}", field.fresh()), "schema": {"anyOf": schema}});
        api.post("/v1/hooks", hook).within(PATIENCE).send().await.ok();
        field.count("schemas of many members", 1);
        tokio::time::sleep(4 * PAUSE).await;
    }
}

/// Requests with thousands of parameters and no signature.
async fn parameters(field: &Field) {
    let query: String = (0..10_000).map(|n| format!("&a{n}[]=1")).collect();
    let line = format!("GET /apps/1/channels?auth_key=honest&auth_signature=00{query} HTTP/1.1\r\nhost: a\r\n\r\n");
    while field.goes_on() {
        ask(field.addr, line.as_bytes()).await;
        field.count("requests with 10,000 parameters", 1);
        tokio::time::sleep(PAUSE).await;
    }
}

/// Wrong API keys.
async fn guesses(field: &Field) {
    while field.goes_on() {
        let key = format!("guess-{}", field.fresh());
        Api::new(&field.url, &key).get("/v1/hooks").within(PATIENCE).send().await.ok();
        field.count("guessed keys", 1);
        tokio::time::sleep(PAUSE).await;
    }
}

/// Retries one delivery by hand again and again, and lists its attempts.
async fn retries_and_lists(field: &Field) {
    let api = field.api();
    api.post("/v1/hooks", json!({"name": "again"})).within(PATIENCE).send().await.ok();
    let listener = json!({"url": "http://127.0.0.1:9/", "hooks": ["again"], "schedule": ["0s"]});
    api.post("/v1/listeners", listener).within(PATIENCE).send().await.ok();
    api.post("/v1/events", json!({"name": "again", "data": {}})).within(PATIENCE).send().await.ok();
    while field.goes_on() {
        tokio::time::sleep(PAUSE).await;
        let Ok(page) = api.get("/v1/deliveries?limit=1").within(PATIENCE).send().await else { continue };
        let Some(id) = page.json["data"][0]["id"].as_str().map(str::to_owned) else { continue };
        for _ in 0..20 {
            api.post(&format!("/v1/deliveries/{id}/retry"), json!({})).within(PATIENCE).send().await.ok();
            field.count("retries by hand", 1);
        }
        api.get(&format!("/v1/deliveries/{id}/attempts?limit=250")).within(PATIENCE).send().await.ok();
    }
}

/// A session that joins made-up channels.
async fn invented_channels(field: &Field) {
    while field.goes_on() {
        let Some(mut stream) = connect(field.addr).await else { continue };
        let hello = handshake::request("/app/honest?protocol=7&client=soak&version=1.0.0");
        if stream.write_all(hello.as_bytes()).await.is_err() {
            continue;
        }
        for _ in 0..INVENTED {
            let name = format!("invented-{}", field.fresh());
            let join = format!(r#"{{"event":"pusher:subscribe","data":{{"auth":"","channel":"{name}"}}}}"#);
            if !field.goes_on() || stream.write_all(&handshake::masked_text(&join)).await.is_err() {
                break;
            }
            field.count("invented channels", 1);
        }
        tokio::time::sleep(20 * PAUSE).await;
    }
}

/// More listeners that never answer than deliveries may be in flight.
async fn hanging_listeners(field: &Field) {
    let api = field.api();
    api.post("/v1/hooks", json!({"name": "hang"})).within(PATIENCE).send().await.ok();
    let mut made = 0_u32;
    while field.goes_on() {
        if made < 5_000 {
            // Each at a new host.
            let host = format!("127.{}.{}.1", 1 + made / 250, 1 + made % 250);
            let url = field.hanging.replacen("127.0.0.1", &host, 1);
            api.post("/v1/listeners", json!({"url": url, "hooks": ["hang"]})).within(PATIENCE).send().await.ok();
            made += 1;
        } else {
            tokio::time::sleep(4 * PAUSE).await;
        }
        if made.is_multiple_of(500) {
            api.post("/v1/events", json!({"name": "hang", "data": {}})).within(PATIENCE).send().await.ok();
        }
        field.count("listeners that hang", 1);
    }
}

/// A thousand listeners at one host.
async fn one_host(field: &Field) {
    let api = field.api();
    api.post("/v1/hooks", json!({"name": "crowd"})).within(PATIENCE).send().await.ok();
    for n in 0..1_000 {
        if !field.goes_on() {
            return;
        }
        let listener = json!({"url": format!("{}/{n}", field.one_host), "hooks": ["crowd"]});
        api.post("/v1/listeners", listener).within(PATIENCE).send().await.ok();
    }
    while field.goes_on() {
        api.post("/v1/events", json!({"name": "crowd", "data": {}})).within(PATIENCE).send().await.ok();
        field.count("publishes to 1,000 listeners of a host", 1);
        tokio::time::sleep(Duration::from_secs(2)).await;
    }
}

/// Connections that stay open and send nothing.
async fn silent_connections(field: &Field) {
    let mut held = Vec::new();
    while field.goes_on() {
        while held.len() < SILENT && field.goes_on() {
            let Some(stream) = connect(field.addr).await else { break };
            held.push(stream);
            field.count("silent connections", 1);
        }
        tokio::time::sleep(Duration::from_secs(2)).await;
        held.truncate(SILENT / 2);
    }
}

async fn connect(addr: SocketAddr) -> Option<TcpStream> {
    tokio::time::timeout(PATIENCE, dial(addr)).await.ok()
}

/// Sends a request and reads the answer, until it ends or takes too long.
async fn ask(addr: SocketAddr, request: &[u8]) {
    let Some(mut stream) = connect(addr).await else { return };
    let mut answer = [0; 4_096];
    let exchange = async {
        stream.write_all(request).await.ok()?;
        stream.read(&mut answer).await.ok()
    };
    tokio::time::timeout(PATIENCE, exchange).await.ok();
}
