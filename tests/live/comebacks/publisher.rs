//! Publishes numbered events at a steady pace, whatever the servers do, and records how each was answered.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use serde_json::Value;
use tidings_testkit::Api;
use tokio::task::JoinHandle;
use tokio::time::{Instant, MissedTickBehavior, interval};

use super::in_time;

/// The time between two events.
const EVERY: Duration = Duration::from_millis(50);
/// How long an answer may take: longer than the server waits for its database.
const ANSWER: Duration = Duration::from_secs(15);

/// One event.
#[derive(Debug, Clone, Copy)]
struct Publish {
    n: u64,
    sent: Instant,
    answered: Instant,
    /// The status of the answer, if there was one.
    status: Option<u16>,
}

impl Publish {
    fn is_acknowledged(self) -> bool {
        self.status == Some(202)
    }
}

/// A running publisher.
pub(super) struct Publisher {
    all: Arc<Mutex<Vec<Publish>>>,
    stop: Arc<AtomicBool>,
    task: JoinHandle<()>,
}

/// The record of all publishes.
pub(super) struct Published(Vec<Publish>);

/// A time without acknowledgements.
#[derive(Debug, Clone, Copy)]
pub(super) struct Outage {
    /// When the first publish that failed was sent.
    pub(super) from: Instant,
    /// When the next one was acknowledged, if one was.
    pub(super) until: Option<Instant>,
    /// How many were answered 503.
    pub(super) refused: usize,
    /// How many got no answer, or another status.
    pub(super) unknown: usize,
}

impl Outage {
    /// How long it lasted from that moment on, if it has ended.
    pub(super) fn since(&self, begin: Instant) -> Option<Duration> {
        Some(self.until?.saturating_duration_since(begin))
    }
}

impl Publisher {
    /// Publishes `event(n)` for each number from 1 on. After a failure at one node, the next node is used.
    pub(super) fn start(nodes: Vec<Api>, event: impl Fn(u64) -> Value + Send + Sync + 'static) -> Self {
        let (all, stop) = (Arc::default(), Arc::new(AtomicBool::new(false)));
        let task = tokio::spawn(publish(nodes, event, Arc::clone(&all), Arc::clone(&stop)));
        Self { all, stop, task }
    }

    /// The next number.
    pub(super) fn next(&self) -> u64 {
        self.all.lock().last().map_or(1, |publish| publish.n + 1)
    }

    /// Waits until so many more publishes have failed; returns false if they do not in time.
    pub(super) async fn fails(&self, count: usize) -> bool {
        self.goes_on(count, |publish| !publish.is_acknowledged()).await
    }

    /// Waits until so many more publishes were acknowledged; returns false if they are not in time.
    pub(super) async fn succeeds(&self, count: usize) -> bool {
        self.goes_on(count, Publish::is_acknowledged).await
    }

    async fn goes_on(&self, count: usize, counts: fn(Publish) -> bool) -> bool {
        let counted = || self.all.lock().iter().filter(|publish| counts(**publish)).count();
        let before = counted();
        in_time(|| std::future::ready(counted() >= before + count)).await
    }

    /// Ends, after the publish in progress.
    pub(super) async fn finish(self) -> Published {
        self.stop.store(true, Ordering::SeqCst);
        self.task.await.unwrap();
        Published(std::mem::take(&mut *self.all.lock()))
    }
}

async fn publish(nodes: Vec<Api>, event: impl Fn(u64) -> Value, all: Arc<Mutex<Vec<Publish>>>, stop: Arc<AtomicBool>) {
    let mut ticks = interval(EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    for n in 1.. {
        ticks.tick().await;
        if stop.load(Ordering::SeqCst) {
            return;
        }
        let (sent, mut status) = (Instant::now(), None);
        for node in &nodes {
            let answer = node.post("/v1/events", event(n)).within(ANSWER).send().await;
            status = answer.ok().map(|reply| reply.status).or(status);
            if status == Some(202) {
                break;
            }
        }
        all.lock().push(Publish { n, sent, answered: Instant::now(), status });
    }
}

impl Published {
    /// The numbers that were acknowledged.
    pub(super) fn acknowledged(&self) -> BTreeSet<u64> {
        self.0.iter().filter(|publish| publish.is_acknowledged()).map(|publish| publish.n).collect()
    }

    /// The longest time without an acknowledgement; none if all were acknowledged.
    pub(super) fn outage(&self) -> Option<Outage> {
        let mut all: Vec<Outage> = Vec::new();
        let mut open: Option<Outage> = None;
        for publish in &self.0 {
            if publish.is_acknowledged() {
                all.extend(open.take().map(|outage| Outage { until: Some(publish.answered), ..outage }));
                continue;
            }
            let outage = open.get_or_insert(Outage { from: publish.sent, until: None, refused: 0, unknown: 0 });
            match publish.status {
                Some(503) => outage.refused += 1,
                _ => outage.unknown += 1,
            }
        }
        // One that goes on is the longest.
        open.or_else(|| all.into_iter().max_by_key(|outage| outage.since(outage.from)))
    }
}
