//! Publishers: a closed loop that measures throughput, and an open one that measures lateness.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::ensure;
use serde_json::{Value, json};
use tidings_testkit::Server;
use tokio::sync::{Mutex, mpsc};
use tokio::task::JoinSet;

use crate::clock::{now_ns, seconds};
use crate::histogram::Histogram;
use crate::http1::Connection;

/// The target of publishes.
#[derive(Debug, Clone)]
pub(crate) struct Target {
    addr: SocketAddr,
    key: String,
    name: String,
}

/// The results of publishes.
#[derive(Debug, Default)]
pub(crate) struct Published {
    /// Answered with 202.
    pub(crate) accepted: u64,
    /// Answered with another status.
    pub(crate) refused: u64,
    /// The times from the (intended) sending to the answer.
    pub(crate) answers: Histogram,
    /// How long the run took.
    pub(crate) elapsed_ns: u64,
}

impl Published {
    /// Accepted publishes per second.
    pub(crate) fn rate(&self) -> f64 {
        self.accepted as f64 / seconds(self.elapsed_ns).max(1e-9)
    }

    /// The results as JSON, for the record.
    pub(crate) fn to_json(&self) -> Value {
        json!({
            "accepted": self.accepted, "refused": self.refused, "seconds": seconds(self.elapsed_ns),
            "per_s": self.rate(), "answers": self.answers.to_json(),
        })
    }

    fn add(&mut self, other: &mut Self) {
        self.accepted += other.accepted;
        self.refused += other.refused;
    }
}

impl Target {
    /// Publishes events of this name to this server.
    pub(crate) fn new(server: &Server, name: &str) -> Self {
        Self { addr: server.addr, key: server.credentials.api_key.clone(), name: name.to_owned() }
    }

    /// The same with an API key of the config.
    pub(crate) fn with_key(addr: SocketAddr, key: &str, name: &str) -> Self {
        Self { addr, key: key.to_owned(), name: name.to_owned() }
    }

    /// A connection for publishing.
    pub(crate) async fn connect(&self) -> anyhow::Result<Connection> {
        Connection::open(self.addr, &self.key, "/v1/events").await
    }

    /// The body of a publish whose (intended) sending time is `sent_ns`.
    pub(crate) fn body(&self, sent_ns: u64) -> String {
        format!(r#"{{"name":"{}","data":{}}}"#, self.name, data(sent_ns))
    }
}

/// An event's data: with its envelope, about 200 bytes.
pub(crate) fn data(sent_ns: u64) -> String {
    format!(
        r#"{{"t":{sent_ns},"order":"A-2041","customer":{{"name":"Ada Lovelace","city":"Bergen"}},"total":"129.00","currency":"EUR","lines":3}}"#
    )
}

/// A closed loop: each of `connections` publishes as soon as its last publish is answered, until `most` were sent or
/// `time` is over.
pub(crate) async fn closed(
    target: &Target,
    connections: usize,
    time: Duration,
    most: u64,
) -> anyhow::Result<Published> {
    let mut open = Vec::with_capacity(connections);
    for _ in 0..connections {
        open.push(target.connect().await?);
    }
    let started = now_ns();
    let end = started + time.as_nanos() as u64;
    let left = Arc::new(std::sync::atomic::AtomicU64::new(most));
    let answers = Arc::new(parking_lot::Mutex::new(Histogram::default()));
    let mut tasks = JoinSet::new();
    for mut connection in open {
        let (target, left, answers) = (target.clone(), Arc::clone(&left), Arc::clone(&answers));
        tasks.spawn(async move {
            let mut published = Published::default();
            loop {
                let sent = now_ns();
                if sent >= end || !take_one(&left) {
                    return anyhow::Ok(published);
                }
                published.count(connection.post(&target.body(sent)).await?);
                answers.lock().add(now_ns() - sent);
            }
        });
    }
    collect(tasks, &answers, started).await
}

/// An open loop: publishes at a constant rate whatever the server does. Lateness is counted from the time at which a
/// publish was due.
pub(crate) async fn open(target: &Target, connections: usize, per_s: f64, time: Duration) -> anyhow::Result<Published> {
    ensure!(per_s >= 1.0, "the rate must be at least 1 per second, not {per_s}");
    let mut ready = Vec::with_capacity(connections);
    for _ in 0..connections {
        ready.push(target.connect().await?);
    }
    let (sender, due) = mpsc::unbounded_channel();
    let due = Arc::new(Mutex::new(due));
    let answers = Arc::new(parking_lot::Mutex::new(Histogram::default()));
    let started = now_ns();
    // The runtime's timers have a resolution of milliseconds; a thread can sleep more precisely.
    let ticker = std::thread::spawn(move || tick(&sender, started, per_s, time));
    let mut tasks = JoinSet::new();
    for mut connection in ready {
        let (target, due, answers) = (target.clone(), Arc::clone(&due), Arc::clone(&answers));
        tasks.spawn(async move {
            let mut published = Published::default();
            loop {
                let next = due.lock().await.recv().await;
                let Some(sent) = next else { return anyhow::Ok(published) };
                published.count(connection.post(&target.body(sent)).await?);
                answers.lock().add(now_ns() - sent);
            }
        });
    }
    let published = collect(tasks, &answers, started).await;
    ensure!(ticker.join().is_ok(), "the ticker panicked");
    published
}

fn tick(sender: &mpsc::UnboundedSender<u64>, started: u64, per_s: f64, time: Duration) {
    let total = (per_s * time.as_secs_f64()) as u64;
    for n in 0..total {
        let due = started + (n as f64 * 1e9 / per_s) as u64;
        let now = now_ns();
        if due > now {
            std::thread::sleep(Duration::from_nanos(due - now));
        }
        if sender.send(due).is_err() {
            return;
        }
    }
}

async fn collect(
    mut tasks: JoinSet<anyhow::Result<Published>>,
    answers: &parking_lot::Mutex<Histogram>,
    started: u64,
) -> anyhow::Result<Published> {
    let mut all = Published::default();
    while let Some(ended) = tasks.join_next().await {
        all.add(&mut ended??);
    }
    all.elapsed_ns = now_ns() - started;
    all.answers = answers.lock().clone();
    Ok(all)
}

fn take_one(left: &std::sync::atomic::AtomicU64) -> bool {
    use std::sync::atomic::Ordering::Relaxed;
    left.fetch_update(Relaxed, Relaxed, |left| left.checked_sub(1)).is_ok()
}

impl Published {
    fn count(&mut self, status: u16) {
        if status == 202 { self.accepted += 1 } else { self.refused += 1 }
    }
}
