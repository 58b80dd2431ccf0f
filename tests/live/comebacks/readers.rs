//! The clients: each reads numbered events, and its row shows how long it was disconnected and what it lost.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use serde_json::{Value, json};
use tidings_testkit::{Client, Server};
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout};

use super::publisher::{Published, Publisher};
use super::{KEPT, PATIENCE, Seconds, in_time};
use crate::kit::{APPS, SOON};

/// The channel of the clients of Pusher's protocol.
pub(super) const LIVE: &str = "live";
/// How long one wait for the next event takes: less than the client kit's timeout, which panics.
const LOOK: Duration = Duration::from_secs(10);
/// How many events a client reads before the disruption.
const ENOUGH: usize = 10;

/// The numbers that were received, with their times.
type Heard = Arc<Mutex<Vec<(u64, Instant)>>>;

/// A reading client.
pub(super) struct Reader {
    name: String,
    client: Arc<Client>,
    source: Source,
    heard: Heard,
    tasks: Vec<JoinHandle<()>>,
}

/// The source of its events.
#[derive(Debug, Clone)]
enum Source {
    /// A channel in Pusher's protocol.
    Channel,
    /// The event stream of this name.
    Stream(String),
}

impl Source {
    /// The next event's number.
    async fn next(&self, client: &Client) -> Option<u64> {
        match self {
            Self::Channel => client.expect(LIVE, "e").await["data"]["n"].as_u64(),
            Self::Stream(name) => {
                let told = client.expect_streamed(name, "message").await;
                serde_json::from_str::<Value>(told["data"].as_str()?).ok()?["data"]["n"].as_u64()
            }
        }
    }
}

/// The result of a client.
pub(super) struct Row {
    name: String,
    /// The longest time between two events, if it reconnected.
    away: Option<Duration>,
    /// How many acknowledged events it never received.
    pub(super) lost: usize,
    /// Whether its channel has a history, from which it catches up.
    pub(super) catches_up: bool,
    /// How often it was told that messages are lost.
    pub(super) told: usize,
}

/// A client of each kind, connected to the server at this address.
pub(super) async fn of_each_kind(server: &Server, at: SocketAddr) -> Vec<Reader> {
    let mut app = APPS[0].pusher(server);
    app.url = format!("http://{at}");
    let (node, page, echo, pysher, streams) = tokio::join!(
        Client::node(server),
        Client::chromium(),
        Client::echo(),
        Client::pysher(),
        Client::node_readers()
    );
    let [node, page, echo, pysher, streams] = [node, page, echo, pysher, streams].map(Arc::new);
    // A node that stops sends away first those who came first: a stream whose next request meets a 503 does not come
    // back.
    let in_node = event_source("EventSource in Node", &streams, "eventsource 4", at).await;
    let in_page = event_source("EventSource in Chromium", &page, "EventSource", at).await;
    for client in [&node, &page] {
        client.connect(&app.person("ann")).await;
        client.subscribe(LIVE).await;
    }
    echo.begin(&app.person("ann"), json!({"broadcaster": "pusher"})).await;
    echo.connected().await;
    echo.subscribe(LIVE).await;
    pysher.connect(&app.person("ann")).await;
    pysher.ask_to_join(LIVE).await;
    pysher.expect(LIVE, "pusher_internal:subscription_succeeded").await;
    let mut pysher = Reader::start("Pysher", &pysher, Source::Channel);
    pysher.joins_again();
    vec![
        Reader::start("pusher-js in Node", &node, Source::Channel),
        Reader::start("pusher-js in Chromium", &page, Source::Channel),
        Reader::start("Laravel Echo", &echo, Source::Channel),
        pysher,
        in_node,
        in_page,
    ]
}

/// One of a client's event streams.
pub(super) async fn event_source(name: &str, client: &Arc<Client>, library: &str, at: SocketAddr) -> Reader {
    let url = format!("http://{at}/v1/stream?app={}&channels={KEPT}", APPS[0].key());
    client.open_stream_with(library, name, &url, &["tidings.lost"]).await;
    Reader::start(name, client, Source::Stream(name.to_owned()))
}

impl Reader {
    fn start(name: &str, client: &Arc<Client>, source: Source) -> Self {
        let heard = Heard::default();
        let reading = read(Arc::clone(client), source.clone(), Arc::clone(&heard));
        let tasks = vec![tokio::spawn(reading)];
        Self { name: name.to_owned(), client: Arc::clone(client), source, heard, tasks }
    }

    /// Subscribes on each connection, as applications have to whose library does not resubscribe.
    fn joins_again(&mut self) {
        let client = Arc::clone(&self.client);
        self.tasks.push(tokio::spawn(async move {
            loop {
                if timeout(LOOK, client.connected()).await.is_ok() {
                    client.ask_to_join(LIVE).await;
                }
            }
        }));
    }

    fn row(&self, published: &Published, came_back: bool) -> Row {
        let heard = self.heard.lock();
        let numbers: BTreeSet<u64> = heard.iter().map(|(n, _)| *n).collect();
        let first = heard.first().map_or(0, |(n, _)| *n);
        let lost = published.acknowledged().range(first..).filter(|n| !numbers.contains(n)).count();
        let away = heard.windows(2).map(|two| two[1].1 - two[0].1).max().filter(|_| came_back);
        let told = match &self.source {
            Source::Channel => 0,
            Source::Stream(name) => {
                self.client.streamed(name).iter().filter(|told| told["type"] == "tidings.lost").count()
            }
        };
        Row { name: self.name.clone(), away, lost, catches_up: matches!(self.source, Source::Stream(_)), told }
    }

    fn has_heard_since(&self, n: u64) -> bool {
        self.heard.lock().iter().any(|(heard, _)| *heard >= n)
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

async fn read(client: Arc<Client>, source: Source, heard: Heard) {
    loop {
        if let Ok(Some(n)) = timeout(LOOK, source.next(&client)).await {
            heard.lock().push((n, Instant::now()));
        }
    }
}

/// Waits until each client has read some events.
///
/// # Panics
/// When one does not.
pub(super) async fn all_read(readers: &[Reader]) {
    let reads = |reader: &Reader| reader.heard.lock().len() >= ENOUGH;
    assert!(in_time(|| std::future::ready(readers.iter().all(reads))).await, "a client reads nothing");
}

/// Waits until each client has received new events, ends the publisher, and returns the results of the clients.
pub(super) async fn rows(readers: &[Reader], publisher: Publisher) -> (Vec<Row>, Published) {
    let from = publisher.next();
    in_time(|| std::future::ready(readers.iter().all(|reader| reader.has_heard_since(from)))).await;
    let back: Vec<bool> = readers.iter().map(|reader| reader.has_heard_since(from)).collect();
    let published = publisher.finish().await;
    let last = published.acknowledged().last().copied().unwrap_or_default();
    // What is under way to those who are back.
    let has_all = || readers.iter().zip(&back).all(|(reader, back)| !back || reader.has_heard_since(last));
    timeout(SOON, in_time(|| std::future::ready(has_all()))).await.ok();
    let rows = readers.iter().zip(back).map(|(reader, back)| reader.row(&published, back)).collect();
    (rows, published)
}

/// Prints the results of the clients as a table.
pub(super) fn print(what: &str, rows: &[Row], published: &Published) {
    let mut table = format!("\n| {what} | away | lost |\n|---|---|---|\n");
    for row in rows {
        let told = if row.told > 0 { format!(", `tidings.lost` {} times", row.told) } else { String::new() };
        table += &format!("| {} | {} | {}{told} |\n", row.name, Seconds(row.away), row.lost);
    }
    if let Some(outage) = published.outage() {
        let lasted = Seconds(outage.since(outage.from));
        table += &format!("| nothing is acknowledged | {lasted} | {} |\n", outage.refused + outage.unknown);
    }
    println!("{table}");
}

/// Asserts that all clients reconnected, and that each gap of a stream was reported to it.
pub(super) fn judge<'r>(what: &str, rows: impl IntoIterator<Item = &'r Row>) {
    for row in rows {
        assert!(row.away.is_some(), "{what}: {} has not come back within {PATIENCE:?}", row.name);
        assert!(!row.catches_up || row.lost == 0 || row.told > 0, "{what}: {} has a gap of {}", row.name, row.lost);
    }
}
